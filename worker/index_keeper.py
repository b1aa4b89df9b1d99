"""Keeps index and store in step: adds missing pictures to the index, and removes those that were deleted.

A picture that is done may be in the index's memory and not yet on its disk, and a power cut or an older copy of its
folder loses it. So it stays in the backlog until the index has written it, and the index is compared with the store
when a worker starts, and every hour.
"""

import logging
import threading
import time
from collections.abc import Sequence

from jobs.store.backlog import INDEXED_AT_ONCE, Unindexed
from jobs.store.job_store import JobStore
from memo import BadKey, Forgotten, Memory, Picture, Unavailable

log = logging.getLogger(__name__)

COMPARE_SECONDS = 3600.0  # between two comparisons
RETRY_SECONDS = 60.0  # after a comparison that failed
FLUSH_SECONDS = 60.0  # between flushes for new pictures; the embedded index cannot answer requests during a flush
SETTLED_SECONDS = 60.0  # by then a server that takes no flush request has flushed; Qdrant does every 5 s


class IndexKeeper:
    """Indexes the backlog and compares the index with the store; `name` is this worker's."""

    def __init__(self, job_store: JobStore, memory: Memory, name: str, stopping: threading.Event) -> None:
        self.backlog, self.memory, self.name, self.stopping = job_store.backlog, memory, name, stopping
        self.compare_at = 0.0  # time.monotonic() of the next comparison
        self.flush_at = 0.0  # earliest time.monotonic() of the next flush for new pictures

    def run_round(self) -> None:
        """Do what is due, unless another worker does it now. Raises Unavailable."""
        if not self.backlog.take_turn(self.name):
            return
        try:
            if time.monotonic() >= self.compare_at:
                self.compare()
            while self.index_backlog() and not self.stopping.is_set():
                self.backlog.take_turn(self.name)
        finally:
            self.backlog.end_turn()

    def compare(self) -> None:
        """Queue pictures that are missing from the index, and remove points whose pictures are not in the store."""
        self.compare_at = time.monotonic() + RETRY_SECONDS
        comparison = self.memory.compare_index()
        if comparison.missing:
            log.warning("%s; the others are being indexed", comparison)
        else:
            log.info("%s", comparison)
        self.backlog.add_missing(comparison.missing, comparison.stored)
        self.memory.remove_surplus(comparison)
        self.compare_at = time.monotonic() + COMPARE_SECONDS

    def index_backlog(self) -> bool:
        """Index the oldest pictures of the backlog that the index lacks, and remove those that are on its disk.

        Returns whether there may be more to do now.
        """
        if not (entries := self.backlog.unindexed()):
            return False
        known = self.memory.index.known({entry.key for entry in entries})
        lost, unreadable = list[Unindexed](), list[Unindexed]()
        for entry in (entry for entry in entries if entry.key not in known):
            try:
                picture = self.memory.picture(entry.key)
            except (Forgotten, BadKey) as error:
                log.warning("backlog: %s cannot be indexed any more: %s", entry.key, error)
                lost.append(entry)
            except Unavailable as error:
                log.warning("backlog: %s cannot be read now and comes last: %s", entry.key, error)
                unreadable.append(entry)
            else:
                self.index(picture)
        durable = self.find_durable([entry for entry in entries if entry not in unreadable])
        self.backlog.remove_unindexed([*durable, *(entry for entry in lost if entry not in durable)])
        self.backlog.postpone(unreadable)
        return bool(durable)

    def index(self, picture: Picture) -> None:
        """Index a picture, and remove it again if it was deleted meanwhile."""
        self.memory.index_picture(picture)
        if not self.memory.has(picture.key):
            self.memory.index.remove(picture.key)

    def find_durable(self, entries: Sequence[Unindexed]) -> list[Unindexed]:
        """Those of the entries, all indexed by now, that are on the index's disk."""
        if not self.is_flush_due(entries):
            return []
        if self.memory.index.flush():
            self.flush_at = time.monotonic() + FLUSH_SECONDS
            return list(entries)
        ages = self.backlog.seconds_old(entries)
        return [entry for entry, age in zip(entries, ages, strict=True) if age > SETTLED_SECONDS]

    def is_flush_due(self, entries: Sequence[Unindexed]) -> bool:
        """Whether to flush now. Full batches and missing pictures never wait; a few new ones do."""
        is_urgent = len(entries) >= INDEXED_AT_ONCE or any(entry.is_missing for entry in entries)
        return bool(entries) and (is_urgent or time.monotonic() >= self.flush_at)
