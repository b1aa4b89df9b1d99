"""The same request, sent again by the same caller while it is carried out, is one request. Knows jobs, not dialects.

The openai package gives up after ten minutes and sends the request anew, without an idempotency key but with the
number of the try in a header (`_base_client.py` in https://github.com/openai/openai-python).
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable

from flask import abort, request

from jobs.job import Job
from jobs.queue import Queue
from memo import now

from .auth import current_user
from .extensions import job_store, queue

TRY = "X-Stainless-Retry-Count"  # 0 at first
KEPT_SECONDS = 24 * 3600
LEASE_SECONDS = 60  # after which another may ask instead of a process that died
PATIENCE_SECONDS = 20.0  # while another thread or process is asking
LOOK_SECONDS = 0.02
RECENT_SECONDS = 15 * 60  # for so long what has ended is still the answer to a further try


def carried_out(asked: object, work: Callable[[], list[Job]]) -> list[Job]:
    """The jobs that `work` asks for, or those under way that it asked for when the same was sent before.

    `asked` is all that the request says, JSON-able. When `work` raises, it counts as never sent. Aborts with 409 when
    the same is being asked for too long. Raises Unavailable.
    """
    name, mine = name_of(asked), json.dumps({"token": secrets.token_hex(8)})
    if jobs := taken(queue(), name, mine):
        return jobs
    try:
        jobs = work()
    except BaseException:
        job_store().requests.compare_and_set(name, "", KEPT_SECONDS, mine)
        raise
    job_store().requests.compare_and_set(name, json.dumps({"jobs": [job.id for job in jobs]}), KEPT_SECONDS, mine)
    return jobs


def name_of(asked: object) -> str:
    """What all tries of one request have in common, and no other request."""
    caller = current_user()
    said = json.dumps([caller.scope, caller.name, request.path, asked], sort_keys=True)
    return "retries:" + hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def taken(queue: Queue, name: str, mine: str) -> list[Job] | None:
    """The jobs of an earlier try; None when the name is this request's now."""
    until = time.monotonic() + PATIENCE_SECONDS
    instead = ""
    while (there := queue.job_store.requests.compare_and_set(name, mine, LEASE_SECONDS, instead)) is not None:
        instead = ""
        values = json.loads(there or "{}")
        if "jobs" in values:
            jobs = [job for job in map(queue.job_store.jobs.find, values["jobs"]) if job]
            if len(jobs) == len(values["jobs"]) and still_answer(jobs):
                return jobs
            instead = there
        elif time.monotonic() > until:
            abort(409, "the same request is being looked at just now: send it again later")
        else:
            time.sleep(LOOK_SECONDS)
    return None


def still_answer(jobs: list[Job]) -> bool:
    """Whether they are what the request asks for: under way, or ended just before a further try of it."""
    if any(not job.state.final for job in jobs):
        return True
    tries = request.headers.get(TRY, "0")
    ended = max(job.finished or job.created for job in jobs)
    return tries.isdigit() and int(tries) > 0 and now() - ended < RECENT_SECONDS
