"""Webhooks that wait in Redis until their receiver has accepted them: a POST when a job is final, at least once.

A delivery is kept in Redis from the moment that its job is recorded, and becomes due in the script that makes the job
final. A worker takes it under a lease, so that another worker makes it if the first one dies. Receivers recognize a
repeated delivery by its id. Knows the job store; nothing of HTTP or painting.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.job import Job
from jobs.store.connection import redis_errors
from jobs.store.job_store import JobStore
from jobs.store.records import pair_up
from jobs.store.scripts import CLOCK
from memo import BadRecipe

from .receivers import Receivers

RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0)  # before each further attempt; after the last there is none
LEASE_SECONDS = 60.0  # much longer than a delivery may take
NATIVE, HORDE = "native", "horde"

# ARGV: prefix, delivery id, job id, painting id ('' = none), webhook as JSON. The delivery waits for the
# painting while that is under way and the job is not cancelled; otherwise it is due now.
KEEP = (
    CLOCK
    + """
local prefix, id, job, painting = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('HSET', prefix..'webhook:'..id, 'webhook', ARGV[5], 'attempts', 0)
local state = painting ~= '' and redis.call('HGET', prefix..'painting:'..painting, 'state')
local under_way = state == 'queued' or state == 'running'
if under_way and not redis.call('HGET', prefix..'job:'..job, 'cancelled') then
  redis.call('SADD', prefix..'webhooks-of:'..painting, id)
  redis.call('HSET', prefix..'job:'..job, 'webhook', id)
else
  redis.call('ZADD', prefix..'webhooks', clock(), id)
end
"""
)

# ARGV: prefix, lease seconds. Returns {id, field, value …} of the delivery that has been due longest, or nil.
TAKE = (
    CLOCK
    + """
local prefix, now = ARGV[1], clock()
while true do
  local id = redis.call('ZRANGEBYSCORE', prefix..'webhooks', '-inf', now, 'LIMIT', 0, 1)[1]
  if not id then return nil end
  local delivery = redis.call('HGETALL', prefix..'webhook:'..id)
  if #delivery > 0 then
    redis.call('ZADD', prefix..'webhooks', now + ARGV[2], id)
    return {id, unpack(delivery)}
  end
  redis.call('ZREM', prefix..'webhooks', id)
end
"""
)

# ARGV: prefix, delivery id, attempts so far, seconds until it is due again. Does nothing if it was made meanwhile.
RETRY = (
    CLOCK
    + """
local prefix, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', prefix..'webhook:'..id) == 1 then
  redis.call('HSET', prefix..'webhook:'..id, 'attempts', ARGV[3])
  redis.call('ZADD', prefix..'webhooks', clock() + ARGV[4], id)
end
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where to report the end of a job, and in which form."""

    url: str
    job: str
    form: str = NATIVE  # or HORDE
    links: Mapping[str, str] = field(default_factory=dict)  # native: absolute URLs of self, picture and image
    request: str = ""  # Horde: the id of the whole request
    img: str = ""  # Horde: the picture's URL; "" sends the picture itself


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is due; `attempts` were made before."""

    id: str
    webhook: Webhook
    attempts: int


class Webhooks:
    """The deliveries in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, job_store: JobStore, secret: str | None = None, receivers: Receivers | None = None) -> None:
        self.job_store, self.secret, self.receivers = job_store, secret, receivers or Receivers()
        self.connection = job_store.connection
        self.run_keep, self.run_take, self.run_retry = map(self.connection.script, (KEEP, TAKE, RETRY))

    def check(self, url: object) -> str:
        """The URL; raises BadRecipe when nothing can be sent there."""
        if not self.secret:
            raise BadRecipe(
                "webhook", url, "leave it out: this server has no JOBS_WEBHOOK_SECRET to sign webhooks with"
            )
        self.receivers.check(url)
        return str(url)

    def add(self, job: Job, webhook: Webhook) -> str:
        """Keep a delivery durably until the receiver has accepted it; returns its id."""
        delivery = secrets.token_hex(16)
        fields = {name: getattr(webhook, name) for name in webhook.__slots__}
        self.run_keep(delivery, job.id, job.painting or "", json.dumps(fields))
        return delivery

    def take_due(self) -> Delivery | None:
        """Take the delivery that has been due longest, for LEASE_SECONDS; None when none is due."""
        if (reply := self.run_take(LEASE_SECONDS)) is None:
            return None
        delivery, *fields = reply
        values = pair_up(fields)
        return Delivery(delivery, Webhook(**json.loads(values["webhook"])), int(values["attempts"]))

    def remove(self, delivery: Delivery) -> None:
        """Remove a delivery that the receiver has accepted, or never will."""
        with redis_errors():
            pipe = self.connection.redis.pipeline(transaction=True)
            pipe.delete(f"{self.connection.prefix}webhook:{delivery.id}")
            pipe.zrem(self.connection.prefix + "webhooks", delivery.id)
            pipe.execute()

    def retry(self, delivery: Delivery) -> float | None:
        """Schedule another attempt; returns the seconds until then, or None after the last attempt."""
        if delivery.attempts >= len(RETRY_SECONDS):
            self.remove(delivery)
            return None
        wait = RETRY_SECONDS[delivery.attempts]
        self.run_retry(delivery.id, delivery.attempts + 1, wait)
        return wait
