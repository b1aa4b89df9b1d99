"""Webhooks: whoever asked for a picture is told over HTTP when its job is final, signed, at least once.

What is to be told is kept in Redis from the moment that the job is answered for, and falls due by the very script
that makes the job final. Any worker delivers it, under a lease, so that a delivery whose deliverer died is made by
another. Receivers know a delivery that came twice by its id. Knows the board; nothing of painting.

Keys, under the board's prefix:
  webhook:<id>            hash  one delivery: url, job, form, attempts …
  webhooks                zset  deliveries by when they are due
  webhooks-of:<painting>  set   deliveries that wait for a painting to be final
"""

import base64
import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.job import Job
from jobs.serialize import as_generation, as_native
from jobs.store.connection import redis_errors
from jobs.store.job_store import JobStore
from memo import BadRecipe, Forgotten, MemoError, Memory, now
from memo.picture import without_scope
from memo.webp import write_webp

from .receivers import Receivers, Undelivered

log = logging.getLogger(__name__)

WAITS = (5.0, 30.0, 120.0, 600.0, 3600.0)  # seconds before the next try; after the last there is none
LEASE_SECONDS = 60.0  # much longer than a delivery may take
PERIOD = 1.0  # seconds between two looks for what is due
THREADS = 4  # deliveries of one worker at once: one receiver who answers late keeps not all others waiting
QUALITY = 95  # of pictures as WebP
NATIVE, HORDE = "native", "horde"

# ARGV: prefix, delivery id, job id, painting id ('' = none), now, then field, value … of the delivery. It waits for
# the painting while that is under way and the job is not cancelled, else it is due now.
KEEP = """
local prefix, id, job, painting = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('HSET', prefix..'webhook:'..id, unpack(ARGV, 6))
local state = painting ~= '' and redis.call('HGET', prefix..'painting:'..painting, 'state')
local under_way = state == 'queued' or state == 'running'
if under_way and not redis.call('HGET', prefix..'job:'..job, 'cancelled') then
  redis.call('SADD', prefix..'webhooks-of:'..painting, id)
  redis.call('HSET', prefix..'job:'..job, 'webhook', id)
else
  redis.call('ZADD', prefix..'webhooks', ARGV[5], id)
end
"""

# ARGV: prefix, now, lease end. Returns the delivery that is due longest as {id, field, value …}, or nil.
TAKE = """
local prefix = ARGV[1]
while true do
  local id = redis.call('ZRANGEBYSCORE', prefix..'webhooks', '-inf', ARGV[2], 'LIMIT', 0, 1)[1]
  if not id then return nil end
  local found = redis.call('HGETALL', prefix..'webhook:'..id)
  if #found > 0 then
    redis.call('ZADD', prefix..'webhooks', ARGV[3], id)
    return {id, unpack(found)}
  end
  redis.call('ZREM', prefix..'webhooks', id)
end
"""

# ARGV: prefix, delivery id, attempts so far, when it is due again. One that was delivered meanwhile stays so.
AGAIN = """
local prefix, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', prefix..'webhook:'..id) == 1 then
  redis.call('HSET', prefix..'webhook:'..id, 'attempts', ARGV[3])
  redis.call('ZADD', prefix..'webhooks', ARGV[4], id)
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Whom to tell of a job, and how."""

    url: str
    job: str
    form: str = NATIVE  # or HORDE
    links: Mapping[str, str] = field(default_factory=dict)  # absolute, native: self, picture, image
    request: str = ""  # Horde: the id of the whole request
    img: str = ""  # Horde: the picture's URL; "" sends the picture itself


@dataclass(frozen=True, slots=True)
class Delivery:
    """One that is due; `attempts` were made before."""

    id: str
    hook: Hook
    attempts: int


class Webhooks:
    """What is kept in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, job_store: JobStore, secret: str | None = None, receivers: Receivers | None = None) -> None:
        self.job_store, self.secret, self.receivers = job_store, secret, receivers or Receivers()
        scripts = {"keep": KEEP, "take": TAKE, "again": AGAIN}
        self.script = {name: job_store.connection.script(text) for name, text in scripts.items()}

    def check(self, url: object) -> str:
        """The URL; raises BadRecipe when nothing can be sent there."""
        if not self.secret:
            raise BadRecipe("webhook", url, "leave it out: JOBS_WEBHOOK_SECRET, which signs them, is not set here")
        self.receivers.check(url)
        return str(url)

    def notify(self, job: Job, hook: Hook) -> str:
        """Keep it durably until the receiver has taken it; answers with the delivery's id."""
        delivery = secrets.token_hex(16)
        facts = {"hook": json.dumps(as_mapping(hook)), "attempts": "0"}
        told = [text for pair in facts.items() for text in pair]
        self.script["keep"](delivery, job.id, job.painting or "", now(), *told)
        return delivery

    def due(self) -> Delivery | None:
        """Take the delivery that is due longest, for LEASE_SECONDS."""
        moment = now()
        if (found := self.script["take"](moment, moment + LEASE_SECONDS)) is None:
            return None
        values = dict(zip(found[1::2], found[2::2], strict=True))
        return Delivery(found[0], Hook(**json.loads(values["hook"])), int(values["attempts"]))

    def settled(self, delivery: Delivery) -> None:
        """The receiver has taken it, or never will."""
        with redis_errors():
            pipe = self.job_store.connection.redis.pipeline(transaction=True)
            pipe.delete(f"{self.job_store.connection.prefix}webhook:{delivery.id}")
            pipe.zrem(self.job_store.connection.prefix + "webhooks", delivery.id)
            pipe.execute()

    def again(self, delivery: Delivery) -> float | None:
        """Have it made once more after a while; answers with the seconds, or None after the last try."""
        if delivery.attempts >= len(WAITS):
            self.settled(delivery)
            return None
        wait = WAITS[delivery.attempts]
        self.script["again"](delivery.id, delivery.attempts + 1, now() + wait)
        return wait


class Deliverer:
    """The threads of a worker that deliver what is due."""

    def __init__(self, hooks: Webhooks, memory: Memory, threads: int = THREADS) -> None:
        self.hooks, self.memory = hooks, memory
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, name=f"webhooks-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin; without a secret there is nothing to do."""
        if self.hooks.secret:
            for thread in self.threads:
                thread.start()

    def stop(self) -> None:
        """End after what is under way; what is cut off is delivered by another when its lease is over."""
        self.stopping.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join(timeout=PERIOD)

    def run(self) -> None:
        """Deliver until stopped; an outage of Redis is waited for."""
        while not self.stopping.is_set():
            try:
                worked = self.round()
            except MemoError as error:
                log.warning("webhooks: %s", error)
                worked = False
            except Exception:  # a delivery that a newer version wrote, say; the others must be made
                log.exception("a webhook cannot be delivered from here")
                worked = False
            if not worked:
                self.stopping.wait(PERIOD)

    def round(self) -> bool:
        """Make one delivery that is due; False when there is none."""
        if (delivery := self.hooks.due()) is None:
            return False
        try:
            self.deliver(delivery)
        except (Undelivered, MemoError) as error:
            self.put_off(delivery, str(error), hopeless=isinstance(error, Undelivered) and error.hopeless)
        except Exception as error:
            log.exception("webhook %s went wrong", delivery.id)
            self.put_off(delivery, repr(error))
        else:
            self.hooks.settled(delivery)
        return True

    def deliver(self, delivery: Delivery) -> None:
        """POST what is known of the job now; raises Undelivered, or what memory raises."""
        job = self.hooks.job_store.jobs.find(delivery.hook.job)
        if job is None:
            raise Undelivered(f"job {delivery.hook.job} is not kept any more", hopeless=True)
        body = json.dumps(self.told(delivery.hook, job)).encode()
        self.hooks.receivers.post(delivery.hook.url, body, signed(self.hooks.secret or "", delivery.id, body))

    def told(self, hook: Hook, job: Job) -> dict[str, Any]:
        """The body, in the form that was asked for."""
        if hook.form == HORDE:
            img = (hook.img or self.embedded(job)) if job.picture else ""
            return {**as_generation(job, img), "request": hook.request, "kudos": 0}
        return as_native(job, hook.links)

    def embedded(self, job: Job) -> str:
        """The picture in base64; "" for one that was forgotten meanwhile."""
        assert job.picture is not None
        with contextlib.suppress(Forgotten):
            return base64.b64encode(write_webp(without_scope(self.memory.image(job.picture.key)), QUALITY)).decode()
        return ""

    def put_off(self, delivery: Delivery, why: str, *, hopeless: bool = False) -> None:
        """Have it made again, unless that is hopeless."""
        if hopeless:
            self.hooks.settled(delivery)
            wait = None
        else:
            wait = self.hooks.again(delivery)
        job, next_try = delivery.hook.job, "given up" if wait is None else f"tried again in {wait:g} s"
        log.warning("webhook %s of job %s is %s: %s", delivery.id, job, next_try, why)


def as_mapping(hook: Hook) -> dict[str, Any]:
    """The hook, JSON-able; `Hook(**mapping)` gives it back."""
    return {name: getattr(hook, name) for name in hook.__slots__}


def signed(secret: str, delivery: str, body: bytes) -> dict[str, str]:
    """The headers of a delivery made now: HMAC-SHA256 (RFC 2104) over the time, a full stop and the body."""
    timestamp = str(int(now()))
    return {
        "Content-Type": "application/json",
        "User-Agent": "memoAIzed-webhook/1",
        "X-Memo-Delivery": delivery,
        "X-Memo-Timestamp": timestamp,
        "X-Memo-Signature": f"sha256={signature(secret, timestamp, body)}",
    }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """64 hex digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
