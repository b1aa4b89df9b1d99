"""Which workers are alive, by their heartbeats."""

import json
from collections.abc import Mapping
from typing import Any

from . import scripts
from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import dump, pair_up
from .statistics import count_this_minute

SILENCE_SECONDS = 20.0  # after which a worker without a heartbeat counts as gone


class Heartbeats:
    """The last heartbeat of each worker. Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.run_beat, self.run_workers = connection.script(scripts.BEAT), connection.script(scripts.WORKERS)

    def beat(self, worker: str, facts: Mapping[str, object]) -> None:
        """Note that this worker is alive, with what it says about itself, and count its batch sizes."""
        self.run_beat(worker, dump(facts), KEPT_SECONDS)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            count_this_minute(pipe, self.prefix, sum_batch_sizes(facts))
            pipe.execute()

    def remove(self, worker: str) -> None:
        """Note that this worker has stopped."""
        with redis_errors():
            self.redis.hdel(self.prefix + "workers", worker)
            self.redis.zrem(self.prefix + "workers:seen", worker)

    def workers(self) -> dict[str, dict[str, Any]]:
        """What each living worker said last, by its name; workers that have gone silent are removed."""
        reply = pair_up(self.run_workers(SILENCE_SECONDS))
        return {name: json.loads(facts) for name, facts in reply.items()}


def sum_batch_sizes(facts: Mapping[str, Any]) -> dict[str, float]:
    """The sum of the batch sizes of a worker's busy painters and their number, for a mean over time."""
    painters = facts.get("painters", {}).values()
    sizes = [float(state["batch_size"]) for state in painters if state.get("batch_size")]
    return {"batch_sizes": sum(sizes), "batches": len(sizes)} if sizes else {}
