"""How much one key may ask for in a time, and how much may wait in all.

Counted where pictures are asked for, so that all dialects share one count, and a request for eight pictures counts
as eight. Knows numbers; not whose they are.
"""

import logging
import time

from flask import Blueprint, Flask, current_app
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits import RateLimitItem, parse, parse_many
from limits.errors import StorageError
from werkzeug.exceptions import TooManyRequests

from jobs.queue import Queue
from memo import Unavailable

from .auth import who
from .config import WebConfig

log = logging.getLogger(__name__)

SIGN_INS = "20/minute"  # from one address
PATIENCE_SECONDS = 3  # for the server that counts


class Limits:
    """Counts in Redis, over a moving window. While that does not answer, nobody is stopped and `unlimited` counts."""

    def __init__(self, app: Flask, uri: str) -> None:
        self.unlimited = 0
        waits = {"socket_connect_timeout": PATIENCE_SECONDS, "socket_timeout": PATIENCE_SECONDS}
        self.limiter = Limiter(
            get_remote_address,
            app=app,
            storage_uri=uri,
            storage_options={**waits, "wrap_exceptions": True},
            strategy="moving-window",
            headers_enabled=True,
            swallow_errors=True,
        )

    def spend(self, limit: RateLimitItem, name: str, cost: int, *, only_look: bool) -> None:
        """Count for a name, or look whether one might; 429 with the time to come back when that is too much."""
        strategy = self.limiter.limiter
        try:
            if (strategy.test if only_look else strategy.hit)(limit, name, cost=cost):
                return
            wait = strategy.get_window_stats(limit, name).reset_time - time.time()
        except StorageError as error:
            self.unlimited += not only_look
            log.warning("not counted: %s", error.storage_error)
            return
        raise TooManyRequests(f"no more than {limit} may be asked for", retry_after=max(1, round(wait)))


def register(app: Flask, config: WebConfig, door: Blueprint) -> None:
    """Count, if it is said where; who comes to the door is limited by address, since nobody is known yet."""
    if config.limits:
        app.extensions["limits"] = limits = Limits(app, config.limits)
        limits.limiter.limit(SIGN_INS, methods=["POST"])(door)


def charge(pictures: int, *, only_look: bool = False) -> None:
    """Count a request of the caller for so many pictures, or look whether it might be one too many: then 429.

    Without keys nothing counts.
    """
    limits: Limits | None = current_app.extensions.get("limits")
    holder = who().holder
    if limits is None or holder is None:
        return
    config: WebConfig = current_app.extensions["config"]
    for limit in parse_many(config.rate) if config.rate else ():
        limits.spend(limit, f"requests of {holder.name}", 1, only_look=only_look)
    daily = config.daily if holder.daily is None else str(holder.daily)
    if daily:
        limits.spend(parse(f"{daily}/day"), f"pictures of {holder.name}", pictures, only_look=only_look)


def unlimited() -> int:
    """How many requests of this process could not be counted."""
    limits: Limits | None = current_app.extensions.get("limits")
    return limits.unlimited if limits else 0


def admit(queue: Queue) -> None:
    """Raise Unavailable when as many paintings wait as may."""
    config: WebConfig = current_app.extensions["config"]
    if (waiting := queue.job_store.statistics.count_queued()) >= int(config.queue_cap):
        raise Unavailable(f"{waiting} paintings wait already, and no more may: come back in a while")


def storage_uri(redis: str) -> str:
    """The URL of a Redis in the words of the package `limits`."""
    return redis.replace("unix://", "redis+unix://", 1) if redis.startswith("unix://") else redis
