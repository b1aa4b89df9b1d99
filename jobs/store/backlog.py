"""Work that workers do later: pictures that the index lacks or may lose, and old initial images to remove."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .connection import KEPT_SECONDS, Connection, redis_errors

BATCH = 16  # initial images handed out at once
INDEXED_AT_ONCE = 64  # pictures of the backlog
TURN_SECONDS = 60  # how long one worker alone may index the backlog


@dataclass(frozen=True, slots=True)
class Unindexed:
    """A picture that the index may lose, or does not know yet."""

    entry: str  # the id in the stream, which begins with the time in milliseconds
    key: str
    is_missing: bool  # whether a comparison with the store found that the index does not know it


class Backlog:
    """Lists of pending work in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def add_missing(self, keys: Iterable[str], stored: int) -> None:
        """Note that the index does not know these pictures, of all the pictures in the store."""
        with redis_errors():
            waiting = self.unindexed(None)
            known = {entry.key for entry in waiting}
            new = [key for key in dict.fromkeys(keys) if key not in known]
            missing = sum(entry.is_missing for entry in waiting) + len(new)
            pipe = self.redis.pipeline(transaction=True)
            for key in new:
                pipe.xadd(self.prefix + "unindexed", {"key": key, "missing": 1})
            pipe.hset(self.prefix + "index", mapping={"stored": stored, "missing": missing})
            pipe.execute()

    def index_state(self) -> tuple[int, int]:
        """The number of pictures in the store at the last comparison, and of those that are still not indexed."""
        with redis_errors():
            stored, missing = self.redis.hmget(self.prefix + "index", ["stored", "missing"])
        return int(stored or 0), max(0, int(missing or 0))

    def unindexed(self, count: int | None = INDEXED_AT_ONCE) -> list[Unindexed]:
        """The oldest pictures that are not known to be on the index's disk; all of them for None."""
        with redis_errors():
            entries = self.redis.xrange(self.prefix + "unindexed", count=count)
        return [Unindexed(entry, fields["key"], "missing" in fields) for entry, fields in entries]

    def remove_unindexed(self, entries: Sequence[Unindexed]) -> None:
        """Remove pictures that are on the index's disk, or cannot be indexed."""
        if not entries:
            return
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.xdel(self.prefix + "unindexed", *(entry.entry for entry in entries))
            if missing := sum(entry.is_missing for entry in entries):
                pipe.hincrby(self.prefix + "index", "missing", -missing)
            pipe.execute()

    def postpone(self, entries: Sequence[Unindexed]) -> None:
        """Move pictures to the end of the backlog."""
        if not entries:
            return
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.xdel(self.prefix + "unindexed", *(entry.entry for entry in entries))
            for entry in entries:
                missing = {"missing": 1} if entry.is_missing else {}
                pipe.xadd(self.prefix + "unindexed", {"key": entry.key, **missing})
            pipe.execute()

    def seconds_old(self, entries: Sequence[Unindexed]) -> list[float]:
        """The age of each entry, by the clock of Redis."""
        now = self.clock()
        return [now - int(entry.entry.partition("-")[0]) / 1e3 for entry in entries]

    def clock(self) -> float:
        """The time by the clock of Redis, in seconds since 1970; the clocks of machines may differ."""
        with redis_errors():
            seconds, microseconds = self.redis.time()
        return float(seconds + microseconds / 1e6)

    def take_turn(self, worker: str) -> bool:
        """Whether this worker may index the backlog for the next TURN_SECONDS: one does it at a time."""
        name = self.prefix + "indexing"
        with redis_errors():
            if self.redis.set(name, worker, ex=TURN_SECONDS, nx=True):
                return True
            return bool(self.redis.get(name) == worker and self.redis.expire(name, TURN_SECONDS))

    def end_turn(self) -> None:
        """Let another worker index the backlog."""
        with redis_errors():
            self.redis.delete(self.prefix + "indexing")

    def touch_init_image(self, init_image: str, scope: str) -> None:
        """Note that this initial image was uploaded or used just now."""
        with redis_errors():
            self.redis.zadd(self.prefix + "init-images", {json.dumps([init_image, scope]): self.clock()})

    def old_init_images(self) -> list[tuple[str, str]]:
        """Initial images, as (name, scope), that nobody has used for longer than KEPT_SECONDS."""
        with redis_errors():
            oldest = self.clock() - KEPT_SECONDS
            old = self.redis.zrangebyscore(self.prefix + "init-images", "-inf", oldest, 0, BATCH)
        return [(init_image, scope) for init_image, scope in map(json.loads, old)]

    def drop_init_image(self, init_image: str, scope: str) -> None:
        """Take this initial image off the list until it is touched again."""
        with redis_errors():
            self.redis.zrem(self.prefix + "init-images", json.dumps([init_image, scope]))
