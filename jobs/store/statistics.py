"""Counts of jobs, costs and waiting paintings: since the beginning, minute by minute, and now."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from memo import Picture, Recipe, now

from .connection import Connection, redis_errors
from .records import hash_name, read_number

HISTORY_MINUTES = 26 * 60  # how long the counts of one minute are kept


class Statistics:
    """Reads the counts from Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def counts(self) -> Counter[str]:
        """Totals: jobs by origin, seconds and joules spent on painting, and those that memory saved."""
        with redis_errors():
            totals = self.redis.hgetall(self.prefix + "counts")
        return Counter({name: float(value) for name, value in totals.items()})

    def history(self, minutes: int) -> list[Counter[str]]:
        """Counts of each of the last minutes, this one last: jobs by origin, costs, pictures, batch sizes."""
        last = int(now() // 60)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=False)
            for minute in range(last - minutes + 1, last + 1):
                pipe.hgetall(f"{self.prefix}counts:minute:{minute}")
            replies = pipe.execute()
        return [Counter({name: float(value) for name, value in counts.items()}) for counts in replies]

    def mean_cost(self, picture: Picture) -> tuple[float, float]:
        """The mean seconds and joules of the paintings with this picture's model, size and number of steps.

        If no such painting was counted, those of the picture itself, had no step been saved.
        """
        fields = [f"{cost_class(picture.recipe)}:{what}" for what in ("seconds", "joules", "count")]
        with redis_errors():
            seconds, joules, count = self.redis.hmget(self.prefix + "costs", fields)
        if not count:
            return whole_cost(picture)
        return float(seconds) / float(count), float(joules) / float(count)

    def count_waiting(self, model: str) -> int:
        """How many paintings wait for this model."""
        with redis_errors():
            return int(self.redis.zcard(self.prefix + "queued:model:" + model))

    def waiting(self, model: str) -> tuple[int, float]:
        """How many paintings wait for this model, and how many seconds the oldest has waited."""
        return self.count_waiting(model), self.longest_wait(model)

    def count_queued(self) -> int:
        """How many paintings wait, for any model."""
        with redis_errors():
            return int(self.redis.zcard(self.prefix + "queued"))

    def count_queued_for(self, user: str, models: Collection[str]) -> tuple[int, int]:
        """How many paintings of these models wait for a user, and how many other users wait for any."""
        name = hash_name(user)
        with redis_errors():
            pipe = self.redis.pipeline(transaction=False)
            for model in models:
                pipe.zcard(f"{self.prefix}queued:user:{name}:{model}")
            for model in models:
                pipe.smembers(self.prefix + "queued:users:" + model)
            replies = pipe.execute()
        others = set[str]().union(*replies[len(models) :]) - {name}
        return sum(replies[: len(models)]), len(others)

    def longest_wait(self, model: str) -> float:
        """Seconds that the oldest of the paintings at the head of a user's queue has waited; 0 when none waits."""
        created = []
        with redis_errors():
            for user in self.redis.smembers(self.prefix + "queued:users:" + model):
                for painting in self.redis.zrange(f"{self.prefix}queued:user:{user}:{model}", 0, 0):
                    text = self.redis.hget(self.prefix + "painting:" + painting, "created")
                    created.append(read_number(text) or now())
        return now() - min(created) if created else 0.0


def count_this_minute(pipe: Any, prefix: str, counts: Mapping[str, float]) -> None:
    """Add to the counts of this minute, in a pipeline that the caller executes."""
    minute = this_minute()
    name = f"{prefix}counts:minute:{minute['minute']}"
    for what, value in counts.items():
        pipe.hincrbyfloat(name, what, value)
    pipe.expire(name, minute["kept_seconds"])


def this_minute() -> dict[str, int]:
    """The minutes since 1970, and for how long the counts of this one are kept: arguments of the scripts."""
    return {"minute": int(now() // 60), "kept_seconds": HISTORY_MINUTES * 60}


def share_saved(picture: Picture) -> float:
    """The share of its steps that a picture saved by starting from a picture of a similar prompt."""
    return picture.near.steps_saved / picture.recipe.steps if picture.near else 0.0


def whole_cost(picture: Picture) -> tuple[float, float]:
    """Seconds and joules of a picture's painting, had it taken all steps."""
    taken = 1 - share_saved(picture)
    return picture.seconds / taken, picture.joules / taken


def cost_class(recipe: Recipe) -> str:
    """The model, size and number of steps: paintings that share them cost about the same."""
    return f"{recipe.model} {recipe.width}x{recipe.height} {recipe.steps}"
