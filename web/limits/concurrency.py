"""A limit on how many requests of one user are worked on at once; the others wait for a permit.

Threads share one interpreter: without this limit, sixty requests of one user would slow down everybody else's. A
request gives its permit back while it waits for something, such as a painting or the next message of a stream.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from flask import Flask, current_app, g, request
from werkzeug.exceptions import TooManyRequests

from web.auth import PUBLIC_ENDPOINTS, name_caller

T = TypeVar("T")

RETRY_SECONDS = 1
PERMITS = 3
MOST_SECONDS = 0.5  # a permit is held: a request that takes longer waits for a service, such as the store
MOST_WAITING = 70  # requests of one user; each holds one of the threads kept for short requests


class UserPermits:
    """The permits of one user. One that is held for MOST_SECONDS is passed on, and its holder goes on without it."""

    def __init__(self) -> None:
        self.changed, self.held = threading.Condition(), dict[object, float]()  # each since when, the oldest first
        self.requests = 0  # that have a permit or wait for one; under the lock of the limit

    def take(self) -> object:
        """Wait for a permit."""
        permit = object()
        with self.changed:
            while len(self.held) >= PERMITS and not self.drop_expired():
                self.changed.wait(MOST_SECONDS - self.longest_held())
            self.held[permit] = time.monotonic()
        return permit

    def drop_expired(self) -> bool:
        """Whether the permit that is held longest had expired; it is free then."""
        if is_expired := self.longest_held() >= MOST_SECONDS:
            del self.held[next(iter(self.held))]
        return is_expired

    def longest_held(self) -> float:
        """For how many seconds the oldest permit has been held."""
        return time.monotonic() - next(iter(self.held.values()))

    def give_back(self, permit: object) -> None:
        """Let the next request have the permit, unless it was passed on already."""
        with self.changed:
            if self.held.pop(permit, None) is not None:
                self.changed.notify()


class ConcurrencyLimit:
    """Gives each user a few permits."""

    def __init__(self) -> None:
        self.lock, self.by_user = threading.Lock(), dict[str, UserPermits]()

    @contextmanager
    def permit(self, user: str) -> Iterator[None]:
        """Hold a permit during the block, once one is free."""
        with self.lock:
            permits = self.by_user.setdefault(user, UserPermits())
            permits.requests += 1
        try:
            permit = permits.take()
            try:
                yield
            finally:
                permits.give_back(permit)
        finally:
            with self.lock:
                permits.requests -= 1
                if not permits.requests:
                    del self.by_user[user]

    def check(self, user: str) -> None:
        """Raise TooManyRequests if too many of this user's requests wait for a permit."""
        with self.lock:
            permits = self.by_user.get(user)
            if permits and permits.requests >= PERMITS + MOST_WAITING:
                raise TooManyRequests(
                    f"{permits.requests} of your requests are being answered: wait for them first",
                    retry_after=RETRY_SECONDS,
                )


def register(app: Flask) -> None:
    """Let each request have a permit until it ends; public endpoints need none.

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
