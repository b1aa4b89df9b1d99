"""What every worker does beside painting: renew its leases, bring back the dead's work, index what had to wait.

And pictures that were sent to start from, and never were, are removed.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from memo import BadKey, Forgotten, MemoError, Unavailable

from .paint import Studio

log = logging.getLogger(__name__)

PERIOD = 4.0  # seconds; a lease lasts several of them
UNHEARD_SECONDS = 10.0  # that something waits and we are free: whoever should have rung died, or Redis lost it


class Tender:
    """A background thread; `ring` calls a worker for a model, `serving` tells which models this worker serves."""

    def __init__(
        self,
        studio: Studio,
        ring: Callable[[str], None],
        serving: Callable[[], Sequence[str]],
        *,
        slots: int,
        name: str,
        facts: Mapping[str, object],
    ) -> None:
        self.studio, self.ring, self.serving, self.slots = studio, ring, serving, slots
        self.name, self.facts = name, facts
        self.unheard: dict[str, float] = {}  # models by when something was first seen to wait although we were free
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="tender", daemon=True)

    def start(self) -> None:
        """Begin; the first round is at once."""
        self.thread.start()

    def stop(self) -> None:
        """End after the current round, call others for what we leave, and strike this worker off."""
        self.stopping.set()
        self.thread.join(timeout=PERIOD * 2)
        try:
            for model in self.studio.unheeded:
                self.ring(model)
            self.studio.board.leave(self.name)
        except Unavailable as error:
            log.warning("stopped without a farewell: %s", error)

    def run(self) -> None:
        """Rounds until stopped; an outage of a part is waited for."""
        while True:
            try:
                self.round()
            except MemoError as error:
                log.warning("%s", error)
            if self.stopping.wait(PERIOD):
                return

    def round(self) -> None:
        """One round of everything."""
        board = self.studio.board
        for claim in list(self.studio.claims.values()):
            board.renew(claim)
        for model in board.reclaim():
            self.ring(model)
        models = self.serving()
        self.studio.models = models
        board.beat(self.name, {**self.facts, **self.studio.state(), "models": models, "slots": self.slots})
        for model in models:
            self.listen(model)
        self.index_backlog()
        self.forget_uploads()

    def listen(self, model: str) -> None:
        """Ring for what waits for long although we are free."""
        free = len(self.studio.claims) < self.slots
        waiting = self.studio.board.waiting(model) if free else 0
        moment = time.monotonic()
        if not waiting:
            self.unheard.pop(model, None)
        elif moment - self.unheard.setdefault(model, moment) >= UNHEARD_SECONDS:
            log.warning("%d paintings wait for %s and nobody rang", waiting, model)
            del self.unheard[model]
            for _ in range(min(waiting, self.slots)):
                self.ring(model)

    def index_backlog(self) -> None:
        """Index pictures that were kept while the index was down; those deleted since are struck off."""
        for entry, key in self.studio.board.postponed():
            try:
                self.studio.memory.index_picture(self.studio.memory.picture(key))
            except (Forgotten, BadKey) as error:
                log.warning("backlog: %s cannot be indexed any more: %s", key, error)
            self.studio.board.settled(entry)

    def forget_uploads(self) -> None:
        """Remove old pictures to start from that nothing began from; the others go with the last that did."""
        board = self.studio.board
        for start, scope in board.old_starts():
            self.studio.memory.let_go(start, scope)
            board.looked_after(start, scope)
