"""Responses as Server-Sent Events, with a limit on how many one user may hold open: each occupies a thread.

The limit counts the streams of this process only.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response, current_app, request, stream_with_context
from werkzeug.exceptions import TooManyRequests

from .auth import current_user
from .config import WebConfig

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
RETRY_SECONDS = 10


class Streams:
    """Counts the open streams of each user; `limit` None allows any number."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.open_streams, self.lock = limit, Counter[str](), threading.Lock()

    def acquire(self, user: str) -> None:
        """Count another stream of this user; raises TooManyRequests if they have as many as the limit allows."""
        with self.lock:
            if self.limit is not None and self.open_streams[user] >= self.limit:
                raise TooManyRequests(
                    f"at most {self.limit} event streams may be open at once: close one, or poll instead",
                    retry_after=RETRY_SECONDS,
                )
            self.open_streams[user] += 1

    def release(self, user: str) -> None:
        """Stop counting one of this user's streams."""
        with self.lock:
            self.open_streams[user] -= 1
            if not self.open_streams[user]:
                del self.open_streams[user]


def create_streams(config: WebConfig) -> Streams:
    """A counter with the configured limit."""
    return Streams(int(config.streams) if config.streams else None)


def event_stream(messages: Iterator[str]) -> Response:
    """The messages as a response, which counts towards the limit until it is closed, even if nothing was sent."""
    streams: Streams = current_app.extensions["streams"]
    streams.acquire(user := stream_user())
    cleanup = ExitStack()  # a response may be closed twice
    cleanup.callback(streams.release, user)
    response = Response(stream_with_context(messages), mimetype="text/event-stream", headers=HEADERS)
    response.call_on_close(cleanup.close)
    return response


def stream_user() -> str:
    """The name under which this user's streams are counted; users without a key are told apart by their address."""
    key = current_user().key
    return f"key {key.name}" if key else f"address {request.remote_addr}"
