"""What Redis keeps for each user: preferences, and tasks, which are named groups of jobs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.store.connection import KEPT_SECONDS, Connection, redis_errors
from jobs.store.records import hash_name
from memo import now

PREFERENCES_SECONDS = 90 * 24 * 3600  # for which preferences are kept after they were last read or written


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A group of jobs with a name that the user chose; it is `whole` once all its jobs are recorded."""

    name: str
    begun: float  # seconds since 1970
    jobs: tuple[str, ...] = ()
    whole: bool = False
    stopped: bool = False  # whether the user has interrupted it, so that no more jobs are created


class UserRecords:
    """Preferences and tasks by user. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def preferences(self, user: str) -> dict[str, str]:
        """All preferences of this user, which are kept for another PREFERENCES_SECONDS."""
        name = self.prefix + "preferences:" + hash_name(user)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hgetall(name)
            pipe.expire(name, PREFERENCES_SECONDS)
            preferences: dict[str, str] = pipe.execute()[0]
        return preferences

    def keep_preferences(self, user: str, preferences: Mapping[str, str]) -> None:
        """Keep these preferences; the user's others stay as they are."""
        name = self.prefix + "preferences:" + hash_name(user)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(name, mapping=dict(preferences))
            pipe.expire(name, PREFERENCES_SECONDS)
            pipe.execute()

    def begin_task(self, user: str, task: str) -> None:
        """Record a task that has no jobs yet; it replaces one of the same name."""
        name, moment = self.task_key(user, task), now()
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.delete(name)
            pipe.hset(name, "begun", str(moment))
            pipe.expire(name, KEPT_SECONDS)
            pipe.zadd(self.tasks_key(user), {task: moment})
            pipe.expire(self.tasks_key(user), KEPT_SECONDS)
            pipe.execute()

    def record_jobs(self, user: str, task: str, jobs: Sequence[str], *, whole: bool) -> None:
        """Record the jobs that the task has so far; `whole` if these are all."""
        self.set_fields(user, task, {"jobs": json.dumps(list(jobs)), "whole": int(whole)})

    def task(self, user: str, task: str) -> Task | None:
        """The task of this name; None when the user has none."""
        with redis_errors():
            fields = self.redis.hgetall(self.task_key(user, task))
        if "begun" not in fields:
            return None
        return Task(
            name=task,
            begun=float(fields["begun"]),
            jobs=tuple(json.loads(fields.get("jobs", "[]"))),
            whole=fields.get("whole") == "1",
            stopped="stopped" in fields,
        )

    def tasks_under_way(self, user: str) -> list[Task]:
        """The user's tasks that have not ended, the oldest first."""
        with redis_errors():
            names = self.redis.zrange(self.tasks_key(user), 0, -1)
        return [task for task in (self.task(user, name) for name in names) if task]

    def end_task(self, user: str, task: str) -> None:
        """Take the task off the list of those under way; its jobs stay known."""
        with redis_errors():
            self.redis.zrem(self.tasks_key(user), task)

    def stop_task(self, user: str, task: str) -> None:
        """Tell the request that creates the task's jobs to create no more."""
        self.set_fields(user, task, {"stopped": 1})

    def set_fields(self, user: str, task: str, fields: Mapping[str, str | int]) -> None:
        """Set fields of a task. If it expired a moment ago, this makes a new hash, which expires as well."""
        name = self.task_key(user, task)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(name, mapping=dict(fields))
            pipe.expire(name, KEPT_SECONDS)
            pipe.execute()

    def forget_task(self, user: str, task: str) -> None:
        """Remove the task as if it had never begun."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.delete(self.task_key(user, task))
            pipe.zrem(self.tasks_key(user), task)
            pipe.execute()

    def task_key(self, user: str, task: str) -> str:
        """The key of a task's hash."""
        return f"{self.prefix}task:{hash_name(user)}:{hash_name(task)}"

    def tasks_key(self, user: str) -> str:
        """The key of the set of a user's tasks under way."""
        return f"{self.prefix}tasks:{hash_name(user)}"
