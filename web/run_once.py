"""Carries out a request only once, even if it arrives several times: repetitions get the jobs of the first.

Used for requests with an Idempotency-Key, requests that the openai package repeats, and AUTOMATIC1111's tasks. Knows
names and jobs; not how a request gets its name.
"""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from flask import abort

from jobs.job import Job

from .access import find_job
from .extensions import job_store
from .limits.concurrency import without_permit
from .limits.long_requests import hold_thread
from .limits.rates import charge_request

KEPT_SECONDS = 24 * 3600.0  # for which a name and its jobs are remembered
LEASE_SECONDS = 60.0  # after which a request that has not created its jobs counts as dead
POLL_SECONDS = 0.02
WAIT_SECONDS = 20.0  # for another request of the same name that is creating its jobs


class NameTaken(Exception):
    """The name was used for another request."""


def run_once(
    name: str,
    create: Callable[[], list[Job]],
    *,
    fingerprint: str = "",
    reuse: Callable[[list[str]], list[Job] | None] | None = None,
    kept_seconds: float = KEPT_SECONDS,
    lease_seconds: float = LEASE_SECONDS,
) -> tuple[list[Job], bool]:
    """The jobs that `create` makes, or those of an earlier request of this name, and whether they are reused.

    `reuse` finds the jobs of the earlier request by their ids, or returns None to have new ones made; by default it
    aborts with 404 when one is gone. If `create` raises, the name is free again. A repetition counts towards the
    user's rate. Raises NameTaken when the earlier request had another fingerprint, TooManyRequests and Unavailable;
    aborts with 409 when the earlier request takes too long.
    """
    compare_and_set = job_store().requests.compare_and_set
    reservation = json.dumps({"fingerprint": fingerprint, "token": secrets.token_hex(8)})

    def reserve(expected: str) -> str | None:
        return compare_and_set(name, reservation, lease_seconds, expected)

    if (jobs := reserve_or_reuse(reserve, fingerprint, reuse or find_every_job)) is not None:
        return jobs, True
    try:
        jobs = create()
    except BaseException:
        compare_and_set(name, "", kept_seconds, reservation)
        raise
    record = json.dumps({"fingerprint": fingerprint, "jobs": [job.id for job in jobs]})
    compare_and_set(name, record, kept_seconds, reservation)
    return jobs, False


def reserve_or_reuse(
    reserve: Callable[[str], str | None], fingerprint: str, reuse: Callable[[list[str]], list[Job] | None]
) -> list[Job] | None:
    """Reserve the name and return None, or return the jobs of the earlier request once it has created them.

    `reserve(expected)` takes the name and returns None if the name's value is `expected`; else it returns the value.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    expected = ""
    while (value := reserve(expected)) is not None:
        expected = ""
        record: dict[str, Any] = json.loads(value or "{}")
        if value and record["fingerprint"] != fingerprint:
            raise NameTaken
        if "jobs" in record:
            if (jobs := reuse(record["jobs"])) is not None:
                charge_request()
                return jobs
            expected = value
        elif time.monotonic() > deadline:
            abort(409, "the same request is being processed at the moment: send it again later")
        else:
            hold_thread()
            with without_permit():
                time.sleep(POLL_SECONDS)
    return None


def find_every_job(ids: list[str]) -> list[Job]:
    """The jobs of these ids; aborts with 404 when one is gone."""
    return [find_job(job_id) for job_id in ids]
