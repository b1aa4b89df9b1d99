"""A limit on how many requests of one user may hold a thread for long: event streams, and waiting for pictures.

The limit counts the requests of this process only. Together they may hold MAX_LONG threads; the others are kept for
short requests, so that memory's answers and the health check go on whatever waits.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from flask import Flask, Response, abort, current_app, g, request, stream_with_context
from werkzeug.exceptions import TooManyRequests

from memo import Unavailable
from web.auth import CROSS_SITE, is_cross_site, is_still_permitted, name_caller
from web.config import WebConfig

from .concurrency import give_back_permit

MAX_LONG = 300  # long requests of all users at once
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
COUNTED = "memoaized long request"  # in the environment of a request that is counted
RETRY_SECONDS = 10
RECHECK_SECONDS = 1.0  # a stream looks its user's key up again before a message, at most this often


class LongRequests:
    """Counts the long requests of each user; `limit` None allows one user any number.

    A request whose client is gone ends within seconds. Until then it holds its thread and counts for all users
    together, but its own user may send as many new ones as the limit allows.
    """

    def __init__(self, limit: int | None, most: int = MAX_LONG) -> None:
        self.limit, self.most, self.lock = limit, most, threading.Lock()
        self.by_user = defaultdict[str, list[Callable[[], bool]]](list)  # whether each client is gone

    def acquire(self, user: str, is_gone: Callable[[], bool]) -> None:
        """Count another request of this user; raises TooManyRequests beyond the limit, Unavailable beyond `most`."""
        with self.lock:
            if self.limit is not None:
                check_limit(self.by_user.get(user, []), self.limit)
            if sum(map(len, self.by_user.values())) >= self.most:
                raise Unavailable(f"{self.most} requests are streaming or waiting: poll instead, or try again later")
            self.by_user[user].append(is_gone)

    def release(self, user: str, is_gone: Callable[[], bool]) -> None:
        """Stop counting one of this user's requests."""
        with self.lock:
            self.by_user[user].remove(is_gone)
            if not self.by_user[user]:
                del self.by_user[user]


def check_limit(requests: list[Callable[[], bool]], limit: int) -> None:
    """Raise TooManyRequests for a user who has `limit` requests, or twice as many with those whose client is gone."""
    if len(requests) >= 2 * limit or sum(not is_gone() for is_gone in requests) >= limit:
        raise TooManyRequests(
            f"of one user's requests, at most {limit} may stream or wait at once: close one, or poll instead",
            retry_after=RETRY_SECONDS,
        )


def register(app: Flask, config: WebConfig) -> None:
    """Count long requests, each until its response is closed."""
    app.extensions["long_requests"] = LongRequests(int(config.long_requests) if config.long_requests else None)
    app.teardown_request(lambda _: g.pop("long_request", ExitStack()).close())


def hold_thread() -> None:
    """Count this request as a long one, once, until it ends; raises TooManyRequests or Unavailable.

    Flask ends the request of an event stream before the stream, so the mark is not kept in `g.long_request`.
    """
    if not request.environ.get(COUNTED):
        requests: LongRequests = current_app.extensions["long_requests"]
        user, is_gone = name_caller(), disconnection_check()
        requests.acquire(user, is_gone)
        request.environ[COUNTED] = True
        g.long_request = ExitStack()
        g.long_request.callback(requests.release, user, is_gone)


def event_stream(messages: Iterator[str], headers: Mapping[str, str] | None = None) -> Response:
    """The messages as Server-Sent Events: a long request until the response is closed, even if nothing was sent.

    Aborts with 403 if a page of another site asks for it, which could not read it, but could use up the limit.
    """
    if is_cross_site():
        abort(403, CROSS_SITE)
    hold_thread()
    give_back_permit()  # streams need none; otherwise many streams of one job would hold up other requests
    body = stream_with_context(while_permitted(messages))
    response = Response(body, mimetype="text/event-stream", headers={**HEADERS, **(headers or {})})
    response.call_on_close(g.long_request.pop_all().close)  # the end of the request closes nothing then
    return response


def while_permitted(messages: Iterator[str]) -> Iterator[str]:
    """The messages until the user's key is removed or their session ends, or until that cannot be looked up."""
    checked = time.monotonic()
    for message in messages:
        if time.monotonic() - checked >= RECHECK_SECONDS:
            try:
                if not is_still_permitted():
                    return
            except Unavailable:
                return
            checked = time.monotonic()
        yield message


def client_is_gone() -> bool:
    """Whether the client has closed its connection, as far as the web server can tell."""
    return disconnection_check()()


def disconnection_check() -> Callable[[], bool]:
    """Waitress' function that tells whether the client is gone, for any thread; with other servers nobody ever is."""
    check: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return check
