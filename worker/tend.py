"""What every worker does beside painting: renew its leases, bring back the dead's work, index what had to wait."""

import logging
import threading
from collections.abc import Callable, Mapping

from memo import BadKey, Forgotten, Unavailable

from .paint import Studio

log = logging.getLogger(__name__)

PERIOD = 4.0  # seconds; a lease lasts several of them
UNSENT_SECONDS = 10.0


class Tender:
    """A background thread; `send` puts a painting's message into the queue."""

    def __init__(
        self, studio: Studio, send: Callable[[str], None], *, name: str, facts: Mapping[str, object]
    ) -> None:
        self.studio, self.send, self.name, self.facts = studio, send, name, facts
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="tender", daemon=True)

    def start(self) -> None:
        """Begin; the first round is at once."""
        self.thread.start()

    def stop(self) -> None:
        """End after the current round, send back what was handed back, and strike this worker off."""
        self.stopping.set()
        self.thread.join(timeout=PERIOD * 2)
        try:
            self.requeue(older_than=0.0)
            self.studio.board.leave(self.name)
        except Unavailable as error:
            log.warning("stopped without a farewell: %s", error)

    def run(self) -> None:
        """Rounds until stopped; an outage of a part is waited for."""
        while True:
            try:
                self.round()
            except Unavailable as error:
                log.warning("%s", error)
            if self.stopping.wait(PERIOD):
                return

    def round(self) -> None:
        """One round of everything."""
        board = self.studio.board
        board.beat(self.name, self.facts)
        for claim in list(self.studio.claims.values()):
            board.renew(claim)
        for painting in board.reclaim():
            log.warning("painting %s lost its worker; back into the queue", painting)
            self.send(painting)
        self.requeue(older_than=UNSENT_SECONDS)
        self.index_backlog()

    def requeue(self, *, older_than: float) -> None:
        """Send the messages that nobody sent."""
        for painting in self.studio.board.unsent(older_than):
            self.send(painting)

    def index_backlog(self) -> None:
        """Index pictures that were kept while the index was down; those deleted since are struck off."""
        for entry, key in self.studio.board.postponed():
            try:
                self.studio.memory.index_picture(self.studio.memory.picture(key))
            except (Forgotten, BadKey) as error:
                log.warning("backlog: %s cannot be indexed any more: %s", key, error)
            self.studio.board.settled(entry)
