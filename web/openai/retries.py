"""Answers a request that the openai package repeats with the jobs of its first attempt.

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
from web.picture_requests import policy_header
from web.run_once import run_once

RETRY_COUNT_HEADER = "X-Stainless-Retry-Count"  # 0 at first
RECENT_SECONDS = 15 * 60  # for which finished jobs still answer a further attempt


def run_unless_repeated(body: object, recipient: str, create: Callable[[], list[Job]]) -> list[Job]:
    """The jobs that `create` makes, or those that an earlier attempt at the same request made.

    `body` is the request's JSON; for `recipient` see `rerolls.name_recipient`. Aborts with 409 while the same request
    is being processed elsewhere. Raises Unavailable.
    """
    jobs, _ = run_once(name_of(body, recipient), create, reuse=find_reusable_jobs)
    return jobs


def name_of(body: object, recipient: str) -> str:
    """A name that all attempts at one request share, and no other request has."""
    text = json.dumps([current_user().scope, recipient, request.path, policy_header(), body], sort_keys=True)
    return "retries:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def find_reusable_jobs(ids: list[str]) -> list[Job] | None:
    """The jobs of an earlier attempt if they still answer the request, else None.

    They do while any of them is unfinished. Afterwards they answer only a request that says that it is a retry, and
    only for RECENT_SECONDS.
    """
    jobs = job_store().jobs.find_all(ids)
    if len(jobs) < len(ids):
        return None
    if any(not job.state.final for job in jobs):
        return jobs
    retry_count = request.headers.get(RETRY_COUNT_HEADER, "0")
    is_retry = retry_count.isascii() and retry_count.isdigit() and retry_count.strip("0") != ""
    finished_at = max(job.finished or job.created for job in jobs)
    return jobs if is_retry and now() - finished_at < RECENT_SECONDS else None
