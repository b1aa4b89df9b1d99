"""The door to the workers: submit, look, cancel, watch. All that the web knows of Celery and Redis."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from jobs.store.board import FINISHED, Board, open_board
from jobs.webhooks.deliveries import Webhooks
from jobs.webhooks.receivers import Receivers
from memo import Match, Picture, Recipe, Unavailable

from .celery_app import PAINT, create_celery, queue_of
from .config import JobsConfig
from .events import Events
from .job import Job, Remembered
from .single_flight import Shared
from .users import Callers

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0


class Queue:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, board: Board, celery: Celery, events: Events, webhooks: Webhooks | None = None) -> None:
        self.board, self.celery, self.events = board, celery, events
        self.webhooks = webhooks or Webhooks(board)
        self.callers = Callers(board)
        self.seen_by_all = Shared(board.job)  # of hundreds who watch one job, few read it

    def submit(self, recipe: Recipe, **how: Any) -> Job:
        """Record the job, `how` as Board.open_job has it, then ring; workers notice what nobody rang for."""
        job = self.board.open_job(recipe, **how)
        if job.origin == "painted":
            try:
                ring(self.celery, recipe.model)
            except Unavailable as error:
                log.warning("painting %s is recorded, and a worker must find it by itself: %s", job.painting, error)
        return job

    def join(self, painting: str, reason: str, user: str = "", priority: int = 0) -> Job | None:
        """Wait for a painting under way that means the same; None when it has ended meanwhile."""
        return self.board.join(painting, f"the same is being painted for someone already: {reason}", user, priority)

    def forget(self, key: str) -> None:
        """Remove what is known of the jobs that led to a picture."""
        self.board.forget(key)

    def remembered(self, recipe: Recipe, match: Match, reason: str, user: str = "", took: float = 0.0) -> Job:
        """Record a job that memory answered, after so many seconds of looking up."""
        note = Remembered(prompt=match.picture.recipe.prompt, score=match.score, how=match.how)
        return self.board.remembered(recipe, match.picture, note, reason, user, took)

    def job(self, job: str) -> Job | None:
        """A snapshot, or None for an id that was never given or has expired."""
        return self.board.job(job)

    def preview(self, job: str) -> bytes | None:
        """WebP of what a job's picture looks like by now; None when there is nothing to see."""
        return self.board.preview(job)

    def recent(self, limit: int) -> list[Job]:
        """The newest jobs first."""
        return self.board.recent(limit)

    def of_user(self, user: str) -> list[Job]:
        """Everything that this user asked for in the last days, newest first."""
        return self.board.of_user(user)

    def counts(self) -> Counter[str]:
        """Jobs by origin, and what was spent and saved."""
        return self.board.counts()

    def cancel(self, job: str) -> Job | None:
        """Cancel unless it is final already; the snapshot afterwards."""
        self.board.cancel(job)
        return self.board.job(job)

    def once(self, name: str, value: str, seconds: float, instead: str = "") -> str | None:
        """As Board.once: of many that write under a name, one does, and the others hear what it wrote."""
        return self.board.once(name, value, seconds, instead)

    def watch(self, job: str, *, heartbeat: float = HEARTBEAT_SECONDS) -> Iterator[Job | None]:
        """A snapshot now and after every change until it is final; None after `heartbeat` quiet seconds."""
        snapshot = self.board.job(job)
        if snapshot is None or snapshot.painting is None:
            yield from [snapshot] if snapshot else []
            return
        with self.events.watch(snapshot.painting) as bell:
            last = None
            while snapshot is not None:
                yield snapshot if snapshot != last else None
                if snapshot.state.final:
                    return
                last = snapshot
                bell.wait(heartbeat)
                bell.clear()
                snapshot = self.seen_by_all(job)

    def finished(self, since: str | None = None) -> list[tuple[str, Picture]]:
        """Pictures finished after the one of this name, with their names; None: the last one only."""
        return self.board.finished(since)

    def watch_finished(
        self, since: str, *, heartbeat: float = HEARTBEAT_SECONDS
    ) -> Iterator[tuple[str, Picture] | None]:
        """Every picture finished after the one of this name, for ever; None after `heartbeat` quiet seconds."""
        with self.events.watch(FINISHED) as bell:
            while True:
                for name, picture in self.board.finished(since):
                    yield name, picture
                    since = name
                if not bell.wait(heartbeat):
                    yield None
                bell.clear()

    def history(self, minutes: int) -> list[Counter[str]]:
        """What was counted in each of the last minutes, this one last."""
        return self.board.history(minutes)

    def mean_cost(self, like: Picture) -> tuple[float, float]:
        """Seconds and joules of paintings of this model, size and number of steps, as a rule."""
        return self.board.mean_cost(like)

    def waiting(self, model: str) -> tuple[int, float]:
        """How many paintings wait for a model, and for how many seconds the first of them has."""
        return self.board.waiting(model), self.board.longest_wait(model)

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that are alive, with what they say of themselves."""
        return self.board.workers()


def ring(celery: Celery, model: str) -> None:
    """Call a worker for one painting of this model; raises Unavailable. Too often does no harm."""
    try:
        celery.send_task(PAINT, [model], queue=queue_of(model))
    except OperationalError as error:
        raise Unavailable(f"the queue does not take messages: {error}") from error


def open_queue(config: JobsConfig) -> Queue:
    """Connects on first use."""
    board = open_board(config.redis)
    return Queue(board, create_celery(config), Events(board), open_webhooks(board, config))


def open_webhooks(board: Board, config: JobsConfig) -> Webhooks:
    """As they are configured."""
    return Webhooks(board, config.webhook_secret, Receivers(config.webhook_allow))
