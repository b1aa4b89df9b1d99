"""Answers that go on as Server-Sent Events, and how many of them one caller may hold: each keeps a thread.

Counted in this process. Knows no messages.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response, current_app, request, stream_with_context
from werkzeug.exceptions import TooManyRequests

from .auth import who
from .config import WebConfig

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
RETRY_SECONDS = 10


class Streams:
    """How many are open, by caller."""

    def __init__(self, most: int | None) -> None:
        self.most, self.open, self.lock = most, Counter[str](), threading.Lock()

    def take(self, name: str) -> None:
        """One more; 429 when the caller holds as many as one may."""
        with self.lock:
            if self.most is not None and self.open[name] >= self.most:
                raise TooManyRequests(
                    f"no more than {self.most} event streams may be open at once: close one, or ask without a stream",
                    retry_after=RETRY_SECONDS,
                )
            self.open[name] += 1

    def give_back(self, name: str) -> None:
        """One less."""
        with self.lock:
            self.open[name] -= 1
            if not self.open[name]:
                del self.open[name]


def streams_of(config: WebConfig) -> Streams:
    """As it is configured."""
    return Streams(int(config.streams) if config.streams else None)


def streamed(messages: Iterator[str]) -> Response:
    """The messages as an answer; it counts until it is closed, even if nothing of it was ever sent."""
    streams: Streams = current_app.extensions["streams"]
    streams.take(name := caller())
    held = ExitStack()  # an answer may be closed twice
    held.callback(streams.give_back, name)
    answer = Response(stream_with_context(messages), mimetype="text/event-stream", headers=HEADERS)
    answer.call_on_close(held.close)
    return answer


def caller() -> str:
    """Whose stream it is: who has no key is told apart by the address."""
    holder = who().holder
    return f"key {holder.name}" if holder else f"address {request.remote_addr}"
