"""`memoaized reindex`: embeds all pictures and labels in memory with the current text model.

Pictures are read from the store, whose PNGs carry their recipes, so this rebuilds a lost index too. Labels exist only
in the index and are copied from there. Every point is overwritten, so an interrupted run is simply started again;
until a run has finished, the index refuses to be used with the new vectors.
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
from memo.image_files.thumbnail import THUMBNAILS
from memo.index import ForeignCollection, Index, Labels, PendingPaintings, open_index, open_sibling
from memo.init_image import INIT_IMAGES
from memo.judge.feedback import Label
from memo.memory import object_name
from memo.store import Store, is_whole, open_store

from .up import LOOPBACK, DataFolderLock, prepare_text_model

T = TypeVar("T")
PrintLine = Callable[[str], None]
BATCH = 64  # prompts embedded and points written together
PROGRESS_SECONDS = 5.0  # between two lines of progress


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """The numbers of pictures and labels embedded, and what could not be embedded."""

    pictures: int
    labels: int
    removed: int  # points whose pictures are not in the store
    unreadable: list[str]  # names of PNG files
    unneeded: list[ForeignCollection]  # collections of other embedders


def reindex(data: Path | None, environment: Mapping[str, str], *, drop: bool, print_line: PrintLine) -> int:
    """Re-embed a data folder, or the memory that the environment names; return the exit status. Raises MemoError."""
    config = MemoConfig.from_env(environment)
    if data is None and "MEMO_INDEX" in environment:
        return run(config, drop=drop, print_line=print_line)
    with serve_data_folder(data or Path("var"), config) as local_config:
        return run(local_config, drop=drop, print_line=print_line)


def run(config: MemoConfig, *, drop: bool, print_line: PrintLine) -> int:
    """Re-embed, print a summary and return the exit status."""
    embedder = open_embedder(config.embedder, Path(config.text_folder))
    index = open_index(config.index, f"pictures-{embedder.name}", embedder.dimension, api_key=config.index_key)
    store = open_store(config.store, access_key=config.s3_access_key, secret_key=config.s3_secret_key)
    store.check()
    report = re_embed(embedder, index, store, print_line)
    drop_unneeded(index, report, drop=drop, print_line=print_line)
    print_line(
        f"embedded with {embedder.name!r} (dimension {embedder.dimension}): {report.pictures} pictures and"
        f" {report.labels} labels; {len(report.unreadable)} files unreadable,"
        f" {report.removed} points without a picture removed"
    )
    return 1 if report.unreadable else 0


def re_embed(embedder: Embedder, index: Index, store: Store, print_line: PrintLine) -> ReindexReport:
    """Fill the index from the store and from its own labels, then make the embedder the one in use."""
    index.begin_reindex()
    labels = move_labels(embedder, index)
    index.recreate()
    open_sibling(index, PendingPaintings, "pending").recreate()
    names = list_pictures(store, print_line)
    pictures, unreadable = index_pictures(embedder, index, store, names, labels, print_line)
    removed = remove_points_without_picture(index, store, names)
    return ReindexReport(pictures, len(labels), removed, unreadable, index.finish_reindex())


def move_labels(embedder: Embedder, index: Index) -> list[Label]:
    """Copy every embedder's labels; of labels with the same id only the newest."""
    labels = open_sibling(index, Labels, "labels")
    foreign = index.foreign_collections("labels")
    sources = [Labels(index.client, collection.name, collection.dimension) for collection in foreign]
    other_dimension = labels.collection in {source.collection for source in sources}
    if not other_dimension:
        labels.recreate()
        sources.append(labels)
    by_age = sorted((label for source in sources for label in source.all()), key=lambda label: label.created)
    newest = {label.id: label for label in by_age}
    if other_dimension:  # this collection has to be dropped, and its labels exist nowhere else
        write_labels(
            embedder, Labels(index.client, f"{labels.collection}.{index.dimension}", index.dimension), newest
        )
        labels.recreate()
    write_labels(embedder, labels, newest)
    return list(newest.values())


def write_labels(embedder: Embedder, labels: Labels, by_id: Mapping[str, Label]) -> None:
    """Insert or replace labels, given by id."""
    for batch in batches(list(by_id.items())):
        vectors = embedder([label.wanted for _, label in batch])
        labels.upsert(*((id, vector, asdict(label)) for (id, label), vector in zip(batch, vectors, strict=True)))


def list_pictures(store: Store, print_line: PrintLine) -> list[str]:
    """Return the names of all pictures, sorted; report other objects, except thumbnails and initial pictures."""
    names = sorted(name for name in store.names() if not name.startswith((INIT_IMAGES, THUMBNAILS)))
    pngs = [name for name in names if name.endswith(".png")]
    if others := sorted(set(names) - set(pngs)):
        print_line(f"skipped {len(others)} objects that are not PNG files, the first {others[0]!r}")
    return pngs


def index_pictures(
    embedder: Embedder,
    index: Index,
    store: Store,
    names: Sequence[str],
    labels: Sequence[Label],
    print_line: PrintLine,
) -> tuple[int, list[str]]:
    """Index every picture in the store; return their number and the names of unreadable files."""
    count, unreadable, printed_at = 0, list[str](), time.monotonic()
    rejected = rejected_prompts(labels)
    for batch in batches(names):
        if pictures := list(read_pictures(store, batch, unreadable, print_line)):
            wrong = {picture.key: rejected.get((picture.key, picture.scope), []) for picture in pictures}
            index.add_all(pictures, embedder([picture.recipe.prompt for picture in pictures]), wrong)
            count += len(pictures)
        if time.monotonic() > printed_at + PROGRESS_SECONDS:
            print_line(f"{count} of {len(names)} pictures")
            printed_at = time.monotonic()
    return count, unreadable


def rejected_prompts(labels: Iterable[Label]) -> dict[tuple[str, str], list[str]]:
    """Return the prompts for which a picture was labelled wrong, by the picture's key and scope."""
    prompts: dict[tuple[str, str], list[str]] = {}
    for label in labels:
        if not label.right:
            prompts.setdefault((label.key, label.scope), []).append(label.wanted)
    return prompts


def read_pictures(
    store: Store, names: Iterable[str], unreadable: list[str], print_line: PrintLine
) -> Iterator[Picture]:
    """Yield the pictures of these names; print each unreadable file and add its name to `unreadable`."""
    for name in names:
        try:
            yield read_picture(store, name)
        except Forgotten:
            continue  # deleted since the names were listed
        except BadKey as error:
            unreadable.append(name)
            print_line(f"unreadable: {name}: {error}")


def read_picture(store: Store, name: str) -> Picture:
    """Return the picture in the object of this name.

    Raises BadKey if it carries no recipe or another picture's, and Forgotten if it is not in the store.
    """
    try:
        data = store.get(name)
        picture = read_png(data)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadKey(f"its recipe is damaged: {error}") from error
    if not is_whole(name, data):
        raise BadKey("it is cut short or damaged")
    if object_name(picture.key) != name:
        raise BadKey(f"it carries the recipe of another picture, {picture.key}")
    return picture


def remove_points_without_picture(index: Index, store: Store, names: Sequence[str]) -> int:
    """Remove points whose pictures were deleted or lost; return how many."""
    known = set(names)
    unknown = [key for key in index.keys() if object_name(key) not in known]
    missing = [key for key in unknown if not store.exists(object_name(key))]
    for key in missing:
        index.remove(key)
    return len(missing)


def drop_unneeded(index: Index, report: ReindexReport, *, drop: bool, print_line: PrintLine) -> None:
    """Print the collections of other embedders; with `drop`, delete them unless a picture was unreadable."""
    if not report.unneeded:
        return
    unneeded = "; ".join(map(str, report.unneeded))
    if not drop:
        print_line(f"no longer needed, delete with --drop: {unneeded}")
    elif report.unreadable:
        print_line(f"not dropped, because some files are unreadable: {unneeded}")
    else:
        index.drop(report.unneeded)
        print_line(f"dropped: {unneeded}")


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return the items in batches of at most BATCH."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


@contextmanager
def serve_data_folder(data: Path, config: MemoConfig) -> Iterator[MemoConfig]:
    """Serve the index of a data folder of `memoaized up`, and yield the configuration that uses the folder.

    Raises BadSetup when `memoaized up` is running there, or the folder holds no pictures.
    """
    data = data.resolve()
    if not (data / "pictures").is_dir():
        raise BadSetup(f"{data} holds no pictures: give --data, or set MEMO_INDEX and MEMO_STORE")
    (data / "run").mkdir(exist_ok=True)
    with DataFolderLock(data):
        prepare_text_model(data / "text")
        with serve_index(data / "index") as (url, key):
            store = f"file:{data / 'pictures'}"
            yield replace(config, index=url, index_key=key, store=store, text_folder=str(data / "text"))


@contextmanager
def serve_index(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve the embedded index from threads of this process, and yield its URL and key."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # otherwise it logs every request
    key = secrets.token_hex(24)
    try:
        app = create_app(folder, key)
    except CannotStart as error:
        raise BadSetup(str(error)) from error
    server = make_server(LOOPBACK, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="index", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", key
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        collections_of(app).close()
