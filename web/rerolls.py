"""Re-rolls: clients without a memory policy ask for another picture by sending the same request again.

Users of such clients press "generate" again because they want something new. So a request that a user repeats after
receiving its picture gets a picture that they have not received yet. A request that is repeated because its answer
never arrived gets the same picture again.
"""

import logging
from collections.abc import Sequence

from flask import request

from jobs.job import Job
from jobs.store.received import make_receipt
from memo import Recipe, Unavailable

from .auth import current_user, visitor
from .extensions import job_store, web_config
from .limits.long_requests import client_is_gone

log = logging.getLogger(__name__)


def name_recipient(user: str = "") -> str:
    """Who receives the pictures of this request: the user of a key or of a browser, or a program at an address.

    `user` is the name in the request, if any: one program, with one key, may send the requests of many people.
    """
    if key := current_user().key:
        return f"key {key.id} {user}"
    if name := user or visitor():
        return f"user {name}"
    return f"address {request.remote_addr} {request.user_agent.string}"


def receipt_of(recipient: str, wish: Recipe) -> str:
    """The receipt for the pictures of a wish; "" without a recipient, or if a seed names the picture."""
    return make_receipt(recipient, wish.key) if recipient and wish.seed is None else ""


def pictures_to_avoid(receipt: str) -> set[str]:
    """The keys of the pictures that the recipient got lately, if one was for the same wish. Raises Unavailable."""
    seconds = reroll_seconds()
    return job_store().received.find(receipt, seconds) if receipt and seconds else set()


def record_received(jobs: Sequence[Job]) -> None:
    """Record that the recipients get the pictures of these jobs now, unless the client is gone."""
    if (seconds := reroll_seconds()) and not client_is_gone():
        try:
            job_store().received.record(jobs, seconds)
        except Unavailable as error:
            log.warning("a repeated request may get the same pictures again: %s", error)


def reroll_seconds() -> float:
    """For how long a repeated request asks for another picture, in seconds; 0 if it never does."""
    return 60.0 * int(web_config().reroll_minutes)
