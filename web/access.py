"""The jobs and pictures that the current user may see. What belongs to others is reported as missing."""

import time
from collections.abc import Iterator, Sequence

from flask import abort

from jobs.job import Job, Origin
from jobs.store.statistics import share_saved
from memo import Forgotten, Picture
from memo.picture import without_scope

from .auth import current_user, is_still_permitted
from .extensions import job_store, memory, queue
from .limits.concurrency import wait_without_permit
from .limits.long_requests import RECHECK_SECONDS, client_is_gone

MAX_OWN_JOBS = 1000  # the newest jobs of a user that are searched for their pictures
LONGEST_SEARCH = 200  # characters of a search for pictures


def find_job(job_id: str) -> Job:
    """The job as it is now; aborts with 404 if it is unknown or not the user's to see."""
    job = job_store().jobs.find(job_id)
    if job is None or current_user().visible_scope not in (None, job.scope):
        abort(404, f"there is no job {job_id[:40]!r}; a job is kept for seven days, or until its picture is deleted")
    return job


def find_jobs(job_ids: Sequence[str]) -> list[Job]:
    """The jobs among these that the user may see; aborts with 404 if there are none. Expects at least one id."""
    scope = current_user().visible_scope
    jobs = job_store().jobs.find_all(job_ids)
    return [job for job in jobs if scope in (None, job.scope)] or [find_job(job_ids[0])]  # which aborts with 404


def recent_jobs(limit: int) -> list[Job]:
    """The newest jobs that the user may see."""
    return job_store().jobs.recent(limit, current_user().visible_scope)


def watch_job(job: Job, seconds: float) -> Iterator[Job]:
    """Yield the job whenever it changes, for at most this many seconds.

    Stops when the job is final, the client has gone, or the user's key or session has become invalid. Raises
    Unavailable.
    """
    deadline, checked = time.monotonic() + seconds, time.monotonic()
    for snapshot in wait_without_permit(queue().watch(job.id, heartbeat=1.0)):
        if time.monotonic() - checked >= RECHECK_SECONDS:
            if not is_still_permitted():
                return
            checked = time.monotonic()
        if snapshot:
            yield snapshot
        if time.monotonic() > deadline or client_is_gone():
            return


def cancel_job(job_id: str) -> Job:
    """Cancel one of the user's jobs; a final job stays as it is."""
    job_store().submissions.cancel(find_job(job_id).id)
    return find_job(job_id)


def read_preview(job: Job) -> bytes | None:
    """WebP of the unfinished picture; None while there is no preview."""
    return job_store().jobs.preview(job.id)


def savings(job: Job) -> tuple[float, float]:
    """Seconds and joules that memory saved, as far as they are known: by its answer, or by a similar picture."""
    if not job.picture or job.origin not in (Origin.MEMORY, Origin.NEAR):
        return 0.0, 0.0
    share = 1.0 if job.origin is Origin.MEMORY else share_saved(job.picture)
    seconds, joules = job_store().statistics.mean_cost(job.picture)
    return share * seconds, share * joules


def seconds_until_done(jobs: Sequence[Job]) -> float:
    """Seconds until the last of these jobs is done; 0 if nothing is known about them.

    The estimate assumes that paintings run one after the other, and that each takes the mean time of such paintings,
    or as long as the slowest of these jobs if none was counted.
    """
    pace = max((seconds_at_this_pace(job) for job in jobs), default=0.0)
    running = max((job.seconds_left or 0.0 for job in jobs), default=0.0)
    waiting = [(job.position + 1) * mean_seconds(job, pace) for job in jobs if job.position is not None]
    return running + max(waiting, default=0.0)


def seconds_at_this_pace(job: Job) -> float:
    """Seconds for the whole painting, extrapolated from the time for its remaining steps; 0 if that is unknown."""
    return (job.seconds_left or 0.0) * job.recipe.steps / max(1, job.recipe.steps - job.step)


def mean_seconds(job: Job, default: float) -> float:
    """The mean seconds of paintings like this job's, for the steps that it takes; the default if none was counted."""
    picture = Picture(recipe=job.recipe, created=0.0, seconds=default, near=job.near)
    return (1 - share_saved(picture)) * job_store().statistics.mean_cost(picture)[0]


def find_picture(key: str) -> Picture:
    """A picture that the user may see; raises Forgotten or BadKey."""
    return memory().picture(key, current_user().visible_scope)


def read_image(key: str) -> bytes:
    """The picture's PNG; raises Forgotten or BadKey."""
    return without_scope(memory().image(key, current_user().visible_scope))


def read_thumbnail(key: str) -> bytes:
    """A small WebP of the picture; raises Forgotten or BadKey."""
    return memory().thumbnail(key, current_user().visible_scope)


def delete_picture(key: str) -> None:
    """Delete one of the user's pictures and the jobs that led to it; raises BadKey, or Forgotten if there is neither.

    A deletion that failed halfway is finished by repeating it.
    """
    scope = current_user().visible_scope
    try:
        memory().forget(key, scope)
    except Forgotten:
        if not job_store().submissions.forget(key, scope):
            raise
    else:
        job_store().submissions.forget(key, scope)


def own_picture_keys() -> set[str]:
    """The keys of the pictures that this user received in the last seven days. It reads many jobs: call it once."""
    name = current_user().name
    jobs = job_store().jobs.of_user(name)[:MAX_OWN_JOBS] if name else []
    return {job.picture.key for job in jobs if job.picture}
