"""A limit on how many requests of one user are worked on at once; the others wait for a permit.

Threads share one interpreter: without this limit, sixty requests of one user would slow down everybody else's. A
request gives its permit back while it waits for something, such as a painting or the next message of a stream.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from flask import Flask, current_app, g, request
from werkzeug.exceptions import TooManyRequests

from web.auth import PUBLIC_ENDPOINTS, name_caller

T = TypeVar("T")

RETRY_SECONDS = 1
PERMITS = 3
MOST_SECONDS = 2.0  # to wait for a permit: it takes longer only if the others wait for a service that hangs
MOST_WAITING = 70  # of the threads that are kept for short requests


@dataclass(slots=True)
class UserRequests:
    """The requests of one user that have a permit or wait for one."""

    permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(PERMITS))
    count: int = 0


class ConcurrencyLimit:
    """Gives each user a few permits."""

    def __init__(self) -> None:
        self.lock, self.by_user = threading.Lock(), dict[str, UserRequests]()

    @contextmanager
    def permit(self, user: str) -> Iterator[None]:
        """Hold a permit during the block, once one is free; without one after MOST_SECONDS."""
        with self.lock:
            requests = self.by_user.setdefault(user, UserRequests())
            requests.count += 1
        is_held = requests.permits.acquire(timeout=MOST_SECONDS)
        try:
            yield
        finally:
            if is_held:
                requests.permits.release()
            with self.lock:
                requests.count -= 1
                if not requests.count:
                    del self.by_user[user]

    def check(self, user: str) -> None:
        """Raise TooManyRequests if too many of this user's requests wait for a permit."""
        with self.lock:
            requests = self.by_user.get(user)
            if requests and requests.count >= PERMITS + MOST_WAITING:
                raise TooManyRequests(
                    f"{requests.count} of your requests are being answered: wait for them first",
                    retry_after=RETRY_SECONDS,
                )


def register(app: Flask) -> None:
    """Let each request have a permit until it ends; those that need no key need none.

    Expects that the user is known by then.
    """
    app.extensions["concurrency"] = ConcurrencyLimit()
    app.before_request(wait_for_permit)
    app.teardown_request(lambda _: give_back_permit())


def wait_for_permit() -> None:
    """Wait until this request may be worked on; raises TooManyRequests if too many of its user's wait already."""
    if request.endpoint not in PUBLIC_ENDPOINTS:
        concurrency().check(name_caller())
        take_permit()


def take_permit() -> None:
    """Wait for a permit of this user, which the request has from now on, unless it has one."""
    if "permit" not in g:
        g.permit = ExitStack()
        g.permit.enter_context(concurrency().permit(name_caller()))


def give_back_permit() -> None:
    """Let another request of this user have this one's permit, if it has one."""
    g.pop("permit", ExitStack()).close()


@contextmanager
def without_permit() -> Iterator[None]:
    """Let another request of this user have this one's permit during the block, if it has one."""
    had_permit = "permit" in g
    give_back_permit()
    try:
        yield
    finally:
        if had_permit:
            take_permit()


def waiting(items: Iterable[T]) -> Iterator[T]:
    """The items, each waited for without a permit."""
    iterator = iter(items)
    while True:
        with without_permit():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def concurrency() -> ConcurrencyLimit:
    """The limit of this application."""
    limit: ConcurrencyLimit = current_app.extensions["concurrency"]
    return limit
