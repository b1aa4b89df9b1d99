"""What is kept of each caller: what they prefer, and the jobs that they asked for under a name, a task.

Knows Redis through the board; nothing of what a preference means, nor of HTTP.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.store.connection import KEPT_SECONDS, Connection, redis_errors
from jobs.store.records import hash_name
from memo import now

PREFERRED_SECONDS = 90 * 24 * 3600  # since a preference was last read or written


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Jobs under a name; they are all known once it is `whole`."""

    name: str
    begun: float  # seconds since 1970
    jobs: tuple[str, ...] = ()
    whole: bool = False
    stopped: bool = False  # the caller wants no more of it


class UserRecords:
    """Methods raise Unavailable when Redis does not answer. Nobody hears of another caller's."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def preferences(self, caller: str) -> dict[str, str]:
        """All that this caller prefers."""
        name = self.prefix + "preferences:" + hash_name(caller)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hgetall(name)
            pipe.expire(name, PREFERRED_SECONDS)
            found: dict[str, str] = pipe.execute()[0]
        return found

    def prefer(self, caller: str, preferences: Mapping[str, str]) -> None:
        """Keep these; others stay as they are."""
        name = self.prefix + "preferences:" + hash_name(caller)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(name, mapping=dict(preferences))
            pipe.expire(name, PREFERRED_SECONDS)
            pipe.execute()

    def begin(self, caller: str, task: str) -> bool:
        """Take a name for a task; False when this caller has one of this name already."""
        place, moment = self.place(caller, task), now()
        with redis_errors():
            if not self.redis.hsetnx(place, "begun", moment):
                return False
            pipe = self.redis.pipeline(transaction=True)
            pipe.expire(place, KEPT_SECONDS)
            pipe.zadd(self.under_way_of(caller), {task: moment})
            pipe.expire(self.under_way_of(caller), KEPT_SECONDS)
            pipe.execute()
        return True

    def record(self, caller: str, task: str, jobs: Sequence[str], *, whole: bool) -> None:
        """These are the task's jobs by now."""
        with redis_errors():
            self.redis.hset(self.place(caller, task), mapping={"jobs": json.dumps(list(jobs)), "whole": int(whole)})

    def task(self, caller: str, task: str) -> Task | None:
        """What is known of a task; None when this caller has none of this name."""
        with redis_errors():
            found = self.redis.hgetall(self.place(caller, task))
        if "begun" not in found:
            return None
        jobs = tuple(json.loads(found.get("jobs", "[]")))
        return Task(
            name=task,
            begun=float(found["begun"]),
            jobs=jobs,
            whole=found.get("whole") == "1",
            stopped="stopped" in found,
        )

    def forget(self, caller: str, task: str) -> None:
        """As if the task had never been begun."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.delete(self.place(caller, task))
            pipe.zrem(self.under_way_of(caller), task)
            pipe.execute()

    def under_way(self, caller: str) -> list[Task]:
        """This caller's tasks that nobody called ended yet, the oldest first."""
        with redis_errors():
            names = self.redis.zrange(self.under_way_of(caller), 0, -1)
        return [task for task in (self.task(caller, name) for name in names) if task]

    def ended(self, caller: str, task: str) -> None:
        """The task is not under way any more; its jobs can still be asked for."""
        with redis_errors():
            self.redis.zrem(self.under_way_of(caller), task)

    def stop(self, caller: str, task: str) -> None:
        """Say to whoever is asking for its jobs that no more are wanted."""
        with redis_errors():
            self.redis.hset(self.place(caller, task), "stopped", 1)

    def place(self, caller: str, task: str) -> str:
        """The name of a task's hash in Redis."""
        return f"{self.prefix}task:{hash_name(caller)}:{hash_name(task)}"

    def under_way_of(self, caller: str) -> str:
        """The name of the set of a caller's tasks in Redis."""
        return f"{self.prefix}tasks:{hash_name(caller)}"
