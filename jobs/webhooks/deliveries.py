"""Webhooks that wait in Redis until their receiver has accepted them: a POST when a job is final, at least once.

A delivery is kept in Redis from the moment that its job is recorded, and becomes due in the script that makes the job
final. A worker takes it under a lease, so that another worker makes it if the first one dies. Receivers recognize a
repeated delivery by its id. Knows the job store; nothing of HTTP or painting.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from jobs.job import Job
from jobs.store.connection import redis_errors
from jobs.store.job_store import JobStore
from jobs.store.records import hash_name, pair_up
from jobs.store.scripts import CLOCK
from memo import BadRecipe

from .receivers import Receivers, read_url
from .signature import derive_secret

RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0)  # before each further attempt; after the last there is none
MAX_UNDER_WAY = 2  # deliveries of one user at once, all workers together
TURN_SECONDS = 3600  # how long a user's last turn is remembered
LEASE_SECONDS = 60.0  # much longer than a delivery may take
NATIVE, HORDE = "native", "horde"

# ARGV: prefix, delivery id, job id, painting id ('' = none), webhook as JSON, lane. The delivery waits for the
# painting while that is under way and the job is not cancelled; otherwise it is due now.
KEEP = (
    CLOCK
    + """
local prefix, id, job, painting = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('HSET', prefix..'webhook:'..id, 'webhook', ARGV[5], 'attempts', 0, 'lane', ARGV[6])
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

# ARGV: prefix, lease seconds, deliveries of a user that may be under way, seconds for which turns are remembered.
# Deliveries whose time has come line up in lanes, one for each user and receiver. The next one is for the user with
# the fewest under way, then for the one served longest ago, then for the lane served longest ago. A lane has one
# delivery under way, so that a receiver that does not answer holds up nothing else.
# Returns {id, field, value …}, or nil.
TAKE = (
    CLOCK
    + """
local prefix, now, most = ARGV[1], clock(), tonumber(ARGV[3])
local due, taken, served = prefix..'webhooks', prefix..'webhooks-taken', prefix..'served:webhooks'
count_as_now(served, now)
local function lane_of(id) return redis.call('HGET', prefix..'webhook:'..id, 'lane') or ':' end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', due, id)
  redis.call('RPUSH', prefix..'webhooks-lane:'..lane_of(id), id)
  redis.call('SADD', prefix..'webhooks-lanes', lane_of(id))
end
redis.call('ZREMRANGEBYSCORE', taken, '-inf', now)
redis.call('ZREMRANGEBYSCORE', taken, now + ARGV[2] + 1, '+inf')  -- from before the clock was set back
redis.call('ZREMRANGEBYSCORE', served, '-inf', now - ARGV[4])
local busy = {}
for _, id in ipairs(redis.call('ZRANGE', taken, 0, -1)) do
  local lane = lane_of(id)
  local user = string.match(lane, '^[^:]*')
  busy[lane], busy['user '..user] = true, (busy['user '..user] or 0) + 1
end
local function turn(name) return tonumber(redis.call('ZSCORE', served, name) or 0) end
local function sooner(a, b)
  if not b then return true end
  for i = 1, 3 do if a[i] ~= b[i] then return a[i] < b[i] end end
  return false
end
local function next_lane()
  local best
  for _, lane in ipairs(redis.call('SMEMBERS', prefix..'webhooks-lanes')) do
    local user = string.match(lane, '^[^:]*')
    local under_way = busy['user '..user] or 0
    local candidate = {under_way, turn('user '..user), turn(lane), lane, user}
    if not busy[lane] and under_way < most and sooner(candidate, best) then best = candidate end
  end
  if best then return best[4], best[5] end
end
while true do
  local lane, user = next_lane()
  if not lane then return nil end
  local id = redis.call('LPOP', prefix..'webhooks-lane:'..lane)
  if redis.call('EXISTS', prefix..'webhooks-lane:'..lane) == 0 then
    redis.call('SREM', prefix..'webhooks-lanes', lane)
  end
  local delivery = id and redis.call('HGETALL', prefix..'webhook:'..id) or {}
  if #delivery > 0 then
    redis.call('ZADD', due, now + ARGV[2], id)
    redis.call('ZADD', taken, now + ARGV[2], id)
    redis.call('ZADD', served, now, lane, now, 'user '..user)
    redis.call('EXPIRE', served, ARGV[4])
    return {id, unpack(delivery)}
  end
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
  redis.call('ZREM', prefix..'webhooks-taken', id)
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
    key: str = ""  # the id of the API key with which it was requested; "" for none

    @property
    def lane(self) -> str:
        """The user and the receiver, who take turns, as hashes."""
        return f"{hash_name(self.key)}:{hash_name(read_url(self.url).host_header)}"


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

    def secret_of(self, key: str) -> str:
        """The secret that signs the deliveries of an API key, or of those without a key for ""."""
        return derive_secret(self.secret, key) if self.secret and key else self.secret or ""

    def add(self, job: Job, webhook: Webhook) -> str:
        """Keep a delivery durably until the receiver has accepted it; returns its id."""
        delivery = secrets.token_hex(16)
        self.run_keep(delivery, job.id, job.painting or "", json.dumps(asdict(webhook)), webhook.lane)
        return delivery

    def take_due(self) -> Delivery | None:
        """Take the delivery whose turn it is, for LEASE_SECONDS; None when none is due whose receiver is free."""
        if (reply := self.run_take(LEASE_SECONDS, MAX_UNDER_WAY, TURN_SECONDS)) is None:
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
            pipe.zrem(self.connection.prefix + "webhooks-taken", delivery.id)
            pipe.execute()

    def retry(self, delivery: Delivery) -> float | None:
        """Schedule another attempt; returns the seconds until then, or None after the last attempt."""
        if delivery.attempts >= len(RETRY_SECONDS):
            self.remove(delivery)
            return None
        wait = RETRY_SECONDS[delivery.attempts]
        self.run_retry(delivery.id, delivery.attempts + 1, wait)
        return wait
