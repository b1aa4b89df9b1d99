"""Gates for pictures: few uploads are read and few pictures converted at once, since each may take 60 MB or more.

An upload is charged before it is read.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, abort, current_app, g

from memo import Unavailable
from web.auth import is_still_permitted, name_caller

from .concurrency import without_permit
from .long_requests import RECHECK_SECONDS, hold_thread
from .rates import charge_upload

PLACES = 2  # uploads that a process reads at once, and pictures that it converts
WAIT_SECONDS = 30.0  # how long an upload may wait to be read
PATIENCE_SECONDS = 300.0  # how long a picture may wait to be converted; painting it may have taken minutes


class Gate:
    """Admits a few users at a time, with one request each, and in turns.

    So the many requests of one user, or of a few, cannot block the others: a user waits for one turn of every other
    user at most.
    """

    def __init__(self, places: int = PLACES) -> None:
        self.places, self.inside, self.changed = places, set[str](), threading.Condition()
        self.waiting, self.order, self.numbers = Counter[str](), dict[str, int](), itertools.count()

    @contextmanager
    def turn(self, user: str, seconds: float = WAIT_SECONDS) -> Iterator[None]:
        """Wait for a place and hold it during the block; raises Unavailable after this many seconds."""
        with self.changed:
            self.waiting[user] += 1
            self.order.setdefault(user, next(self.numbers))
            try:
                if not self.changed.wait_for(lambda: self.is_open_for(user), seconds):
                    raise Unavailable("too many pictures are being read or converted at the moment: try again later")
                self.inside.add(user)
                self.order[user] = next(self.numbers)  # the user's other requests come after everybody who waits now
            finally:
                self.waiting[user] -= 1
                if not self.waiting[user]:
                    del self.waiting[user], self.order[user]
                self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.inside.remove(user)
                self.changed.notify_all()

    def is_open_for(self, user: str) -> bool:
        """Whether a user may come in now: there is a place, and of those who could take it, they come first."""
        able = [other for other in self.waiting if other not in self.inside]
        return user in able and len(self.inside) < self.places and user == min(able, key=lambda one: self.order[one])


def register(app: Flask) -> None:
    """Give the application its gates."""
    app.extensions.update(uploads=Gate(), conversions=Gate())


@contextmanager
def upload_turn(*, kept: bool = True, seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Wait for a turn to read an upload, and charge the user for it if it will be `kept`.

    A turn inside a turn is the same one. Raises TooManyRequests, or Unavailable after `seconds`.
    """
    if g.get("has_turn"):
        yield
        return
    with turn_at("uploads", seconds):
        if kept:
            charge_upload()
        g.has_turn = True
        try:
            yield
        finally:
            g.has_turn = False


@contextmanager
def conversion_turn(seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Wait for a turn to convert a picture to another format; raises TooManyRequests or Unavailable."""
    with turn_at("conversions", seconds):
        yield


@contextmanager
def turn_at(name: str, seconds: float) -> Iterator[None]:
    """Wait at the gate of this name, then hold a place during the block. Raises TooManyRequests or Unavailable.

    Aborts with 401 if the user's key was removed meanwhile.
    """
    hold_thread()
    gate: Gate = current_app.extensions[name]
    began = time.monotonic()
    with without_permit(), gate.turn(name_caller(), seconds):  # no permit: the gate already limits the load
        if time.monotonic() - began >= RECHECK_SECONDS and not is_still_permitted():
            abort(401, "the key was removed, or its session ended, while the request waited")
        yield
