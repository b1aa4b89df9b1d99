"""Every collection of one folder: made, opened, flushed and closed together, by one owner."""

import fcntl
import os
import re
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from reprlib import repr as shorten
from threading import Event, Lock, Thread
from typing import TextIO

from .bodies import FLUSH_SECONDS, Json, read_config
from .collection import HALF, META, Collection, half_made, open_collection, sync, write_collection
from .errors import CannotStart, Exists, Missing, Refused
from .graph import GRAPH_POINTS, Graphs

PATIENCE_SECONDS = 5.0  # an orphaned gunicorn worker notices within 1 s that its master is gone
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def open_collections(
    folder: Path,
    *,
    patience: float = PATIENCE_SECONDS,
    flush_every: float = FLUSH_SECONDS,
    graph_points: int = GRAPH_POINTS,
) -> "Collections":
    """Own `folder`, sweep what a crash left half-made and open every collection in it.

    Waits up to `patience` seconds for a previous owner to leave. Raises CannotStart when the folder stays taken
    or a collection cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        owner = undo.enter_context(own(folder, patience))
        for half in folder.glob(f"{HALF}*"):
            shutil.rmtree(half, ignore_errors=True)
        names = sorted(path.parent.name for path in folder.glob(f"*/{META}"))
        collections = Collections(folder, owner, {name: open_collection(folder / name) for name in names})
        undo.pop_all()
    collections.tend_always(flush_every, graph_points)
    return collections


class Collections:
    """Every collection of one folder, safe to use from several threads; nothing else may touch the folder."""

    def __init__(self, folder: Path, owner: TextIO, by_name: dict[str, "Collection"]) -> None:
        self._folder, self._owner, self._by_name = folder, owner, by_name
        self._changing = Lock()  # held while collections come and go
        self._stop = Event()
        self._flusher: Thread | None = None
        self._graphs: Graphs | None = None

    def names(self) -> list[str]:
        """The names of all collections, sorted."""
        return sorted(self._by_name)

    def get(self, name: str) -> "Collection":
        """The collection of this name; raises Missing."""
        if collection := self._by_name.get(name):
            return collection
        raise Missing(f"Not found: Collection `{name}` doesn't exist!")

    def create(self, name: str, body: Json) -> None:
        """Make a collection. It is there completely or, after a crash, not at all.

        https://api.qdrant.tech/api-reference/collections/create-collection
        """
        if not NAME.fullmatch(name):
            raise Refused(f"collection name {shorten(name)} is not supported: use {NAME.pattern}")
        config = read_config(body)
        with self._changing:
            if name in self._by_name:
                raise Exists(f"Wrong input: Collection `{name}` already exists!")
            write_collection(self._folder / name, config)
            self._by_name[name] = open_collection(self._folder / name)

    def delete(self, name: str) -> bool:
        """Forget a collection and its files; whether there was one."""
        with self._changing:
            if not (collection := self._by_name.pop(name, None)):
                return False
            collection.close()
            gone = half_made(self._folder)
            (self._folder / name).rename(gone)
            sync(self._folder)
        shutil.rmtree(gone)
        return True

    def troubles(self) -> dict[str, str]:
        """Why flushing fails now, by collection; empty when all is well."""
        return {name: c.trouble for name, c in list(self._by_name.items()) if c.trouble}

    def tend_always(self, seconds: float, graph_points: int) -> None:
        """Flush every few seconds, and build graphs where so many points want one, in threads until closed."""
        self._flusher = Thread(target=self._keep_flushing, args=(seconds,), name="flush", daemon=True)
        self._flusher.start()
        self._graphs = Graphs(lambda: list(self._by_name.values()), graph_points, seconds)
        self._graphs.start()

    def close(self) -> None:
        """Flush and close everything and let go of the folder."""
        self._stop.set()
        if self._graphs:
            self._graphs.stop()
        if self._flusher:
            self._flusher.join()
        with self._changing:
            for collection in self._by_name.values():
                collection.close()
            self._by_name = {}
            self._owner.close()

    def _keep_flushing(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            for collection in list(self._by_name.values()):
                collection.flush()


# Folders and files


def own(folder: Path, patience: float) -> TextIO:
    """The open lock file; the system drops the lock when its owner dies. Raises CannotStart when it stays taken."""
    file = (folder / ".lock").open("a+")
    deadline = time.monotonic() + patience
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
