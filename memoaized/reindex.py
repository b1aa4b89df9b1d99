"""`memoaized reindex`: everything that memory holds, embedded by the present text model.

Pictures are read from the store, whose PNGs carry their recipes, so that a lost index is filled again, too; labels
are in the index alone and are moved from there. Every point is written whatever was there before: a run that was
interrupted is simply started again, and until one has ended the index refuses to be used with its vectors.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from werkzeug.serving import make_server

from index_server import CannotStart
from index_server.app import collections_of, create_app
from memo import BadKey, BadSetup, Forgotten, MemoConfig, Picture, read_png
from memo.embed import Embedder, open_embedder
from memo.index import Held, Index, Labels, Pending, beside, open_index
from memo.init_image import INIT_IMAGES
from memo.judge.feedback import Label
from memo.memory import object_name
from memo.store import Store, open_store
from memo.thumbnail import THUMBNAILS

from .up import HOST, claimed, prepare_text_model

T = TypeVar("T")
Say = Callable[[str], None]
BATCH = 64  # prompts embedded and points written at once
TELL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did, and what it could not do."""

    pictures: int
    labels: int
    removed: int  # points whose pictures the store does not hold
    unreadable: list[str]  # names of PNG files
    unneeded: list[Held]  # collections of other embedders


def reindex(data: Path | None, environment: Mapping[str, str], *, drop: bool, say: Say) -> int:
    """Re-embed what a data folder, or else the environment, names; the exit status. Raises MemoError."""
    config = MemoConfig.from_env(environment)
    if data is None and "MEMO_INDEX" in environment:
        return run(config, drop=drop, say=say)
    with served(data or Path("var"), config) as here:
        return run(here, drop=drop, say=say)


def run(config: MemoConfig, *, drop: bool, say: Say) -> int:
    """Re-embed, and tell what came of it; the exit status."""
    embedder = open_embedder(config.embedder, Path(config.text_folder))
    index = open_index(config.index, f"pictures-{embedder.name}", embedder.dimension, api_key=config.index_key)
    store = open_store(config.store, access_key=config.s3_access_key, secret_key=config.s3_secret_key)
    store.check()
    report = re_embed(embedder, index, store, say)
    clear(index, report, drop=drop, say=say)
    say(
        f"embedded by {embedder.name!r} (vectors of {embedder.dimension}): {report.pictures} pictures and"
        f" {report.labels} labels; {len(report.unreadable)} unreadable, {report.removed} points of no picture removed"
    )
    return 1 if report.unreadable else 0


def re_embed(embedder: Embedder, index: Index, store: Store, say: Say) -> Report:
    """Fill the index from the store and from its own labels, then put the embedder into use."""
    index.begin()
    labels = move_labels(embedder, index)
    index.renew()
    beside(index, Pending, "pending").renew()
    names = listed(store, say)
    pictures, unreadable = move_pictures(embedder, index, store, names, labels, say)
    removed = remove_strays(index, store, names)
    return Report(pictures, len(labels), removed, unreadable, index.adopt())


def move_labels(embedder: Embedder, index: Index) -> list[Label]:
    """Copy every embedder's labels; of those that say the same thing, the newest counts."""
    labels = beside(index, Labels, "labels")
    sources = [Labels(index.client, held.collection, held.dimension) for held in index.others("labels")]
    outgrown = labels.collection in {source.collection for source in sources}
    if not outgrown:
        labels.renew()
        sources.append(labels)
    found = sorted((label for source in sources for label in source.all()), key=lambda label: label.created)
    newest = {label.id: label for label in found}
    if outgrown:  # it has to be dropped, and labels are nowhere else
        write_labels(
            embedder, Labels(index.client, f"{labels.collection}.{index.dimension}", index.dimension), newest
        )
        labels.renew()
    write_labels(embedder, labels, newest)
    return list(newest.values())


def write_labels(embedder: Embedder, labels: Labels, named: Mapping[str, Label]) -> None:
    """Insert or replace labels."""
    for batch in batches(list(named.items())):
        vectors = embedder([label.wanted for _, label in batch])
        labels.put(*((name, vector, asdict(label)) for (name, label), vector in zip(batch, vectors, strict=True)))


def listed(store: Store, say: Say) -> list[str]:
    """The names of all pictures, sorted; others are told, but for thumbnails and pictures to start from."""
    names = sorted(name for name in store.names() if not name.startswith((INIT_IMAGES, THUMBNAILS)))
    pngs = [name for name in names if name.endswith(".png")]
    if others := sorted(set(names) - set(pngs)):
        say(f"left alone, since they are no PNG files: {len(others)}, the first {others[0]!r}")
    return pngs


def move_pictures(
    embedder: Embedder, index: Index, store: Store, names: Sequence[str], labels: Sequence[Label], say: Say
) -> tuple[int, list[str]]:
    """Index every picture of the store: how many there were, and the names of unreadable files."""
    count, unreadable, told = 0, list[str](), time.monotonic()
    called_wrong = complaints(labels)
    for batch in batches(names):
        if pictures := list(readable(store, batch, unreadable, say)):
            wrong = {picture.key: called_wrong.get((picture.key, picture.scope), []) for picture in pictures}
            index.add_all(pictures, embedder([picture.recipe.prompt for picture in pictures]), wrong)
            count += len(pictures)
        if time.monotonic() > told + TELL_SECONDS:
            say(f"{count} of {len(names)} pictures")
            told = time.monotonic()
    return count, unreadable


def complaints(labels: Iterable[Label]) -> dict[tuple[str, str], list[str]]:
    """The prompts that pictures were called wrong for, by key and scope."""
    found: dict[tuple[str, str], list[str]] = {}
    for label in labels:
        if not label.right:
            found.setdefault((label.key, label.scope), []).append(label.wanted)
    return found


def readable(store: Store, names: Iterable[str], unreadable: list[str], say: Say) -> Iterator[Picture]:
    """The pictures under these names; one that cannot be read is told and added to the unreadable."""
    for name in names:
        try:
            yield read(store, name)
        except Forgotten:
            continue  # deleted since the names were listed
        except BadKey as error:
            unreadable.append(name)
            say(f"unreadable: {name}: {error}")


def read(store: Store, name: str) -> Picture:
    """The picture under this name; raises BadKey for what carries no recipe, or another's, and Forgotten."""
    try:
        picture = read_png(store.get(name))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadKey(f"its record is damaged: {error}") from error
    if object_name(picture.key) != name:
        raise BadKey(f"it carries the recipe of another picture, {picture.key}")
    return picture


def remove_strays(index: Index, store: Store, names: Sequence[str]) -> int:
    """Forget points whose pictures the store does not hold: deleted under another embedder, or lost. Their number."""
    known = set(names)
    suspects = [key for key in index.keys() if object_name(key) not in known]
    strays = [key for key in suspects if not store.exists(object_name(key))]
    for key in strays:
        index.remove(key)
    return len(strays)


def clear(index: Index, report: Report, *, drop: bool, say: Say) -> None:
    """Drop what other embedders left if that was asked for and every picture could be read; say what it is."""
    if not report.unneeded:
        return
    left = "; ".join(map(str, report.unneeded))
    if not drop:
        say(f"not needed any more, and dropped by --drop: {left}")
    elif report.unreadable:
        say(f"not dropped, since some files are unreadable: {left}")
    else:
        index.drop(report.unneeded)
        say(f"dropped: {left}")


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Runs of at most BATCH items."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


@contextmanager
def served(data: Path, config: MemoConfig) -> Iterator[MemoConfig]:
    """Where memory lives in a data folder of `memoaized up`, whose index is served meanwhile.

    Raises BadSetup when that is running, or the folder holds nothing.
    """
    data = data.resolve()
    if not (data / "pictures").is_dir():
        raise BadSetup(f"{data} holds no pictures: give --data, or set MEMO_INDEX and MEMO_STORE")
    (data / "run").mkdir(exist_ok=True)
    with claimed(data):
        prepare_text_model(data / "text")
        with index_server(data / "index") as (url, key):
            store = f"file:{data / 'pictures'}"
            yield replace(config, index=url, index_key=key, store=store, text_folder=str(data / "text"))


@contextmanager
def index_server(folder: Path) -> Iterator[tuple[str, str]]:
    """The embedded index in threads of this process: its URL and key."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log every request
    key = secrets.token_hex(24)
    try:
        app = create_app(folder, key)
    except CannotStart as error:
        raise BadSetup(str(error)) from error
    server = make_server(HOST, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="index", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}", key
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        collections_of(app).close()
