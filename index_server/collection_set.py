"""The collections of one folder: created, opened, flushed and closed together, by a single owner."""

import fcntl
import logging
import os
import re
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from reprlib import repr as shorten
from threading import Event, Lock, Thread
from typing import TextIO

from disk.disk_errors import explain
from disk.durable_files import sync

from .collection import Collection, open_collection
from .collection_files import CONFIG_FILE, SHARD, TEMPORARY, new_temporary_folder, set_aside, write_collection
from .errors import AlreadyExists, BadRequest, CannotStart, Damaged, EngineFailure, NotFound
from .graph import GRAPH_POINTS, GraphBuilder
from .request_bodies import FLUSH_SECONDS, Json, read_collection_config

log = logging.getLogger(__name__)

LOCK_SECONDS = 5.0  # a process that was told to end needs a moment to flush
LOST = (
    "%s. It was moved to %s, and is created anew when it is needed. memoAIzed indexes its pictures again; reports on"
    " wrong answers, if it held any, are lost"
)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def open_collections(
    folder: Path,
    *,
    lock_seconds: float = LOCK_SECONDS,
    flush_seconds: float = FLUSH_SECONDS,
    graph_points: int = GRAPH_POINTS,
) -> "Collections":
    """Lock `folder`, delete half-written files of a crash, and open every collection in the folder.

    Waits up to `lock_seconds` for a previous owner to leave, flushes every `flush_seconds`, and builds a graph where
    `graph_points` are unindexed. A damaged collection is set aside. Raises CannotStart when the folder stays locked,
    the disk is full, or files may not be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            lock_file = undo.enter_context(lock_folder(folder, lock_seconds))
            for unfinished in folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            collections = Collections(folder, lock_file, open_all(folder))
            undo.pop_all()
    except OSError as error:
        raise CannotStart(f"cannot open the index: {explain(error, folder)}") from error
    collections.start_maintenance(flush_seconds, graph_points)
    return collections


def open_all(folder: Path) -> dict[str, Collection]:
    """Open every collection in the folder, by name; a damaged one is set aside and logged."""
    opened = {}
    for path in sorted({file.parent for file in (*folder.glob(f"*/{CONFIG_FILE}"), *folder.glob(f"*/{SHARD}*"))}):
        if path.name.startswith("."):  # it was set aside earlier
            continue
        try:
            opened[path.name] = open_collection(path)
        except Damaged as error:
            log.error(LOST, error, set_aside(path))
    return opened


class Collections:
    """The collections of one folder, safe to use from several threads; nothing else may touch the folder."""

    def __init__(self, folder: Path, lock_file: TextIO, by_name: dict[str, "Collection"]) -> None:
        self._folder, self._lock_file, self._by_name = folder, lock_file, by_name
        self._adding_or_removing = Lock()
        self._stop = Event()
        self._flusher: Thread | None = None
        self._graph_builder: GraphBuilder | None = None

    def names(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return sorted(self._by_name)

    def get(self, name: str) -> "Collection":
        """Return the collection of this name; raises NotFound."""
        if collection := self._by_name.get(name):
            return collection
        raise NotFound(f"Not found: Collection `{name}` doesn't exist!")

    def create(self, name: str, body: Json) -> None:
        """Create a collection. After a crash it exists either completely or not at all.

        https://api.qdrant.tech/api-reference/collections/create-collection
        """
        if not NAME.fullmatch(name):
            raise BadRequest(f"collection name {shorten(name)} is not supported: use {NAME.pattern}")
        config = read_collection_config(body)
        with self._adding_or_removing:
            if name in self._by_name:
                raise AlreadyExists(f"Wrong input: Collection `{name}` already exists!")
            try:
                write_collection(self._folder / name, config)
            except OSError as error:
                raise EngineFailure(
                    f"collection `{name}` cannot be created: {explain(error, self._folder)}"
                ) from error
            self._by_name[name] = open_collection(self._folder / name)

    def delete(self, name: str) -> bool:
        """Delete a collection and its files; return whether it existed."""
        with self._adding_or_removing:
            if not (collection := self._by_name.pop(name, None)):
                return False
            collection.close()
            deleted = new_temporary_folder(self._folder)
            (self._folder / name).rename(deleted)
            sync(self._folder)
        shutil.rmtree(deleted)
        return True

    def flush_errors(self) -> dict[str, str]:
        """Return why flushing fails now, by collection; empty when all is well."""
        collections = list(self._by_name.items())
        return {name: collection.flush_error for name, collection in collections if collection.flush_error}

    def start_maintenance(self, seconds: float, graph_points: int) -> None:
        """Start the threads that flush every `seconds` and build graphs, until the collections are closed."""
        self._flusher = Thread(target=self._keep_flushing, args=(seconds,), name="flush", daemon=True)
        self._flusher.start()
        self._graph_builder = GraphBuilder(lambda: list(self._by_name.values()), graph_points, seconds)
        self._graph_builder.start()

    def close(self) -> None:
        """Flush and close all collections, then release the folder."""
        self._stop.set()
        if self._graph_builder:
            self._graph_builder.stop()
        if self._flusher:
            self._flusher.join()
        with self._adding_or_removing:
            for collection in self._by_name.values():
                collection.close()
            self._by_name = {}
            self._lock_file.close()

    def _keep_flushing(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            for collection in list(self._by_name.values()):
                collection.flush()


def lock_folder(folder: Path, seconds: float) -> TextIO:
    """Return the open lock file of `folder`; raises CannotStart when another process holds it after `seconds`.

    The system drops the lock when this process dies.
    """
    file = (folder / ".lock").open("a+")
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                file.seek(0)
                pid = file.read().strip()
                file.close()
                raise CannotStart(f"{folder} is in use by another index server (pid {pid})") from error
            time.sleep(0.1)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
