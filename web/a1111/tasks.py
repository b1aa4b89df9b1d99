"""The tasks of a caller in AUTOMATIC1111's dialect: the jobs that one request asked for, under a name.

Knows neither the dialect's routes nor its answers.
"""

import base64
import contextlib
import secrets
import time
from collections.abc import Sequence

from flask import abort, current_app, request
from werkzeug.exceptions import NotFound

from jobs.job import Job, State
from jobs.users import Task, UserRecords
from memo import BadRecipe, Unavailable, now
from web.access import cancel_job, find_job, read_preview, watch_job
from web.auth import current_user
from web.formats import OutputFormat, convert_preview
from web.picture_requests import MOST_PICTURES, PictureRequest, add_jobs, all_or_nothing, parse_request
from web.uploads import keep_upload

from .generation_request import A1111Request

PATIENCE_SECONDS = 3600.0  # for which a request waits for its pictures
ASKING_SECONDS = 60.0  # after which a request counts as dead whose jobs are not all known
LOOK_SECONDS = 0.05


def ended_jobs(asked: A1111Request) -> list[Job]:
    """The request's jobs, all of them final; 504 when that takes too long, and then they go on.

    A request under a name that this caller has used already has that request's jobs. Raises BadRecipe, Unavailable.
    """
    name = asked.task or f"task({secrets.token_hex(8)})"
    until = time.monotonic() + PATIENCE_SECONDS
    jobs = [ended(job, until) for job in find_jobs(name, asked)]
    callers().ended(caller(), name)
    return jobs


def find_jobs(name: str, asked: A1111Request) -> list[Job]:
    """The jobs of a request, or those of the request that this caller sent under the same name before."""
    if not callers().begin(caller(), name):
        return jobs_before(name)
    try:
        wanted = wanted_by(asked)
        with all_or_nothing(asked.count) as jobs:
            while len(jobs) < asked.count:
                add_jobs(wanted, jobs, min(MOST_PICTURES, asked.count - len(jobs)))
                callers().record(caller(), name, [job.id for job in jobs], whole=len(jobs) == asked.count)
                if stopped(name):
                    callers().record(caller(), name, [job.id for job in jobs], whole=True)
                    return [cancel_job(job.id) for job in jobs]
    except BaseException:
        callers().forget(caller(), name)
        raise
    return jobs


def wanted_by(asked: A1111Request) -> PictureRequest:
    """The request, checked; raises BadRecipe."""
    native = dict(asked.native)
    if not current_user().name:
        native["user"] = address()
    if asked.init_image is not None:
        native["init_image"] = keep_upload(asked.init_image)
    try:
        return parse_request(native)
    except BadRecipe as error:
        if asked.hires and error.field in ("width", "height"):
            raise BadRecipe("hr_scale", f"{native['width']}x{native['height']}", error.remedy) from error
        raise


def jobs_before(name: str) -> list[Job]:
    """The jobs of a task that was begun by another request, when they are all known."""
    until = time.monotonic() + ASKING_SECONDS
    while (task := callers().task(caller(), name)) and not task.whole:
        if time.monotonic() > until:
            raise Unavailable(f"the request that began the task {name!r} is still being read")
        time.sleep(LOOK_SECONDS)
    if task is None:
        abort(409, f"the request that began the task {name!r} was refused; send it again under another name")
    return [find_job(job) for job in task.jobs]


def stopped(name: str) -> bool:
    """Whether the caller has interrupted this task."""
    task = callers().task(caller(), name)
    return task is not None and task.stopped


def ended(job: Job, until: float) -> Job:
    """The job when it is final; 504 when it takes too long, and then it goes on."""
    for snapshot in watch_job(job, until - time.monotonic()):
        job = snapshot
    if not job.state.final:
        abort(504, "it is not painted yet: send the same force_task_id again to wait on")
    return job


def under_way() -> list[tuple[Task, list[Job]]]:
    """The caller's tasks that are not ended, with their jobs; those that have ended are struck off."""
    found = []
    for task in callers().under_way(caller()):
        jobs = jobs_known(task)
        dead = not task.whole and now() - task.begun > ASKING_SECONDS
        if all(job.state.final for job in jobs) and (task.whole or dead):
            callers().ended(caller(), task.name)
        else:
            found.append((task, jobs))
    return found


def jobs_known(task: Task) -> list[Job]:
    """The task's jobs that are still known."""
    jobs = []
    for job in task.jobs:
        with contextlib.suppress(NotFound):
            jobs.append(find_job(job))
    return jobs


def share(jobs: Sequence[Job]) -> float:
    """How much of the work is done, 0 to 1."""
    done = sum(1.0 if job.state.final else job.step / job.recipe.steps for job in jobs)
    return done / len(jobs) if jobs else 0.0


def seconds_left(jobs: Sequence[Job]) -> float:
    """Until what is being painted is ready; 0 when nobody knows."""
    return max((job.seconds_left or 0.0 for job in jobs), default=0.0)


def words_of(jobs: Sequence[Job]) -> str | None:
    """What is waited for."""
    for job in jobs:
        if job.message:
            return job.message
        if job.state is State.QUEUED and job.position:
            return f"{job.position} paintings were asked for before this one"
    return None


def look(job: Job) -> str | None:
    """A PNG of what the picture looks like by now, in base64; None while there is nothing to see."""
    preview = read_preview(job)
    return encoded(convert_preview(preview, OutputFormat())) if preview else None


def callers() -> UserRecords:
    """What is kept of each caller."""
    found: UserRecords = current_app.extensions["queue"].callers
    return found


def caller() -> str:
    """Whose options, progress and jobs these are: those who have no name are told apart by their address."""
    return f"{current_user().scope}/{current_user().name or address()}"


def address() -> str:
    """What somebody without a name is called."""
    return f"address {request.remote_addr}"


def encoded(data: bytes) -> str:
    """In base64."""
    return base64.b64encode(data).decode()
