"""Limits on how much one user may request in a period, and on how many paintings may wait in all.

Pictures are counted where they are requested, so that all dialects share one count and a request for eight pictures
counts as eight.
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

from .auth import current_user
from .config import WebConfig
from .extensions import web_config

log = logging.getLogger(__name__)

SIGN_IN_RATE = "20/minute"  # for one address
TIMEOUT_SECONDS = 3  # for the Redis that holds the counts


class Limits:
    """Counts requests in Redis over a moving window.

    While Redis does not respond, every request is let through and `errors` counts it.
    """

    def __init__(self, app: Flask, uri: str) -> None:
        self.errors = 0
        timeouts = {"socket_connect_timeout": TIMEOUT_SECONDS, "socket_timeout": TIMEOUT_SECONDS}
        self.limiter = Limiter(
            get_remote_address,
            app=app,
            storage_uri=uri,
            storage_options={**timeouts, "wrap_exceptions": True},
            strategy="moving-window",
            headers_enabled=True,
            swallow_errors=True,
        )

    def spend(self, limit: RateLimitItem, name: str, cost: int, *, dry_run: bool) -> None:
        """Count `cost` for a name, or with `dry_run` only check that it fits.

        Raises TooManyRequests, with the time to retry, when it exceeds the limit.
        """
        strategy = self.limiter.limiter
        try:
            if (strategy.test if dry_run else strategy.hit)(limit, name, cost=cost):
                return
            wait = strategy.get_window_stats(limit, name).reset_time - time.time()
        except StorageError as error:
            self.errors += not dry_run
            log.warning("a request was not counted towards its limit: %s", error.storage_error)
            return
        raise TooManyRequests(f"the limit of {limit} is used up: try again later", retry_after=max(1, round(wait)))


def register(app: Flask, config: WebConfig, sign_in: Blueprint) -> None:
    """Enforce the limits if a Redis is configured. Signing in is limited by address, since no user is known yet."""
    if config.limits:
        app.extensions["limits"] = limits = Limits(app, config.limits)
        limits.limiter.limit(SIGN_IN_RATE, methods=["POST"])(sign_in)


def charge(pictures: int, *, dry_run: bool = False) -> None:
    """Count one request for this many pictures towards the user's limits, or with `dry_run` only check that it fits.

    Users without a key have no limits. Raises TooManyRequests.
    """
    limits: Limits | None = current_app.extensions.get("limits")
    key = current_user().key
    if limits is None or key is None:
        return
    config = web_config()
    for limit in parse_many(config.rate) if config.rate else ():
        limits.spend(limit, f"requests of {key.name}", 1, dry_run=dry_run)
    daily = config.daily if key.daily is None else str(key.daily)
    if daily:
        limits.spend(parse(f"{daily}/day"), f"pictures of {key.name}", pictures, dry_run=dry_run)


def count_limiter_errors() -> int:
    """How many requests of this process were let through because they could not be counted."""
    limits: Limits | None = current_app.extensions.get("limits")
    return limits.errors if limits else 0


def check_queue_cap(queue: Queue) -> None:
    """Raise Unavailable when the queue is full."""
    if (waiting := queue.job_store.statistics.count_queued()) >= int(web_config().queue_cap):
        raise Unavailable(f"the queue is full: {waiting} paintings are waiting; try again later")


def storage_uri(redis: str) -> str:
    """A Redis URL in the form that the package `limits` expects."""
    return redis.replace("unix://", "redis+unix://", 1) if redis.startswith("unix://") else redis
