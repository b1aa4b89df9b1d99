"""What users do: ask for a picture, join a painting under way, cancel, have a picture forgotten."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypedDict, Unpack

from jobs.job import Job, MemoryMatch, Origin, State
from memo import Match, Picture, Recipe, now
from memo.picture import NearStart, as_requested, key_in

from . import scripts
from .connection import KEPT_SECONDS, Connection, redis_errors
from .records import (
    dump,
    dump_near,
    dump_notes,
    dump_picture,
    dump_recipe,
    hash_name,
    job_from_memory,
    job_from_painting,
    pair_up,
)
from .snapshots import FINISHED, Snapshots
from .statistics import cost_class, this_minute, whole_cost

PRIORITY_SECONDS = 60.0  # seconds of waiting that one degree of priority is worth
LIST_LENGTH = 1000  # jobs on each list of recent ones
LOOKUP_WATTS = 10.0  # assumed power of the core that searches memory, which nothing measures
JOINED_REASON = "the same picture is already being painted for another request"


class JobOptions(TypedDict, total=False):
    """What every new job may have."""

    user: str
    priority: int  # orders the jobs of one user: each degree counts like PRIORITY_SECONDS of waiting
    notes: Sequence[str]
    receipt: str  # see jobs/store/received.py


class Submissions:
    """Records what users do in Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix
        self.snapshots = Snapshots(connection)
        self.run_open = connection.script(scripts.OPEN)
        self.run_join = connection.script(scripts.JOIN)
        self.run_remember = connection.script(scripts.REMEMBER)
        self.run_cancel = connection.script(scripts.CANCEL)

    def open_job(
        self,
        recipe: Recipe,
        *,
        reason: str,
        scope: str,
        joinable: bool = True,
        near: NearStart | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Record a job and its painting, or join a painting of the same wish.

        A recipe without a seed gets a random one. `near` says why memory chose the recipe's initial picture, which is
        then no part of the wish.
        """
        job, painting, created = secrets.token_hex(16), secrets.token_hex(16), now()
        user = options.get("user", "")
        seeded = recipe if recipe.seed is not None else replace(recipe, seed=draw_seed())
        wish = f"{scope}:{as_requested(recipe, near).key}" if joinable else ""
        rank = rank_of(created, options)
        common = common_fields(scope, created, options)
        common |= {"random_seed": str(int(recipe.seed is None)), "always_paint": str(int(not joinable))}
        origin = Origin.NEAR if near else Origin.PAINTED
        job_fields = {**common, "painting": painting, "origin": origin.value, "reason": reason}
        painting_fields = new_painting_fields(seeded, scope, user, wish=wish, created=created, rank=rank)
        painting_fields |= dump_near(near)
        request = {
            "job": job_record(job, job_fields),
            "painting": {"id": painting, "fields": painting_fields},
            "wish": wish,
            "user": hash_name(user),
            "rank": str(rank),
            "joined_reason": JOINED_REASON,
        }
        painting, position, joined = self.run_open(dump(request))
        if joined:
            painting_fields = pair_up(joined)
            job_fields = {**common, **joined_fields(painting, JOINED_REASON)}
        return waiting_job(job, job_fields, painting_fields, position)

    def join(
        self,
        painting: str,
        reason: str,
        *,
        scope: str,
        **options: Unpack[JobOptions],
    ) -> Job | None:
        """Record a job that waits for a painting of this scope; None when that has ended meanwhile."""
        job, created = secrets.token_hex(16), now()
        fields = common_fields(scope, created, options) | joined_fields(painting, f"{JOINED_REASON}: {reason}")
        request = {
            "job": job_record(job, fields),
            "painting": painting,
            "scope": scope,
            "user": hash_name(options.get("user", "")),
            "rank": str(rank_of(created, options)),
        }
        if (reply := self.run_join(dump(request))) is None:
            return None
        position, painting_fields = reply
        return waiting_job(job, fields, pair_up(painting_fields), position)

    def record_remembered(
        self,
        recipe: Recipe,
        match: Match,
        reason: str,
        *,
        seconds: float = 0.0,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Record a job that memory answered after a lookup of `seconds`.

        It saved the mean cost of such paintings, or of this one if none was counted, less the cost of the lookup.
        """
        job, picture = secrets.token_hex(16), match.picture
        cost = dict(zip(("seconds", "joules"), whole_cost(picture), strict=True))
        memory_match = asdict(MemoryMatch(prompt=picture.recipe.prompt, score=match.score, how=match.how))
        contents = {"recipe": dump_recipe(recipe), "match": dump(memory_match), "picture": dump_picture(picture)}
        fields = {**common_fields(picture.scope, now(), options), **contents}
        fields |= {"painting": "", "origin": Origin.MEMORY.value, "reason": reason}
        request = {
            "job": job_record(job, fields),
            "picture": picture.key,
            "cost_class": cost_class(picture.recipe),
            **cost,
            "lookup_seconds": seconds,
            "lookup_joules": seconds * LOOKUP_WATTS,
        }
        self.run_remember(dump(request))
        return job_from_memory(job, fields)

    def cancel(self, job: str) -> bool:
        """Cancel a job; returns whether this call did. Its painting goes on while other jobs wait for it."""
        return bool(self.run_cancel(job, KEPT_SECONDS))

    def forget(self, key: str, scope: str | None = None) -> bool:
        """Remove the jobs and paintings that led to this picture, except paintings under way and their jobs.

        Those of other scopes stay, if a scope is given. Returns whether there was anything to remove.
        """
        stream, linked = self.prefix + FINISHED, self.prefix + "picture:" + key
        with redis_errors():
            paintings = {name: self.painting_of(name, scope) for name in self.redis.smembers(linked)}
            theirs = {name: painting for name, painting in paintings.items() if painting is not None}
            unfinished = self.snapshots.unfinished(list(set(theirs.values())))
            names = [name for name, painting in theirs.items() if painting not in unfinished]
            finished = self.snapshots.finished_pictures("0-0")
            entries = [entry for entry, picture in finished if matches(picture, key, scope)]
            pipe = self.redis.pipeline(transaction=True)
            for name in names:
                pipe.delete(self.prefix + name)
                pipe.srem(linked, name)
            for entry in entries:
                pipe.xdel(stream, entry)
            pipe.execute()
        return bool(names or entries)

    def painting_of(self, name: str, scope: str | None) -> str | None:
        """The painting that job:<id> or painting:<id> is about; "" for a job that memory answered.

        None if it belongs to another scope than the given one.
        """
        kind, _, painting = name.partition(":")
        owner, of_job = self.redis.hmget(self.prefix + name, "scope", "painting")
        if scope not in (None, owner):
            return None
        return painting if kind == "painting" else of_job or ""


def common_fields(scope: str, created: float, options: JobOptions) -> dict[str, str]:
    """The fields that the hashes of all new jobs have."""
    return {
        "scope": scope,
        "user": options.get("user", ""),
        "created": str(created),
        "receipt": options.get("receipt", ""),
        **dump_notes(options.get("notes", ())),
    }


def rank_of(created: float, options: JobOptions) -> float:
    """The rank of a job in the queue; the lowest comes first."""
    return created - PRIORITY_SECONDS * options.get("priority", 0)


def matches(picture: Picture, key: str, scope: str | None) -> bool:
    """Whether a picture has this key, and this scope if one is given."""
    return picture.key == key and scope in (None, picture.scope)


def draw_seed() -> int:
    """A random seed of 32 bits, the range that other tools use."""
    return secrets.randbits(32)


def joined_fields(painting: str, reason: str) -> dict[str, str]:
    """The fields of a job that has joined a painting."""
    return {"painting": painting, "origin": Origin.JOINED.value, "reason": reason}


def new_painting_fields(
    recipe: Recipe, scope: str, user: str, *, wish: str, created: float, rank: float
) -> dict[str, str]:
    """The fields of a new painting that waits in the queue; `recipe` must have a seed."""
    queued = {"state": State.QUEUED.value, "waiters": "1", "attempts": "0", "step": "0"}
    contents = {"recipe": dump_recipe(recipe), "scope": scope, "model": recipe.model, "key": key_in(scope, recipe)}
    users = {"user": hash_name(user), "users": hash_name(user)}
    return {**queued, **contents, **users, "wish": wish, "created": str(created), "rank": str(rank)}


def job_record(job: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """The job as RECORD in scripts.py takes it."""
    lists = ["jobs", "jobs:scope:" + hash_name(fields["scope"])]
    if user := fields["user"]:
        lists.append("jobs:user:" + hash_name(user))
    return {
        "id": job,
        "fields": fields,
        "lists": lists,
        "list_length": LIST_LENGTH,
        "kept_seconds": KEPT_SECONDS,
        "minute": this_minute(),
    }


def waiting_job(job: str, fields: Mapping[str, str], painting: Mapping[str, str], position: int | None) -> Job:
    """The job that a script has just recorded."""
    recorded = job_from_painting(job, fields, painting=painting, position=position)
    assert recorded is not None  # its painting has fields
    return recorded
