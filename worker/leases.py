"""What every worker does besides painting: it renews leases, and looks after queue, index and old init images.

Paintings of dead workers go back into the queue, pictures that the index lacks are indexed, and init images that
nobody used are removed. Leases have a thread of their own, because the rest may take long: all files of a new model
are read, and a store may be slow. So has the index: after a loss, all pictures are read.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from jobs.store.claims import LEASE_SECONDS
from memo import MemoError, Unavailable

from .index_keeper import IndexKeeper
from .paint import PaintingRunner

log = logging.getLogger(__name__)

PERIOD = 4.0  # seconds; a lease lasts several of them
SILENT_SECONDS = 3600.0  # after which a painting that reports nothing counts as hanging, and is left to other workers
SWEEP_SECONDS = 300.0  # between two searches for paintings that ended unnoticed, such as cancelled ones
UNNOTICED_SECONDS = 10.0  # a painting waits this long while a worker is free only if its message was lost


class LeaseKeeper:
    """Three background threads. `notify` wakes a worker for a model, `list_models` returns this worker's models."""

    def __init__(
        self,
        runner: PaintingRunner,
        notify: Callable[[str], None],
        list_models: Callable[[], Sequence[str]],
        *,
        slots: int,
        name: str,
        facts: Mapping[str, object],
    ) -> None:
        self.runner, self.notify, self.list_models, self.slots = runner, notify, list_models, slots
        self.name, self.facts = name, facts
        self.waiting_since: dict[str, float] = {}  # by model: when a painting began to wait although slots were free
        self.models: Sequence[str] | None = None  # the models in the last round of maintenance
        self.patient_until = 0.0  # until then nothing is requeued: after an outage, others must renew leases first
        self.hanging: set[str] = set()  # paintings that hang on this worker, each logged once
        self.swept_at = -SWEEP_SECONDS
        self.stopping = threading.Event()
        self.index_keeper = IndexKeeper(runner.job_store, runner.memory, name, self.stopping)
        self.threads = [
            threading.Thread(target=self.run, args=(task,), name=task.__name__, daemon=True)
            for task in (self.keep_leases, self.maintain, self.keep_index)
        ]

    def start(self) -> None:
        """Start the threads; their first rounds begin at once."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the current rounds, pass unserved messages on, and take this worker off the list."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=PERIOD * 2)
        try:
            for model in self.runner.unserved:
                self.notify(model)
            self.runner.job_store.heartbeats.remove(self.name)
        except Unavailable as error:
            log.warning("stopped without taking this worker off the list: %s", error)

    def run(self, task: Callable[[], None]) -> None:
        """Repeat a task until stopped, whatever error it raises."""
        while True:
            try:
                task()
            except MemoError as error:
                log.warning("%s", error)
            except Exception:  # leases must be renewed in the next round, whatever happened
                log.exception("a round failed")
            if self.stopping.wait(PERIOD):
                return

    def keep_leases(self) -> None:
        """Renew our leases, requeue the paintings of dead workers, and send a heartbeat."""
        job_store = self.runner.job_store
        if self.models is None:
            self.models = self.list_models()
        try:
            self.renew()
            for model in self.runner.release_left():
                self.notify(model)
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
        """Renew the leases of our paintings, except those that hang."""
        for painting, claim in list(self.runner.claims.items()):
            if time.monotonic() - self.runner.last_sign.get(painting, time.monotonic()) < SILENT_SECONDS:
                self.runner.job_store.claims.renew(claim)
            elif painting not in self.hanging:
                self.hanging.add(painting)
                log.error("painting %s hangs here and is left to other workers: check this worker", painting)

    def maintain(self) -> None:
        """Do one round of everything but leases."""
        self.models = self.runner.models = self.list_models()
        for model in self.models:
            self.notify_of_unnoticed(model)
        if time.monotonic() >= self.swept_at + SWEEP_SECONDS:
            self.sweep()
            self.swept_at = time.monotonic()
        self.remove_unused_init_images()

    def notify_of_unnoticed(self, model: str) -> None:
        """Notify workers of paintings that waited too long although this worker is free: their message was lost."""
        free = len(self.runner.claims) + self.runner.held_back < self.slots
        waiting = self.runner.job_store.statistics.count_waiting(model) if free else 0
        moment = time.monotonic()
        if not waiting:
            self.waiting_since.pop(model, None)
        elif moment - self.waiting_since.setdefault(model, moment) >= UNNOTICED_SECONDS:
            log.warning("%d paintings wait for %s although a worker is free: notifying workers again", waiting, model)
            del self.waiting_since[model]
            for _ in range(min(waiting, self.slots)):
                self.notify(model)

    def keep_index(self) -> None:
        """Compare the index with the store when that is due, and index what it lacks."""
        self.index_keeper.run_round()

    def sweep(self) -> None:
        """Tell memory which of its paintings under way have ended, according to the job store."""
        try:
            under_way = self.runner.memory.paintings_under_way()
        except Unavailable as error:
            log.warning("cannot check the paintings under way now, will try again: %s", error)
            return
        for painting in set(under_way) - self.runner.job_store.jobs.unfinished(under_way):
            self.runner.memory.painting_ended(painting)

    def remove_unused_init_images(self) -> None:
        """Remove old init images that no picture was painted from; the others are deleted with their last picture."""
        job_store = self.runner.job_store
        for init_image, scope in job_store.backlog.old_init_images():
            self.runner.memory.release_init_image(init_image, scope)
            job_store.backlog.drop_init_image(init_image, scope)
