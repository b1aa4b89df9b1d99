"""Requests by name: those that may arrive twice, and those that led to several jobs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import scripts
from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import dump, hash_name


class Requests:
    """The state of requests in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.run_compare_and_set = connection.script(scripts.COMPARE_AND_SET)

    def compare_and_set(self, name: str, value: str, seconds: float, expected: str = "") -> str | None:
        """Write `value` for some seconds if the name still holds `expected`; an empty value deletes it.

        A missing name counts as holding "". Returns None if the value was written, else what the name holds.
        """
        held = self.run_compare_and_set(hash_name(name), value, round(seconds * 1000), expected)
        return None if held is None else str(held)

    def keep_group(self, group: str, jobs: Sequence[str], facts: Mapping[str, object]) -> None:
        """Keep the ids of the jobs of one request, and facts about it, for as long as jobs are kept."""
        with redis_errors():
            self.redis.set(self.prefix + "group:" + group, dump({**facts, "jobs": list(jobs)}), ex=KEPT_SECONDS)

    def group(self, group: str) -> dict[str, Any] | None:
        """The facts of a group and its `jobs`; None when the name is unknown or has expired."""
        with redis_errors():
            text = self.redis.get(self.prefix + "group:" + group)
        return dict(json.loads(text)) if text else None
