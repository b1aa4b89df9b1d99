"""Limits how many requests of one user run at the same time. A request needs a permit; without one, it waits.

All threads share one Python interpreter. Without this limit, sixty requests of one user would slow down everybody
else. A request gives its permit back while it waits, for example for a painting. An event stream has none.
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
MAX_HOLD_SECONDS = 0.5  # a request that takes longer is probably waiting for a service, so it loses its permit
MAX_WAITING = 80  # per user; each waiting request occupies one of the 300 threads for short requests
MAX_TOGETHER = 240  # of all users; when reached, a request is accepted only if its user has fewer than PERMITS


class UserPermits:
    """The permits of one user. After MAX_HOLD_SECONDS, the next request gets the permit."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held = dict[object, float]()  # permit -> the time when it was taken; the oldest is first
        self.requests = 0  # requests that have a permit or wait for one; protected by ConcurrencyLimit.lock

    def take(self) -> object:
        """Wait for a permit."""
        permit = object()
        with self.changed:
            while len(self.held) >= PERMITS and not self.drop_expired():
                self.changed.wait(MAX_HOLD_SECONDS - self.longest_held())
            self.held[permit] = time.monotonic()
        return permit

    def drop_expired(self) -> bool:
        """Free the oldest permit if it has expired; return whether it had."""
        if is_expired := self.longest_held() >= MAX_HOLD_SECONDS:
            del self.held[next(iter(self.held))]
        return is_expired

    def longest_held(self) -> float:
        """The age of the oldest permit, in seconds."""
        return time.monotonic() - next(iter(self.held.values()))

    def give_back(self, permit: object) -> None:
        """Return the permit and wake the next request. An expired permit is ignored."""
        with self.changed:
            if self.held.pop(permit, None) is not None:
                self.changed.notify()


class ConcurrencyLimit:
    """The permits of all users."""

    def __init__(self) -> None:
        self.lock, self.by_user = threading.Lock(), dict[str, UserPermits]()

    @contextmanager
    def permit(self, user: str) -> Iterator[None]:
        """Wait for a permit, and return it at the end of the `with` block."""
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
        """Raise TooManyRequests if this user has too many requests, or all users together and this one several."""
        with self.lock:
            permits = self.by_user.get(user)
            requests = permits.requests if permits else 0
            together = sum(permits.requests for permits in self.by_user.values())
            if requests >= PERMITS + MAX_WAITING or (together >= MAX_TOGETHER and requests >= PERMITS):
                raise TooManyRequests(
                    f"{requests} of your requests are being answered: wait for them first", retry_after=RETRY_SECONDS
                )


def register(app: Flask) -> None:
    """Make each request take a permit, except those to public endpoints.

    Call this after authentication has been registered, because permits are counted per user.
    """
    app.extensions["concurrency"] = ConcurrencyLimit()
    app.before_request(wait_for_permit)
    app.teardown_request(lambda _: give_back_permit())


def wait_for_permit() -> None:
    """Wait for a permit before the request is handled; raises TooManyRequests if the user's queue is full."""
    if request.endpoint not in PUBLIC_ENDPOINTS:
        concurrency().check(name_caller())
        take_permit()


def take_permit() -> None:
    """Take a permit for the current request, waiting if necessary. Does nothing if it already has one."""
    if "permit" not in g:
        g.permit = ExitStack()
        g.permit.enter_context(concurrency().permit(name_caller()))


def give_back_permit() -> None:
    """Give the current request's permit back, if it has one."""
    g.pop("permit", ExitStack()).close()


@contextmanager
def without_permit() -> Iterator[None]:
    """Run the `with` block without a permit, then wait for a new one."""
    had_permit = "permit" in g
    give_back_permit()
    try:
        yield
    finally:
        if had_permit:
            take_permit()


def wait_without_permit(items: Iterable[T]) -> Iterator[T]:
    """Yield the items. The request has no permit while it waits for the next item."""
    iterator = iter(items)
    while True:
        with without_permit():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def concurrency() -> ConcurrencyLimit:
    """The permits of the current application."""
    limit: ConcurrencyLimit = current_app.extensions["concurrency"]
    return limit
