"""Wakes the watchers of a painting when it changes: one Redis subscription per process, fanned out in memory.

A hundred watchers would exhaust a pool of connections; this needs one. Watchers are only woken, and read the job
themselves.
"""

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator

import redis

from jobs.store.connection import Connection

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
POLL_SECONDS = 1.0  # after which the thread checks whether it should stop


class Events:
    """The watchers of one process, and the thread that wakes them, which starts with the first watcher."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.watchers: dict[str, set[threading.Event]] = defaultdict(set)
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watch(self, painting: str) -> Iterator[threading.Event]:
        """An event that is set whenever the painting changes; clear it before reading the painting."""
        changed = threading.Event()
        with self.lock:
            self.watchers[painting].add(changed)
            if self.thread is None:
                self.thread = threading.Thread(target=self.listen, name="job-events", daemon=True)
                self.thread.start()
        try:
            yield changed
        finally:
            with self.lock:
                self.watchers[painting].discard(changed)
                if not self.watchers[painting]:
                    del self.watchers[painting]

    def stop(self) -> None:
        """Stop the thread, and wake all watchers so that they see `stopping`."""
        self.stopping.set()
        self.notify_all()
        if self.thread:
            self.thread.join()

    def listen(self) -> None:
        """Pass on every message. After a lost connection all watchers are woken, since messages were missed."""
        while not self.stopping.is_set():
            try:
                with self.connection.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    channel.psubscribe(self.connection.prefix + "painting:*")
                    self.notify_all()
                    while not self.stopping.is_set():
                        if message := channel.get_message(timeout=POLL_SECONDS):
                            self.notify(message["channel"].rpartition(":")[2])
            except redis.RedisError as error:
                log.warning("job events interrupted: %s", error)
                self.stopping.wait(RETRY_SECONDS)

    def notify(self, painting: str) -> None:
        """Wake the watchers of one painting."""
        with self.lock:
            for changed in self.watchers.get(painting, ()):
                changed.set()

    def notify_all(self) -> None:
        """Wake all watchers."""
        with self.lock:
            for watchers in self.watchers.values():
                for changed in watchers:
                    changed.set()
