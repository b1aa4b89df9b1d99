"""Which workers are alive, by their heartbeats."""

import json
from collections.abc import Mapping
from typing import Any

from memo import now

from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import dump
from .statistics import count_this_minute

SILENCE_SECONDS = 20.0  # after which a worker without a heartbeat counts as gone


class Heartbeats:
    """The last heartbeat of each worker. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def beat(self, worker: str, facts: Mapping[str, object]) -> None:
        """Note that this worker is alive, with what it says about itself, and count its batch sizes."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.prefix + "workers", worker, dump({**facts, "seen": now()}))
            pipe.expire(self.prefix + "workers", KEPT_SECONDS)
            count_this_minute(pipe, self.prefix, sum_batch_sizes(facts))
            pipe.execute()

    def remove(self, worker: str) -> None:
        """Note that this worker has stopped."""
        with redis_errors():
            self.redis.hdel(self.prefix + "workers", worker)

    def workers(self) -> dict[str, dict[str, Any]]:
        """What each living worker said last, by its name; workers that have gone silent are removed."""
        with redis_errors():
            facts = {name: json.loads(text) for name, text in self.redis.hgetall(self.prefix + "workers").items()}
            silent = [name for name, fact in facts.items() if fact["seen"] < now() - SILENCE_SECONDS]
            if silent:
                self.redis.hdel(self.prefix + "workers", *silent)
        return {name: fact for name, fact in facts.items() if name not in silent}


def sum_batch_sizes(facts: Mapping[str, Any]) -> dict[str, float]:
    """The sum of the batch sizes of a worker's busy painters and their number, for a mean over time."""
    painters = facts.get("painters", {}).values()
    sizes = [float(state["batch_size"]) for state in painters if state.get("batch_size")]
    return {"batch_sizes": sum(sizes), "batches": len(sizes)} if sizes else {}
