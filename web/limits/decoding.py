"""A gate for uploads: few are read at once, since a small file may unpack to 60 MB, and each is charged before."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, current_app, g

from memo import Unavailable

from .long_requests import hold_thread, name_caller
from .rates import charge_upload

PLACES = 2  # uploads that a process reads at once
WAIT_SECONDS = 30.0


class Gate:
    """Lets a few users through at once; one user has one place, so that others need not wait for all of theirs."""

    def __init__(self, places: int = PLACES) -> None:
        self.places, self.inside, self.changed = places, set[str](), threading.Condition()

    @contextmanager
    def turn(self, user: str, seconds: float = WAIT_SECONDS) -> Iterator[None]:
        """Wait for a place, and keep it; raises Unavailable when none is free in time."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.is_open_for(user), seconds):
                raise Unavailable("too many pictures are being read at the moment: try again later")
            self.inside.add(user)
        try:
            yield
        finally:
            with self.changed:
                self.inside.remove(user)
                self.changed.notify_all()

    def is_open_for(self, user: str) -> bool:
        """Whether a user may come in now."""
        return user not in self.inside and len(self.inside) < self.places


def register(app: Flask) -> None:
    """Give the application its gate."""
    app.extensions["gate"] = Gate()


@contextmanager
def upload_turn(*, kept: bool = True) -> Iterator[None]:
    """Charge the user for an upload if it will be `kept`, and wait for a turn to read it.

    A turn inside a turn is the same one. Raises TooManyRequests or Unavailable.
    """
    if g.get("has_turn"):
        yield
        return
    if kept:
        charge_upload()
    hold_thread()
    gate: Gate = current_app.extensions["gate"]
    with gate.turn(name_caller()):
        g.has_turn = True
        try:
            yield
        finally:
            g.has_turn = False
