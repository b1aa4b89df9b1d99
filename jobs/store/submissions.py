"""What users do: ask for a picture, join a painting under way, cancel, have a picture forgotten."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from jobs.job import Job, MemoryMatch, Origin
from memo import Match, Recipe, now

from . import scripts
from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import dump, dump_picture, dump_recipe, flatten, hash_name, load_picture
from .snapshots import FINISHED, Snapshots
from .statistics import Statistics, count_this_minute

PRIORITY_SECONDS = 60.0  # seconds of waiting that one degree of priority is worth
MAX_LISTED = 1000  # jobs on each list of recent ones
LOOKUP_WATTS = 10.0  # of the core that looks up: assumed, as everywhere that nothing is measured
JOINED_REASON = "the same is being painted for someone already"


class Submissions:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.snapshots, self.statistics = Snapshots(connection), Statistics(connection)
        self.run_open = connection.script(scripts.OPEN)
        self.run_join = connection.script(scripts.JOIN)
        self.run_cancel = connection.script(scripts.CANCEL)

    def open_job(
        self, recipe: Recipe, *, reason: str, scope: str, joinable: bool = True, user: str = "", priority: int = 0
    ) -> Job:
        """Record a job and its painting, or join the painting of the same wish; the seed is drawn here.

        `priority` orders what one user waits for: a degree more is worth PRIORITY_SECONDS of waiting.
        """
        job, painting, moment = secrets.token_hex(16), secrets.token_hex(16), now()
        seeded = recipe if recipe.seed is not None else draw_seed(recipe)
        wish = f"{scope}:{recipe.key}" if joinable else ""
        work = {"recipe": dump_recipe(seeded), "scope": scope, "model": recipe.model}
        rank = moment - PRIORITY_SECONDS * priority
        served = str(self.run_open(painting, wish, moment, rank, hash_name(user), *flatten(work)))
        joined = served != painting
        reason = JOINED_REASON if joined else reason
        origin = Origin.JOINED if joined else Origin.PAINTED
        asked = {"random_seed": int(recipe.seed is None), "always_paint": int(not joinable), "scope": scope}
        return self.record_waiting(job, served, origin=origin, reason=reason, created=moment, user=user, **asked)

    def join(self, painting: str, reason: str, *, scope: str, user: str = "", priority: int = 0) -> Job | None:
        """Record a job that waits for a painting under way; None when that has ended meanwhile."""
        if not self.run_join(painting, hash_name(user), now() - PRIORITY_SECONDS * priority):
            return None
        fields = {"reason": f"{JOINED_REASON}: {reason}", "created": now(), "user": user, "scope": scope}
        return self.record_waiting(secrets.token_hex(16), painting, origin=Origin.JOINED, **fields)

    def record_waiting(self, job: str, painting: str, **request: Any) -> Job:
        """Record a job that waits for a painting."""
        self.record_job(job, {"painting": painting, **request})
        found = self.snapshots.find(job)
        assert found is not None
        self.link(found.key, job, painting)
        return found

    def record_remembered(
        self, recipe: Recipe, match: Match, reason: str, *, user: str = "", seconds: float = 0.0
    ) -> Job:
        """Record a job that memory answered after so many seconds of looking up.

        It saved what such paintings cost on average, less the looking up; nothing where that is not known.
        """
        job, picture = secrets.token_hex(16), match.picture
        note = MemoryMatch(prompt=picture.recipe.prompt, score=match.score, how=match.how)
        request = {
            "painting": "",
            "origin": Origin.MEMORY,
            "reason": reason,
            "created": now(),
            "user": user,
            "scope": picture.scope,
            "recipe": dump_recipe(recipe),
            "match": dump(asdict(note)),
            "picture": dump_picture(picture),
        }
        self.record_job(job, request)
        self.link(picture.key, job)
        mean_seconds, mean_joules = self.statistics.mean_cost(picture)
        saved = {"seconds_saved": mean_seconds - seconds, "joules_saved": mean_joules - seconds * LOOKUP_WATTS}
        self.count({name: max(0.0, value) for name, value in saved.items()})
        found = self.snapshots.find(job)
        assert found is not None
        return found

    def count(self, counts: Mapping[str, float]) -> None:
        """Add to the totals and to this minute's counts."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            for name, value in counts.items():
                pipe.hincrbyfloat(self.prefix + "counts", name, value)
            count_this_minute(pipe, self.prefix, counts)
            pipe.execute()

    def record_job(self, job: str, request: dict[str, Any]) -> None:
        """Write the job and put it on the list of recent ones."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.prefix + "job:" + job, mapping=dict(request))
            pipe.expire(self.prefix + "job:" + job, KEPT_SECONDS)
            pipe.zadd(self.prefix + "jobs", {job: request["created"]})
            pipe.zremrangebyrank(self.prefix + "jobs", 0, -MAX_LISTED - 1)
            self.remember(pipe, "scope:" + hash_name(request["scope"]), job, request["created"])
            pipe.hincrby(self.prefix + "counts", str(request["origin"]), 1)
            count_this_minute(pipe, self.prefix, {str(request["origin"]): 1})
            if request["user"]:
                self.remember(pipe, "user:" + hash_name(request["user"]), job, request["created"])
            pipe.execute()

    def remember(self, pipe: Any, of: str, job: str, created: float) -> None:
        """Put a job on a list of recent ones that is kept as long as the newest of them."""
        pipe.zadd(self.prefix + of, {job: created})
        pipe.zremrangebyrank(self.prefix + of, 0, -MAX_LISTED - 1)
        pipe.expire(self.prefix + of, KEPT_SECONDS)

    def link(self, key: str, job: str, painting: str = "") -> None:
        """Note what is to be forgotten with the picture of this key."""
        name = self.prefix + "of:" + key
        with redis_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.sadd(name, "job:" + job, *(["painting:" + painting] if painting else []))
            pipe.expire(name, KEPT_SECONDS)
            pipe.execute()

    def cancel(self, job: str) -> bool:
        """Whether this call cancelled the job; its painting goes on while others wait for it."""
        return bool(self.run_cancel(job, now(), KEPT_SECONDS))

    def forget(self, key: str) -> None:
        """Remove the jobs and paintings that led to this picture, except paintings under way and their jobs."""
        stream = self.prefix + FINISHED
        with redis_errors():
            names = self.redis.smembers(self.prefix + "of:" + key)
            paintings = {name: self.painting_of(name) for name in names}
            living = self.snapshots.unfinished(list(set(paintings.values())))
            pipe = self.redis.pipeline(transaction=True)
            for name in (name for name, painting in paintings.items() if painting not in living):
                pipe.delete(self.prefix + name)
                pipe.srem(self.prefix + "of:" + key, name)
            for entry, fields in self.redis.xrange(stream):
                if (picture := load_picture(fields["picture"])) and picture.key == key:
                    pipe.xdel(stream, entry)
            pipe.execute()

    def painting_of(self, name: str) -> str:
        """The painting that job:<id> or painting:<id> is about; "" for a job that memory answered."""
        kind, _, number = name.partition(":")
        return number if kind == "painting" else self.redis.hget(self.prefix + name, "painting") or ""


def draw_seed(recipe: Recipe) -> Recipe:
    """The recipe with a random seed of 32 bits, as other tools write them."""
    return replace(recipe, seed=secrets.randbits(32))
