"""Graphs over collections that grew, so that a query need not compare every point. Knows no requests.

A graph is built in a copy of the collection by a process of low priority (`build_graph.py`), while the collection is asked
and changed as ever. The copy catches up and takes the collection's place; whatever goes wrong, the collection goes on
without the graph.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock, Thread

from .collection import Collection
from .die_with_parent import tied
from .errors import Broken, EdgeError

GRAPH_POINTS = 20_000  # that want a graph: to compare so many costs half a millisecond
GROWTH = 10  # of a large collection, a part of this size
AGAIN_SECONDS = 600.0  # after a failure

BUILDER = f"{__package__}.build_graph"

log = logging.getLogger(__name__)


class Graphs:
    """Builds one graph at a time, in a thread of its own."""

    def __init__(self, collections: Callable[[], Sequence[Collection]], points: int, seconds: float) -> None:
        """Every few `seconds`, look for a collection in which so many `points` want a graph."""
        self._collections, self._points, self._seconds = collections, points, seconds
        self._stop, self._starting = Event(), Lock()
        self._builder: subprocess.Popen[str] | None = None
        self._failed: dict[Path, float] = {}  # when, by the clock that never goes back
        self._thread = Thread(target=self._keep_building, name="graphs", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being built, and wait for the end."""
        with self._starting:
            self._stop.set()
            if self._builder:
                self._builder.kill()
        self._thread.join()

    def _keep_building(self) -> None:
        while not self._stop.wait(self._seconds):
            for collection in self._collections():
                try:
                    if self._due(collection):
                        self._build(collection)
                except (EdgeError, OSError) as error:
                    self._give_up(collection, error)

    def _due(self, collection: Collection) -> bool:
        if time.monotonic() < self._failed.get(collection.path, -AGAIN_SECONDS) + AGAIN_SECONDS:
            return False
        unlinked, points = collection.unlinked()
        return unlinked >= max(self._points, points // GROWTH)

    def _build(self, collection: Collection) -> None:
        begun = time.monotonic()
        copy = collection.begin_copy()
        try:
            self._run(copy)
            collection.take_over(copy)
        finally:
            collection.drop_copy(copy)
        log.info("collection %s has a new graph, built in %.0f s", collection.name, time.monotonic() - begun)

    def _run(self, copy: Path) -> None:
        """Raises Broken with what the builder said last."""
        command = tied([sys.executable, "-m", BUILDER, str(copy)])
        with self._starting:
            if self._stop.is_set():
                raise Broken("the server stops")
            builder = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            self._builder = builder
        _, said = builder.communicate()
        if builder.returncode:
            last = said.strip().rpartition("\n")[2] or f"status {builder.returncode}"
            raise Broken(f"the graph cannot be built: {last}")

    def _give_up(self, collection: Collection, error: Exception) -> None:
        """For a while; a collection that was closed meanwhile is no failure."""
        self._failed[collection.path] = time.monotonic()
        if not (self._stop.is_set() or collection.closed):
            log.error("collection %s goes on without a new graph: %s", collection.name, error)
