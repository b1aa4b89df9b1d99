"""Responses as Server-Sent Events, with a limit on how many one user may hold open: each occupies a thread.

The limit counts the streams of this process only.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from flask import Response, current_app, request, stream_with_context
from werkzeug.exceptions import TooManyRequests

from .auth import current_user
from .config import WebConfig

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
RETRY_SECONDS = 10


class Streams:
    """Counts the open streams of each user; `limit` None allows any number.

    A stream whose client is gone ends at its next message. Until then it is open, but no longer counted.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit, self.lock = limit, threading.Lock()
        self.open_streams = defaultdict[str, list[Callable[[], bool]]](list)  # whether each client is gone, by user

    def acquire(self, user: str, is_gone: Callable[[], bool]) -> None:
        """Count another stream of this user; raises TooManyRequests if they have as many as the limit allows."""
        with self.lock:
            if self.limit is not None and sum(not gone() for gone in self.open_streams[user]) >= self.limit:
                raise TooManyRequests(
                    f"at most {self.limit} event streams may be open at once: close one, or poll instead",
                    retry_after=RETRY_SECONDS,
                )
            self.open_streams[user].append(is_gone)

    def release(self, user: str, is_gone: Callable[[], bool]) -> None:
        """Stop counting one of this user's streams."""
        with self.lock:
            self.open_streams[user].remove(is_gone)
            if not self.open_streams[user]:
                del self.open_streams[user]


def create_streams(config: WebConfig) -> Streams:
    """A counter with the configured limit."""
    return Streams(int(config.streams) if config.streams else None)


def event_stream(messages: Iterator[str]) -> Response:
    """The messages as a response, which counts towards the limit until it is closed, even if nothing was sent."""
    streams: Streams = current_app.extensions["streams"]
    user, is_gone = stream_user(), request.environ.get("waitress.client_disconnected", lambda: False)
    streams.acquire(user, is_gone)
    cleanup = ExitStack()  # a response may be closed twice
    cleanup.callback(streams.release, user, is_gone)
    response = Response(stream_with_context(messages), mimetype="text/event-stream", headers=HEADERS)
    response.call_on_close(cleanup.close)
    return response


def stream_user() -> str:
    """The name under which this user's streams are counted; users without a key are told apart by their address."""
    key = current_user().key
    return f"key {key.name}" if key else f"address {request.remote_addr}"
