"""The door to the workers: submit, look, cancel, watch. All that the web knows of Celery and Redis."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from jobs.store.job_store import FINISHED, JobStore, open_job_store
from jobs.webhooks.deliveries import Webhooks
from jobs.webhooks.receivers import Receivers
from memo import Match, Picture, Recipe, Unavailable

from .celery_app import PAINT, create_celery, queue_of
from .config import JobsConfig
from .events import Events
from .job import Job, MemoryMatch
from .single_flight import SingleFlight
from .users import UserRecords

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0


class Queue:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, job_store: JobStore, celery: Celery, events: Events, webhooks: Webhooks | None = None) -> None:
        self.job_store, self.celery, self.events = job_store, celery, events
        self.webhooks = webhooks or Webhooks(job_store)
        self.callers = UserRecords(job_store)
        self.shared_job = SingleFlight(job_store.job)  # of hundreds who watch one job, few read it

    def submit(self, recipe: Recipe, **how: Any) -> Job:
        """Record the job, `how` as Board.open_job has it, then ring; workers notice what nobody rang for."""
        job = self.job_store.open_job(recipe, **how)
        if job.origin == "painted":
            try:
                notify_worker(self.celery, recipe.model)
            except Unavailable as error:
                log.warning("painting %s is recorded, and a worker must find it by itself: %s", job.painting, error)
        return job

    def join(self, painting: str, reason: str, user: str = "", priority: int = 0) -> Job | None:
        """Wait for a painting under way that means the same; None when it has ended meanwhile."""
        return self.job_store.join(
            painting, f"the same is being painted for someone already: {reason}", user, priority
        )

    def forget(self, key: str) -> None:
        """Remove what is known of the jobs that led to a picture."""
        self.job_store.forget(key)

    def remembered(self, recipe: Recipe, match: Match, reason: str, user: str = "", took: float = 0.0) -> Job:
        """Record a job that memory answered, after so many seconds of looking up."""
        note = MemoryMatch(prompt=match.picture.recipe.prompt, score=match.score, how=match.how)
        return self.job_store.record_remembered(recipe, match.picture, note, reason, user, took)

    def job(self, job: str) -> Job | None:
        """A snapshot, or None for an id that was never given or has expired."""
        return self.job_store.job(job)

    def preview(self, job: str) -> bytes | None:
        """WebP of what a job's picture looks like by now; None when there is nothing to see."""
        return self.job_store.preview(job)

    def recent(self, limit: int) -> list[Job]:
        """The newest jobs first."""
        return self.job_store.recent(limit)

    def of_user(self, user: str) -> list[Job]:
        """Everything that this user asked for in the last days, newest first."""
        return self.job_store.of_user(user)

    def counts(self) -> Counter[str]:
        """Jobs by origin, and what was spent and saved."""
        return self.job_store.counts()

    def cancel(self, job: str) -> Job | None:
        """Cancel unless it is final already; the snapshot afterwards."""
        self.job_store.cancel(job)
        return self.job_store.job(job)

    def once(self, name: str, value: str, seconds: float, instead: str = "") -> str | None:
        """As Board.once: of many that write under a name, one does, and the others hear what it wrote."""
        return self.job_store.compare_and_set(name, value, seconds, instead)

    def watch(self, job: str, *, heartbeat: float = HEARTBEAT_SECONDS) -> Iterator[Job | None]:
        """A snapshot now and after every change until it is final; None after `heartbeat` quiet seconds."""
        snapshot = self.job_store.job(job)
        if snapshot is None or snapshot.painting is None:
            yield from [snapshot] if snapshot else []
            return
        with self.events.watch(snapshot.painting) as changed:
            last = None
            while snapshot is not None:
                yield snapshot if snapshot != last else None
                if snapshot.state.final:
                    return
                last = snapshot
                changed.wait(heartbeat)
                changed.clear()
                snapshot = self.shared_job(job)

    def finished(self, since: str | None = None) -> list[tuple[str, Picture]]:
        """Pictures finished after the one of this name, with their names; None: the last one only."""
        return self.job_store.finished(since)

    def watch_finished(
        self, since: str, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> Iterator[tuple[str, Picture] | None]:
        """Every picture finished after the one of this name, for ever; None after `heartbeat` quiet seconds."""
        with self.events.watch(FINISHED) as changed:
            while True:
                for name, picture in self.job_store.finished(since):
                    yield name, picture
                    since = name
                if not changed.wait(heartbeat):
                    yield None
                changed.clear()

    def history(self, minutes: int) -> list[Counter[str]]:
        """What was counted in each of the last minutes, this one last."""
        return self.job_store.history(minutes)

    def mean_cost(self, like: Picture) -> tuple[float, float]:
        """Seconds and joules of paintings of this model, size and number of steps, as a rule."""
        return self.job_store.mean_cost(like)

    def waiting(self, model: str) -> tuple[int, float]:
        """How many paintings wait for a model, and for how many seconds the first of them has."""
        return self.job_store.count_waiting(model), self.job_store.longest_wait(model)

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that are alive, with what they say of themselves."""
        return self.job_store.workers()


def notify_worker(celery: Celery, model: str) -> None:
    """Call a worker for one painting of this model; raises Unavailable. Too often does no harm."""
    try:
        celery.send_task(PAINT, [model], queue=queue_of(model))
    except OperationalError as error:
        raise Unavailable(f"the queue does not take messages: {error}") from error


def open_queue(config: JobsConfig) -> Queue:
    """Connects on first use."""
    job_store = open_job_store(config.redis)
    return Queue(job_store, create_celery(config), Events(job_store), open_webhooks(job_store, config))


def open_webhooks(job_store: JobStore, config: JobsConfig) -> Webhooks:
    """As they are configured."""
    return Webhooks(job_store, config.webhook_secret, Receivers(config.webhook_allow))
