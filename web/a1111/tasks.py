"""Tasks in AUTOMATIC1111's dialect: the jobs of one request, under a name that the client may choose.

Knows neither the dialect's routes nor its responses.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Sequence

from flask import abort, current_app, request
from werkzeug.exceptions import NotFound

from jobs.job import Job, State
from jobs.store.connection import KEPT_SECONDS
from jobs.users import Task, UserRecords
from memo import BadRecipe, now
from web.access import cancel_job, find_job, read_preview, watch_job
from web.auth import current_user
from web.extensions import job_store
from web.formats import OutputFormat, convert_preview
from web.limits.long_requests import hold_thread
from web.picture_requests import (
    MAX_PICTURES,
    PictureRequest,
    add_jobs,
    all_or_nothing,
    parse_request,
    policy_header,
)
from web.rerolls import name_recipient
from web.run_once import run_once
from web.uploads import keep_png

from .generation_request import A1111Request

WAIT_SECONDS = 3600.0  # for which a request waits for its pictures
CREATING_SECONDS = 60.0  # after which a task that has not created all its jobs counts as dead


def wait_for_jobs(a1111_request: A1111Request) -> list[Job]:
    """The request's jobs, all of them final; aborts with 504 when that takes too long, and the jobs go on.

    The same request under the name of one of the user's earlier tasks gets that task's jobs. Raises BadRecipe,
    Unavailable and TooManyRequests.
    """
    hold_thread()
    name = a1111_request.task or f"task({secrets.token_hex(8)})"
    deadline = time.monotonic() + WAIT_SECONDS
    run_name = json.dumps(["a1111 task", user_id(), name, fingerprint_of(a1111_request)])
    jobs, _ = run_once(
        run_name,
        lambda: create_jobs(name, a1111_request),
        reuse=find_reusable_jobs,
        kept_seconds=KEPT_SECONDS,
        lease_seconds=WAIT_SECONDS,  # creating a hundred jobs may take long
    )
    jobs = [wait_for_job(job, deadline) for job in jobs]
    user_records().end_task(user_id(), name)
    return jobs


def fingerprint_of(a1111_request: A1111Request) -> str:
    """32 hex digits of what is painted: clients may use one name for different requests."""
    init_image = hashlib.blake2b(a1111_request.init_image or b"").hexdigest()
    text = json.dumps([a1111_request.native, a1111_request.count, init_image, policy_header()], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def find_reusable_jobs(ids: list[str]) -> list[Job] | None:
    """The jobs of an earlier request, or None if the task has to be painted again.

    It has to be if a job no longer exists, or if one failed or was cancelled and none is still under way.
    """
    jobs = job_store().jobs.find_all(ids)
    under_way = any(not job.state.final for job in jobs)
    answer = under_way or all(job.state is State.DONE for job in jobs)
    return jobs if answer and len(jobs) == len(ids) else None


def create_jobs(name: str, a1111_request: A1111Request) -> list[Job]:
    """Create the jobs of a new task, which an interrupt may stop halfway."""
    records, user = user_records(), user_id()
    records.begin_task(user, name)
    try:
        picture_request = check_request(a1111_request)
        with all_or_nothing(a1111_request.count) as jobs:
            while len(jobs) < a1111_request.count:
                add_jobs(picture_request, jobs, min(MAX_PICTURES, a1111_request.count - len(jobs)))
                records.record_jobs(user, name, [job.id for job in jobs], whole=len(jobs) == a1111_request.count)
                if is_stopped(name):
                    records.record_jobs(user, name, [job.id for job in jobs], whole=True)
                    return [cancel_job(job.id) for job in jobs]
    except BaseException:
        records.forget_task(user, name)
        raise
    return jobs


def check_request(a1111_request: A1111Request) -> PictureRequest:
    """The checked request; raises BadRecipe."""
    native = dict(a1111_request.native)
    if not current_user().name:
        native["user"] = name_by_address()
    if a1111_request.init_image is not None:
        native["init_image"] = keep_png(a1111_request.init_image)
    try:
        return parse_request(native, name_recipient())
    except BadRecipe as error:
        if a1111_request.hires and error.field in ("width", "height"):
            raise BadRecipe("hr_scale", f"{native['width']}x{native['height']}", error.remedy) from error
        raise


def is_stopped(name: str) -> bool:
    """Whether the user has interrupted this task."""
    task = user_records().task(user_id(), name)
    return task is not None and task.stopped


def wait_for_job(job: Job, deadline: float) -> Job:
    """The job when it is final; aborts with 504 at this time of the monotonic clock, and the job goes on."""
    for snapshot in watch_job(job, deadline - time.monotonic()):
        job = snapshot
    if not job.state.final:
        abort(504, "the picture is not painted yet: send the same force_task_id again to go on waiting")
    return job


def tasks_under_way() -> list[tuple[Task, list[Job]]]:
    """The user's unfinished tasks with their jobs. Tasks that turn out to be finished are taken off the list."""
    unfinished = []
    for task in user_records().tasks_under_way(user_id()):
        jobs = known_jobs(task)
        dead = not task.whole and now() - task.begun > CREATING_SECONDS
        if all(job.state.final for job in jobs) and (task.whole or dead):
            user_records().end_task(user_id(), task.name)
        else:
            unfinished.append((task, jobs))
    return unfinished


def known_jobs(task: Task) -> list[Job]:
    """The task's jobs that still exist."""
    jobs = []
    for job_id in task.jobs:
        with contextlib.suppress(NotFound):
            jobs.append(find_job(job_id))
    return jobs


def share_done(jobs: Sequence[Job]) -> float:
    """How much of the work is done, 0 to 1."""
    done = sum(1.0 if job.state.final else job.step / job.recipe.steps for job in jobs)
    return done / len(jobs) if jobs else 0.0


def explain_waiting(jobs: Sequence[Job]) -> str | None:
    """What the first waiting job waits for, in words; None if none of them waits."""
    for job in jobs:
        if job.message:
            return job.message
        if job.state is State.QUEUED and job.position:
            return f"{job.position} painting{'s are' if job.position > 1 else ' is'} ahead in the queue"
    return None


def preview_in_base64(job: Job) -> str | None:
    """The unfinished picture as a PNG in base64; None while there is no preview."""
    preview = read_preview(job)
    return to_base64(convert_preview(preview, OutputFormat())) if preview else None


def user_records() -> UserRecords:
    """The preferences and tasks of users."""
    records: UserRecords = current_app.extensions["queue"].user_records
    return records


def user_id() -> str:
    """The id under which this user's options and tasks are kept."""
    return f"{current_user().scope}/{current_user().name or name_by_address()}"


def name_by_address() -> str:
    """The client's address, which stands for the name of a user who has none."""
    return f"address {request.remote_addr}"


def to_base64(data: bytes) -> str:
    """The data in base64."""
    return base64.b64encode(data).decode()
