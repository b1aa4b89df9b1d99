"""Builds HNSW graphs for large collections, so that a query need not compare every point.

A graph is built in a copy of the collection by a low-priority process (`build_graph.py`), while the collection itself
serves reads and writes as usual. The copy then catches up and takes the collection's place. If anything fails, the
collection goes on without the graph.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock, Thread

from disk.disk_errors import explain

from .collection import Collection
from .die_with_parent import tie_to_parent
from .errors import EngineFailure, IndexServerError

GRAPH_POINTS = 20_000  # unindexed points from which a graph is worthwhile: comparing them takes half a millisecond
GROWTH = 10  # a large collection gets a new graph when 1/GROWTH of its points are unindexed
RETRY_SECONDS = 600.0  # before the next try after a failure

BUILDER = "index_server.build_graph"

log = logging.getLogger(__name__)


class GraphBuilder:
    """Builds one graph at a time, in a thread of its own."""

    def __init__(self, collections: Callable[[], Sequence[Collection]], points: int, seconds: float) -> None:
        """Look every `seconds` for a collection with at least `points` unindexed points."""
        self._collections, self._points, self._seconds = collections, points, seconds
        self._stop, self._starting = Event(), Lock()
        self._process: subprocess.Popen[str] | None = None
        self._failed_at: dict[Path, float] = {}  # time.monotonic() of each collection's last failure
        self._thread = Thread(target=self._keep_building, name="graphs", daemon=True)

    def start(self) -> None:
        """Start looking for collections that need a graph."""
        self._thread.start()

    def stop(self) -> None:
        """Abandon the graph being built, and wait until the thread has ended."""
        with self._starting:
            self._stop.set()
            if self._process:
                self._process.kill()
        self._thread.join()

    def _keep_building(self) -> None:
        while not self._stop.wait(self._seconds):
            for collection in self._collections():
                try:
                    if self._needs_graph(collection):
                        self._build(collection)
                except (IndexServerError, OSError) as error:
                    self._postpone(collection, error)

    def _needs_graph(self, collection: Collection) -> bool:
        if time.monotonic() < self._failed_at.get(collection.path, -RETRY_SECONDS) + RETRY_SECONDS:
            return False
        unindexed, points = collection.count_unindexed()
        return unindexed >= max(self._points, points // GROWTH)

    def _build(self, collection: Collection) -> None:
        started = time.monotonic()
        copy = collection.start_copy()
        try:
            self._run_builder(copy)
            collection.switch_to_copy(copy)
        finally:
            collection.discard_copy(copy)
        log.info("collection %s has a new graph, built in %.0f s", collection.name, time.monotonic() - started)

    def _run_builder(self, copy: Path) -> None:
        """Build the graph of a copy; raises EngineFailure with the last line that the builder printed."""
        command = tie_to_parent([sys.executable, "-m", BUILDER, str(copy)])
        with self._starting:
            if self._stop.is_set():
                raise EngineFailure("the server is stopping")
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            self._process = process
        _, errors = process.communicate()
        if process.returncode:
            last_line = errors.strip().rpartition("\n")[2] or f"status {process.returncode}"
            raise EngineFailure(f"the graph cannot be built: {last_line}")

    def _postpone(self, collection: Collection, error: Exception) -> None:
        """Try this collection again only after RETRY_SECONDS; log the error unless the collection was closed."""
        self._failed_at[collection.path] = time.monotonic()
        if not (self._stop.is_set() or collection.closed):
            reason = explain(error, collection.path)
            log.error("collection %s goes on without a new graph: %s", collection.name, reason)
