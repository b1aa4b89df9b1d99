"""Limits on how much one user may request in a period, and on how many paintings may wait in all.

Pictures are counted where they are requested, so that all dialects share one count and a request for eight pictures
counts as eight.
"""

import logging
import time

from flask import Blueprint, Flask, current_app, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits import RateLimitItem, parse, parse_many
from limits.errors import StorageError
from werkzeug.exceptions import TooManyRequests

from jobs.api_keys import ApiKey
from jobs.queue import Queue
from memo import Unavailable
from web.auth import current_user
from web.config import WebConfig
from web.extensions import catalogue, web_config

log = logging.getLogger(__name__)

SIGN_IN_RATE = "20/minute"  # for one address
TIMEOUT_SECONDS = 3  # for the Redis that holds the counts
WRITING_METHODS = ("POST", "PUT", "PATCH", "DELETE")
UPLOAD = "init_images.upload"
CHARGED_WITH_PICTURES = (  # these count when their request has been checked, once for all of its pictures
    *("api.create_job", "api.create_variation", UPLOAD, "create.submit", "job.variation", "job.retry"),
    *("openai.generate", "openai.edit", "a1111.txt2img", "a1111.img2img", "horde.generate"),
)
UNCHARGED = (  # these relieve the server, only read, or are limited by address
    *("api.cancel_job", "job.cancel", "horde.cancel", "a1111.interrupt", "a1111.skip"),
    *("internal.progress_of_task", "sign_in.submit", "sign_in.sign_out"),
)


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


def charge_writing() -> None:
    """Count a request that writes, unless it is charged with its pictures; raises TooManyRequests."""
    if request.method in WRITING_METHODS and request.endpoint not in (*CHARGED_WITH_PICTURES, *UNCHARGED, None):
        charge_request()


def charge(pictures: int, *, dry_run: bool = False) -> None:
    """Count one request for this many pictures towards the user's limits, or with `dry_run` only check that it fits.

    Users without a key have no limits. Raises TooManyRequests.
    """
    charge_request(dry_run=dry_run)
    charge_daily("pictures", pictures, dry_run=dry_run)


def charge_request(*, dry_run: bool = False) -> None:
    """Count one request that writes, or repeats one that did, towards the user's rate; raises TooManyRequests."""
    if limited := limited_key():
        limits, key = limited
        for limit in parse_many(rate) if (rate := web_config().rate) else ():
            limits.spend(limit, f"requests of {key.name}", 1, dry_run=dry_run)


def charge_upload() -> None:
    """Count one upload: a key may upload as many pictures a day as it may request. Raises TooManyRequests.

    A request for pictures counts towards the rate by its pictures.
    """
    if request.endpoint == UPLOAD:
        charge_request()
    charge_daily("uploads", 1)


def charge_daily(what: str, count: int, *, dry_run: bool = False) -> None:
    """Count pictures or uploads towards the user's daily limit; raises TooManyRequests."""
    if limited := limited_key():
        limits, key = limited
        daily = web_config().daily if key.daily is None else str(key.daily)
        if daily:
            limits.spend(parse(f"{daily}/day"), f"{what} of {key.name}", count, dry_run=dry_run)


def limited_key() -> tuple[Limits, ApiKey] | None:
    """The counter and the user's key; None for users without limits."""
    limits: Limits | None = current_app.extensions.get("limits")
    key = current_user().key
    return (limits, key) if limits and key else None


def count_limiter_errors() -> int:
    """How many requests of this process were let through because they could not be counted."""
    limits: Limits | None = current_app.extensions.get("limits")
    return limits.errors if limits else 0


def check_queue_cap(queue: Queue, user: str) -> None:
    """Raise Unavailable when the queue is full, unless a user with a key has less than their share of it.

    The share is the same for all users for whom a painting waits.
    """
    cap, statistics = int(web_config().queue_cap), queue.job_store.statistics
    if (waiting := statistics.count_queued()) < cap:
        return
    if (key := current_user().key) and key.name == user:
        own, others = statistics.count_queued_for(user, catalogue().models())
        if own < max(1, cap // (others + 1)):
            return
    raise Unavailable(f"the queue is full: {waiting} paintings are waiting; try again later")


def storage_uri(redis: str) -> str:
    """A Redis URL in the form that the package `limits` expects."""
    return redis.replace("unix://", "redis+unix://", 1) if redis.startswith("unix://") else redis
