"""Re-rolls: clients without a memory policy ask for another picture by sending the same request again.

Users of such clients press "generate" again because they want something new. So a request that a user repeats after
receiving its picture gets a picture that they have not received yet. A request that is repeated because its answer
never arrived gets the same picture again.
"""

import logging
from collections.abc import Sequence

from flask import Response, after_this_request, request

from jobs.job import Job, State
from jobs.store.received import ReceivedPictures
from memo import Recipe, Unavailable

from .auth import current_user, visitor
from .extensions import job_store, web_config
from .limits.long_requests import disconnection_check

log = logging.getLogger(__name__)

NOT_RECORDED = "a repeated request may get the same pictures again: %s"


def pictures_to_avoid(wish: Recipe, receiver: str) -> set[str]:
    """The keys of the pictures that the receiver got lately, if one of them was for this wish; else none.

    Raises Unavailable.
    """
    seconds = reroll_seconds()
    repeatable = receiver and seconds and wish.seed is None
    return job_store().received.find(receiver, wish.key, seconds) if repeatable else set()


def record_received(jobs: Sequence[Job], receiver: str) -> None:
    """Record that the receiver gets the pictures of these jobs, which are final, with the current response.

    This is taken back if the client closes the connection before the response is sent.
    """
    received, is_gone = job_store().received, disconnection_check()
    if is_gone() or not record(received, jobs, receiver, reroll_seconds()):
        return

    @after_this_request
    def forget_if_not_sent(response: Response) -> Response:
        response.call_on_close(lambda: forget(received, jobs, receiver) if is_gone() else None)
        return response


def record_streamed(jobs: Sequence[Job], receiver: str) -> None:
    """Do the same as `record_received` at the end of the current response, a stream during which the jobs end."""
    store, is_gone, seconds = job_store(), disconnection_check(), reroll_seconds()

    def record_unless_gone() -> None:
        if is_gone():
            return
        try:
            record(store.received, store.jobs.find_all([job.id for job in jobs]), receiver, seconds)
        except Unavailable as error:
            log.warning(NOT_RECORDED, error)

    @after_this_request
    def record_at_end(response: Response) -> Response:
        response.call_on_close(record_unless_gone)
        return response


def record(received: ReceivedPictures, jobs: Sequence[Job], receiver: str, seconds: float) -> bool:
    """Record the pictures that are done and whose seed was left to the server; returns whether there are any."""
    done = [job for job in jobs if job.state is State.DONE and has_no_seed(job)]
    if not (done and seconds):
        return False
    try:
        received.record(receiver, wishes_of(done), keys_of(done), seconds)
    except Unavailable as error:
        log.warning(NOT_RECORDED, error)
    return True


def forget(received: ReceivedPictures, jobs: Sequence[Job], receiver: str) -> None:
    """Take back that the receiver got these pictures."""
    try:
        received.forget(receiver, wishes_of(jobs), keys_of(jobs))
    except Unavailable as error:
        log.warning("a retry may get other pictures than the first attempt: %s", error)


def wishes_of(jobs: Sequence[Job]) -> set[str]:
    """The keys of the wishes that these jobs answer."""
    return {job.wish.key for job in jobs}


def keys_of(jobs: Sequence[Job]) -> set[str]:
    """The keys of the pictures of these jobs."""
    return {job.key for job in jobs}


def has_no_seed(job: Job) -> bool:
    """Whether the user left the seed to the server."""
    return job.random_seed or job.recipe.seed is None


def reroll_seconds() -> float:
    """For how long a repeated request asks for another picture, in seconds; 0 if it never does."""
    return 60.0 * int(web_config().reroll_minutes)


def name_receiver(user: str = "") -> str:
    """Who receives the pictures: the key's user, else the named user or browser, else the client at an address."""
    if key := current_user().key:
        return f"key {key.id}"
    if name := user or visitor():
        return f"user {name}"
    return f"address {request.remote_addr} {request.user_agent.string}"
