"""What every worker does beside painting: renew its leases, bring back the dead's work, index what had to wait.

And pictures that were sent to start from, and never were, are removed. Leases have a thread of their own, for what
is looked after beside them may take long: a large model that is new is read whole, a store may be slow.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from jobs.store.claims import LEASE_SECONDS
from memo import BadKey, Forgotten, MemoError, Unavailable

from .paint import PaintingRunner

log = logging.getLogger(__name__)

PERIOD = 4.0  # seconds; a lease lasts several of them
SILENT_SECONDS = 3600.0  # without a step or a word: it hangs, and another worker should try
SWEEP_SECONDS = 300.0  # between two looks at paintings that ended unseen: cancelled while they waited, say
UNNOTICED_SECONDS = 10.0  # that something waits and we are free: whoever should have rung died, or Redis lost it


class LeaseKeeper:
    """Background threads; `notify` calls a worker for a model, `serving` tells which models this worker serves."""

    def __init__(
        self,
        runner: PaintingRunner,
        notify: Callable[[str], None],
        serving: Callable[[], Sequence[str]],
        *,
        slots: int,
        name: str,
        facts: Mapping[str, object],
    ) -> None:
        self.runner, self.notify, self.serving, self.slots = runner, notify, serving, slots
        self.name, self.facts = name, facts
        self.waiting_since: dict[
            str, float
        ] = {}  # models by when something was first seen to wait although we were free
        self.models: Sequence[str] | None = None  # that are served, as was seen last
        self.patient_until = 0.0  # others' leases may have run out while nobody could renew them
        self.hanging: set[str] = set()
        self.swept = -SWEEP_SECONDS
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(task,), name=task.__name__, daemon=True)
            for task in (self.keep_leases, self.look_after)
        ]

    def start(self) -> None:
        """Begin; the first rounds are at once."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """End after the current rounds, call others for what we leave, and strike this worker off."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=PERIOD * 2)
        try:
            for model in self.runner.unserved:
                self.notify(model)
            self.runner.job_store.heartbeats.remove(self.name)
        except Unavailable as error:
            log.warning("stopped without a farewell: %s", error)

    def run(self, task: Callable[[], None]) -> None:
        """Rounds until stopped; an outage of a part is waited for."""
        while True:
            try:
                task()
            except MemoError as error:
                log.warning("%s", error)
            except Exception:  # whatever it is, leases must be renewed in the next round
                log.exception("a round went wrong")
            if self.stopping.wait(PERIOD):
                return

    def keep_leases(self) -> None:
        """One round of renewing ours, bringing back the dead's work, and saying that we live."""
        job_store = self.runner.job_store
        if self.models is None:
            self.models = self.serving()
        try:
            self.renew()
            if time.monotonic() >= self.patient_until:
                for model in job_store.claims.requeue_expired():
                    self.notify(model)
            job_store.heartbeats.beat(
                self.name, {**self.facts, **self.runner.state(), "models": self.models, "slots": self.slots}
            )
        except Unavailable:
            self.patient_until = time.monotonic() + LEASE_SECONDS
            raise

    def renew(self) -> None:
        """The leases of what we paint, unless nothing was heard of it for very long."""
        for painting, claim in list(self.runner.claims.items()):
            if time.monotonic() - self.runner.last_sign.get(painting, time.monotonic()) < SILENT_SECONDS:
                self.runner.job_store.claims.renew(claim)
            elif painting not in self.hanging:
                self.hanging.add(painting)
                log.error("painting %s hangs here: it is left to others, and this worker wants a look", painting)

    def look_after(self) -> None:
        """One round of everything else."""
        self.models = self.runner.models = self.serving()
        for model in self.models:
            self.listen(model)
        self.index_backlog()
        if time.monotonic() >= self.swept + SWEEP_SECONDS:
            self.sweep()
            self.swept = time.monotonic()
        self.forget_unused_uploads()

    def listen(self, model: str) -> None:
        """Ring for what waits for long although we are free."""
        free = len(self.runner.claims) < self.slots
        waiting = self.runner.job_store.statistics.count_waiting(model) if free else 0
        moment = time.monotonic()
        if not waiting:
            self.waiting_since.pop(model, None)
        elif moment - self.waiting_since.setdefault(model, moment) >= UNNOTICED_SECONDS:
            log.warning("%d paintings wait for %s and nobody rang", waiting, model)
            del self.waiting_since[model]
            for _ in range(min(waiting, self.slots)):
                self.notify(model)

    def index_backlog(self) -> None:
        """Index pictures that were kept while the index was down; those deleted since are struck off."""
        for entry, key in self.runner.job_store.backlog.unindexed():
            try:
                self.runner.memory.index_picture(self.runner.memory.picture(key))
            except (Forgotten, BadKey) as error:
                log.warning("backlog: %s cannot be indexed any more: %s", key, error)
            self.runner.job_store.backlog.remove_unindexed(entry)

    def sweep(self) -> None:
        """Strike off what memory takes for under way and the board does not; neither is waited for."""
        try:
            known = self.runner.memory.paintings_under_way()
        except Unavailable as error:
            log.warning("paintings under way are looked through later: %s", error)
            return
        for painting in set(known) - self.runner.job_store.jobs.unfinished(known):
            self.runner.memory.painting_ended(painting)

    def forget_unused_uploads(self) -> None:
        """Remove old pictures to start from that nothing began from; the others go with the last that did."""
        job_store = self.runner.job_store
        for start, scope in job_store.backlog.old_init_images():
            self.runner.memory.release_init_image(start, scope)
            job_store.backlog.drop_init_image(start, scope)
