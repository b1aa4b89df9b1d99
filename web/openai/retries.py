"""A request that the openai package sends again gets the jobs of the first.

The package gives up after ten minutes and repeats the request, without an idempotency key but with the number of the
attempt in a header (`_base_client.py` in https://github.com/openai/openai-python).
"""

import hashlib
import json
from collections.abc import Callable

from flask import request

from jobs.job import Job
from memo import now
from web.auth import current_user
from web.extensions import job_store
from web.run_once import run_once

ATTEMPT = "X-Stainless-Retry-Count"  # 0 at first
RECENT_SECONDS = 15 * 60  # for which finished jobs still answer a further attempt


def run_unless_repeated(body: object, create: Callable[[], list[Job]]) -> list[Job]:
    """The jobs that `create` makes, or those under way that the user's same request made before.

    `body` is the request's JSON. Aborts with 409 while the same request is being processed elsewhere.
    Raises Unavailable.
    """
    jobs, _ = run_once(name_of(body), create, reuse=jobs_that_answer)
    return jobs


def name_of(body: object) -> str:
    """The same name for all attempts of one request, and for no other request."""
    user = current_user()
    text = json.dumps([user.scope, user.name, request.path, body], sort_keys=True)
    return "retries:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def jobs_that_answer(ids: list[str]) -> list[Job] | None:
    """The jobs of an earlier attempt if they still answer the request, else None.

    They do while one is under way, and when they finished shortly before a further attempt.
    """
    jobs = job_store().jobs.find_all(ids)
    if len(jobs) < len(ids):
        return None
    if any(not job.state.final for job in jobs):
        return jobs
    attempt = request.headers.get(ATTEMPT, "0")
    finished = max(job.finished or job.created for job in jobs)
    return jobs if attempt.isdigit() and int(attempt) > 0 and now() - finished < RECENT_SECONDS else None
