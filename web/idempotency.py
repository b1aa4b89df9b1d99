"""A request with an Idempotency-Key is carried out once, however often it is sent within a day.

See https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. Knows the names of jobs, not what
they paint.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable

from flask import abort, request

from jobs.job import Job
from jobs.queue import Queue

from .access import find_job
from .auth import current_user
from .extensions import job_store, queue

HEADER = "Idempotency-Key"
LONGEST = 255  # characters
KEPT_SECONDS = 24 * 3600
LEASE_SECONDS = 60  # after which the key of a process that died is free again
LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 20.0  # for the same request that is being carried out


def once(asked: object, work: Callable[[], list[Job]]) -> tuple[list[Job], bool]:
    """The jobs that `work` asks for, or those that it asked for under the same key before, and whether they are.

    `asked` is the request's body, JSON-able. Two at once are one: the later waits. When `work` raises, the key is
    free again. Without a key it is just done. Aborts with 400, 409 or 422. Raises Unavailable.
    """
    if (key := idempotency_key()) is None:
        return work(), False
    caller, said = current_user(), fingerprint(asked)
    name = json.dumps(["idempotency", caller.scope, caller.name, key])
    mine = json.dumps({"asked": said, "token": secrets.token_hex(8)})
    if (known := taken(queue(), name, mine, said)) is not None:
        return [find_job(job) for job in known], True
    try:
        jobs = work()
    except BaseException:
        job_store().requests.compare_and_set(name, "", KEPT_SECONDS, mine)
        raise
    job_store().requests.compare_and_set(
        name, json.dumps({"asked": said, "jobs": [job.id for job in jobs]}), KEPT_SECONDS, mine
    )
    return jobs, False


def idempotency_key() -> str | None:
    """The request's key without its quotation marks, or None; 400 for one that cannot be used."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    key = given.strip()
    key = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not 1 <= len(key) <= LONGEST or not (key.isascii() and key.isprintable()) or set(' "') & set(key):
        abort(400, f"the {HEADER} must be 1 to {LONGEST} visible ASCII characters, for example a UUID")
    return key


def fingerprint(asked: object) -> str:
    """32 hex digits of the route and the body; the order of its fields does not count."""
    said = json.dumps([request.method, request.path, asked], sort_keys=True)
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def taken(queue: Queue, name: str, mine: str, asked: str) -> tuple[str, ...] | None:
    """The jobs that the key has led to already; None when the key was free, and is this request's now."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (there := queue.job_store.requests.compare_and_set(name, mine, LEASE_SECONDS)) is not None:
        values = json.loads(there) if there else {"asked": asked}
        if values["asked"] != asked:
            abort(422, f"this {HEADER} was used for another request within the last 24 hours: draw a new one")
        if "jobs" in values:
            return tuple(values["jobs"])
        if time.monotonic() > until:
            abort(409, f"the request with this {HEADER} is still being carried out: ask again later")
        time.sleep(LOOK_SECONDS)
    return None
