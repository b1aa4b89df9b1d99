"""A request with an Idempotency-Key is carried out once, however often it is sent within a day.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
import json
from collections.abc import Callable

from flask import abort, request

from jobs.job import Job

from .auth import current_user
from .picture_requests import policy_header
from .run_once import NameTaken, run_once

HEADER = "Idempotency-Key"
LONGEST_KEY = 255  # characters


def run_idempotently(body: object, create: Callable[[], list[Job]]) -> tuple[list[Job], bool]:
    """The jobs that `create` makes, or those of an earlier request with the same key, and whether they are replayed.

    `body` is the request's JSON. Without a key the request is simply carried out. Aborts with 400 for a key that
    cannot be used, 409 while the earlier request is being processed, and 422 when its body was different. Raises
    Unavailable.
    """
    if (key := read_key()) is None:
        return create(), False
    user = current_user()
    name = json.dumps(["idempotency", user.scope, user.name, key])
    try:
        return run_once(name, create, fingerprint=fingerprint_of(body))
    except NameTaken:
        abort(422, f"this {HEADER} was used for another request within the last 24 hours: use a new one")


def read_key() -> str | None:
    """The request's key without its quotation marks, or None; aborts with 400 for one that cannot be used."""
    header = request.headers.get(HEADER)
    if header is None:
        return None
    key = header.strip()
    key = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()) or set(' "') & set(key):
        abort(400, f"the {HEADER} must be 1 to {LONGEST_KEY} visible ASCII characters, for example a UUID")
    return key


def fingerprint_of(body: object) -> str:
    """A hash of method, path, policy and body, 32 hex digits; the order of the body's fields does not matter."""
    text = json.dumps([request.method, request.path, policy_header(), body], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
