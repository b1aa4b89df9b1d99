"""How the web reaches the workers: it submits jobs here and watches them, and needs no Celery itself."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from redis import RedisError

from jobs.store.job_store import JobStore, open_job_store
from jobs.store.snapshots import FINISHED
from jobs.webhooks.deliveries import Webhooks
from jobs.webhooks.receivers import Receivers
from memo import Picture, Recipe, Unavailable

from .celery_app import PAINT, create_celery, queue_of
from .config import JobsConfig
from .events import Events
from .job import Job, Origin
from .single_flight import SingleFlight
from .users import UserRecords

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0


class Queue:
    """Submits jobs to the workers and watches them. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, job_store: JobStore, celery: Celery, events: Events, webhooks: Webhooks | None = None) -> None:
        self.job_store, self.celery, self.events = job_store, celery, events
        self.webhooks = webhooks or Webhooks(job_store)
        self.user_records = UserRecords(job_store.connection)
        self.find_job = SingleFlight(job_store.jobs.find)  # hundreds may watch one job; one read serves them all

    def submit(self, recipe: Recipe, **options: Any) -> Job:
        """Record a job, with the options of `Submissions.open_job`, and notify a worker.

        A worker that was not notified finds the painting by itself a little later.
        """
        job = self.job_store.submissions.open_job(recipe, **options)
        if job.origin is not Origin.JOINED:
            try:
                notify_worker(self.celery, recipe.model)
            except Unavailable as error:
                log.warning(
                    "no worker was notified of painting %s, one will find it by itself: %s", job.painting, error
                )
        return job

    def watch(self, job: str, *, heartbeat: float = HEARTBEAT_SECONDS) -> Iterator[Job | None]:
        """Yield a snapshot now and after every change until it is final; None after `heartbeat` quiet seconds.

        It also ends when `events` is stopped.
        """
        snapshot = self.job_store.jobs.find(job)
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
                if self.events.stopping.is_set():
                    return
                changed.clear()
                snapshot = self.find_job(job)

    def watch_finished(
        self, since: str, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> Iterator[tuple[str, Picture] | None]:
        """Yield every picture finished after the stream entry `since`, with the id of its own entry.

        Yields None every `heartbeat` seconds, whatever else happens; ends when `events` is stopped.
        """
        next_beat = time.monotonic() + heartbeat
        with self.events.watch(FINISHED) as changed:
            while True:
                for entry, picture in self.job_store.jobs.finished_pictures(since):
                    yield entry, picture
                    since = entry
                changed.wait(max(0.0, next_beat - time.monotonic()))
                if self.events.stopping.is_set():
                    return
                changed.clear()
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + heartbeat
                    yield None


def notify_worker(celery: Celery, model: str) -> None:
    """Tell a worker that a painting of this model waits; an extra message does no harm. Raises Unavailable."""
    try:
        celery.send_task(PAINT, [model], queue=queue_of(model))
    except (KombuError, RedisError) as error:
        raise Unavailable(f"the queue does not take messages: {error}") from error


def open_queue(config: JobsConfig) -> Queue:
    """The queue of this configuration; connects on first use."""
    job_store = open_job_store(config.redis)
    return Queue(job_store, create_celery(config), Events(job_store.connection), open_webhooks(job_store, config))


def open_webhooks(job_store: JobStore, config: JobsConfig) -> Webhooks:
    """The webhooks of this configuration."""
    return Webhooks(job_store, config.webhook_secret, Receivers(config.webhook_allow))
