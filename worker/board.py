"""The board of jobs and paintings in Redis: who asked for what, what is being painted, by whom, how far.

Every change is one atomic script, so that web and worker processes may die between any two lines. Knows Redis;
nothing of Celery, of painting or of HTTP.
"""

import base64
import contextlib
import hashlib
import json
import logging
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import redis

from memo import Picture, Recipe, Unavailable, from_mapping, now
from memo.picture import from_record, record
from memo.recipe import as_mapping

from . import scripts
from .jobs import Claim, Job, Origin, Remembered, State

log = logging.getLogger(__name__)

PREFIX = "memoaized:"
LEASE_SECONDS = 15.0
AGE = 60.0  # seconds of waiting that are worth as much as one degree of priority
MOST_ATTEMPTS = 3
KEPT_SECONDS = 7 * 24 * 3600  # how long a finished job can be asked about
RECENT_JOBS = 1000
LOOKUP_WATTS = 10.0  # of the core that looks up: assumed, as everywhere that nothing is measured
WORKER_SILENCE = 20.0  # seconds after which a worker counts as gone
BACKLOG_BATCH = 16


class Board:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, client: "redis.Redis[str]", prefix: str = PREFIX) -> None:
        self.redis, self.prefix = client, prefix
        self.script = {
            name: client.register_script(getattr(scripts, name))
            for name in ("OPEN", "JOIN", "CLAIM", "PROGRESS", "RENEW", "FINISH", "RELEASE", "CANCEL")
        }

    # What people do

    def open_job(
        self, recipe: Recipe, *, reason: str, scope: str, joinable: bool = True, user: str = "", priority: int = 0
    ) -> Job:
        """Record a job and its painting, or join the painting of the same wish; the seed is drawn here.

        `priority` orders what one user waits for: a degree more is worth AGE seconds of waiting.
        """
        job, painting, moment = secrets.token_hex(16), secrets.token_hex(16), now()
        seeded = recipe if recipe.seed is not None else with_seed(recipe)
        wish = f"{scope}:{recipe.key}" if joinable else ""
        work = {"recipe": dump(as_mapping(seeded)), "scope": scope, "owner": digest(user), "model": recipe.model}
        served = str(self.run("OPEN", painting, wish, moment, moment - AGE * priority, *flat(work)))
        joined = served != painting
        reason = "the same is being painted for someone already" if joined else reason
        origin = Origin.JOINED if joined else Origin.PAINTED
        return self.record_waiting(job, served, origin=origin, reason=reason, created=moment, user=user)

    def join(self, painting: str, reason: str, user: str = "") -> Job | None:
        """Record a job that waits for a painting under way; None when it has ended meanwhile."""
        if not self.run("JOIN", painting):
            return None
        job = secrets.token_hex(16)
        return self.record_waiting(job, painting, origin=Origin.JOINED, reason=reason, created=now(), user=user)

    def record_waiting(self, job: str, painting: str, **request: Any) -> Job:
        """Record a job that waits for a painting."""
        self.record_job(job, {"painting": painting, **request})
        found = self.job(job)
        assert found is not None
        return found

    def remembered(
        self, recipe: Recipe, picture: Picture, match: Remembered, reason: str, user: str = "", took: float = 0.0
    ) -> Job:
        """Record a job that memory answered at once, `took` being the seconds of looking up.

        It saved what such paintings cost on average, less the looking up.
        """
        job, moment = secrets.token_hex(16), now()
        request = {
            "painting": "",
            "origin": Origin.MEMORY,
            "reason": reason,
            "created": moment,
            "user": user,
            "recipe": dump(as_mapping(recipe)),
            "match": dump(asdict(match)),
            "picture": dump_picture(picture),
        }
        self.record_job(job, request)
        seconds, joules = self.mean_cost(picture)
        self.count(seconds_saved=seconds - took, joules_saved=joules - took * LOOKUP_WATTS)
        found = self.job(job)
        assert found is not None
        return found

    def mean_cost(self, like: Picture) -> tuple[float, float]:
        """Seconds and joules of paintings of this model, size and number of steps, else of this one."""
        names = [f"{kind_of(like.recipe)}:{what}" for what in ("seconds", "joules", "count")]
        with answering():
            seconds, joules, count = self.redis.hmget(self.prefix + "spent", names)
        if not count:
            return like.seconds, like.joules
        return float(seconds) / float(count), float(joules) / float(count)

    def count(self, **by: float) -> None:
        """Add to `counts`."""
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            for name, value in by.items():
                pipe.hincrbyfloat(self.prefix + "counts", name, value)
            pipe.execute()

    def counts(self) -> Counter[str]:
        """Jobs by origin since the beginning; seconds and joules spent on painting, and saved by memory's answers."""
        with answering():
            return Counter({name: float(value) for name, value in self.redis.hgetall(self.prefix + "counts").items()})

    def record_job(self, job: str, request: dict[str, Any]) -> None:
        """Write the job and put it on the list of recent ones."""
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.prefix + "job:" + job, mapping=dict(request))
            pipe.expire(self.prefix + "job:" + job, KEPT_SECONDS)
            pipe.zadd(self.prefix + "jobs", {job: request["created"]})
            pipe.zremrangebyrank(self.prefix + "jobs", 0, -RECENT_JOBS - 1)
            pipe.hincrby(self.prefix + "counts", str(request["origin"]), 1)
            if request["user"]:
                mine = self.prefix + "user:" + digest(request["user"])
                pipe.zadd(mine, {job: request["created"]})
                pipe.zremrangebyrank(mine, 0, -RECENT_JOBS - 1)
                pipe.expire(mine, KEPT_SECONDS)
            pipe.execute()

    def job(self, job: str) -> Job | None:
        """A snapshot, or None when this id was never given or has expired."""
        with answering():
            request = self.redis.hgetall(self.prefix + "job:" + job)
            if not request:
                return None
            if not request["painting"]:
                return from_memory(job, request)
            painting = request["painting"]
            pipe = self.redis.pipeline(transaction=True)
            pipe.hgetall(self.prefix + "painting:" + painting)
            pipe.zrank(self.prefix + "queued", painting)
            work, position = pipe.execute()
        return from_painting(job, request, work, position) if work else None

    def preview(self, job: str) -> bytes | None:
        """What a job's picture looks like by now, if it is being painted and something can be seen."""
        with answering():
            painting = self.redis.hget(self.prefix + "job:" + job, "painting")
            found = self.redis.hget(self.prefix + "painting:" + painting, "preview") if painting else None
        return base64.b64decode(found) if found else None

    def recent(self, limit: int) -> list[Job]:
        """The newest jobs first."""
        with answering():
            ids = self.redis.zrevrange(self.prefix + "jobs", 0, limit - 1)
        return [job for job in map(self.job, ids) if job]

    def of_user(self, user: str) -> list[Job]:
        """The jobs of a user that are still known, newest first."""
        with answering():
            ids = self.redis.zrevrange(self.prefix + "user:" + digest(user), 0, -1)
        return [job for job in map(self.job, ids) if job]

    def cancel(self, job: str) -> bool:
        """Whether this call cancelled it; its painting goes on while others wait for it."""
        return bool(self.run("CANCEL", job, now(), KEPT_SECONDS))

    # What workers do

    def claim(self, *models: str) -> Claim | None:
        """Take the painting of these models whose turn it is, owners taking turns; None when none waits.

        One that failed too often is not given out again: it ends here.
        """
        token = secrets.token_hex(16)
        moment = now()
        got = self.run("CLAIM", token, moment, moment + LEASE_SECONDS, MOST_ATTEMPTS, KEPT_SECONDS, *models)
        if got is None:
            return None
        painting, recipe, scope, attempt = got
        return Claim(painting, token, from_mapping(json.loads(recipe)), scope, int(attempt))

    def progress(
        self, claim: Claim, step: int, seconds_left: float | None = None, preview: str = "", said: str = ""
    ) -> str:
        """Report a finished step; answers "go on", "cancel", or "lost" when another worker has the claim.

        `preview` is an image in base64 that takes the place of the one before; `said` tells what is waited for.
        """
        left = "" if seconds_left is None else round(seconds_left, 3)
        return str(self.run("PROGRESS", claim.painting, claim.token, step, left, preview, said))

    def renew(self, claim: Claim) -> bool:
        """Prolong the lease; False when the claim is lost."""
        return bool(self.run("RENEW", claim.painting, claim.token, now() + LEASE_SECONDS))

    def done(self, claim: Claim, picture: Picture) -> bool:
        """The picture is kept; False when the claim was lost meanwhile. Its cost goes into the books."""
        if not self.finish(claim, State.DONE, {"picture": dump_picture(picture)}):
            return False
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            for what, value in (("seconds", picture.seconds), ("joules", picture.joules), ("count", 1.0)):
                pipe.hincrbyfloat(self.prefix + "spent", f"{kind_of(picture.recipe)}:{what}", value)
            pipe.execute()
        self.count(seconds_spent=picture.seconds, joules_spent=picture.joules)
        return True

    def failed(self, claim: Claim, error: str) -> bool:
        """The painting cannot be made; the error is shown to whoever asked."""
        return self.finish(claim, State.FAILED, {"error": error})

    def stopped(self, claim: Claim) -> bool:
        """Nobody waits for it any more."""
        return self.finish(claim, State.CANCELLED, {})

    def finish(self, claim: Claim, state: State, facts: Mapping[str, str]) -> bool:
        """A final state, written only by the holder of the claim."""
        return bool(self.run("FINISH", claim.painting, claim.token, state, now(), KEPT_SECONDS, *flat(facts)))

    def release(self, claim: Claim) -> bool:
        """Hand the painting back unpainted, as if never claimed; somebody must be rung for it."""
        return self.run("RELEASE", claim.painting, claim.token, "1") is not None

    # What keeps it going

    def waiting(self, model: str) -> int:
        """How many paintings wait for this model."""
        with answering():
            owners = self.redis.smembers(self.prefix + "owners:" + model)
            pipe = self.redis.pipeline(transaction=False)
            for owner in owners:
                pipe.zcard(f"{self.prefix}queued:{owner}:{model}")
            return sum(pipe.execute())

    def longest_wait(self, model: str) -> float:
        """For how many seconds the painting has waited that stands first in its owner's line; 0 when none waits."""
        since = []
        with answering():
            for owner in self.redis.smembers(self.prefix + "owners:" + model):
                for painting in self.redis.zrange(f"{self.prefix}queued:{owner}:{model}", 0, 0):
                    since.append(number(self.redis.hget(self.prefix + "painting:" + painting, "created")) or now())
        return now() - min(since) if since else 0.0

    def reclaim(self) -> list[str]:
        """Put paintings whose lease ran out back into the queue; returns the model of each, to be rung for."""
        back = []
        with answering():
            for painting in self.redis.zrangebyscore(self.prefix + "leases", 0, now()):
                token = self.redis.hget(self.prefix + "painting:" + painting, "token") or ""
                if model := self.run("RELEASE", painting, token, "0"):
                    log.warning("painting %s lost its worker; back into the queue", painting)
                    back.append(str(model))
        return back

    def beat(self, worker: str, facts: Mapping[str, object]) -> None:
        """This worker is alive."""
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.prefix + "workers", worker, dump({**facts, "seen": now()}))
            pipe.expire(self.prefix + "workers", KEPT_SECONDS)
            pipe.execute()

    def leave(self, worker: str) -> None:
        """This worker stops."""
        with answering():
            self.redis.hdel(self.prefix + "workers", worker)

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers heard of within WORKER_SILENCE seconds; others are struck off."""
        with answering():
            all_of_them = self.redis.hgetall(self.prefix + "workers")
            facts = {name: json.loads(text) for name, text in all_of_them.items()}
            gone = [name for name, fact in facts.items() if fact["seen"] < now() - WORKER_SILENCE]
            if gone:
                self.redis.hdel(self.prefix + "workers", *gone)
        return {name: fact for name, fact in facts.items() if name not in gone}

    # Pictures that wait for the index

    def postpone(self, key: str) -> None:
        """Remember durably that this kept picture is not indexed yet."""
        with answering():
            self.redis.xadd(self.prefix + "unindexed", {"key": key})

    def postponed(self) -> list[tuple[str, str]]:
        """The oldest entries of the backlog: (entry id, picture key)."""
        with answering():
            entries = self.redis.xrange(self.prefix + "unindexed", count=BACKLOG_BATCH)
        return [(entry, fields["key"]) for entry, fields in entries]

    def settled(self, entry: str) -> None:
        """This entry of the backlog is indexed."""
        with answering():
            self.redis.xdel(self.prefix + "unindexed", entry)

    def ping(self) -> None:
        """Raise Unavailable unless Redis answers."""
        with answering():
            self.redis.ping()

    def run(self, name: str, *arguments: object) -> Any:
        """Call one of the scripts."""
        with answering():
            return self.script[name](args=[self.prefix, *map(str, arguments)])


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Redis' errors as ours."""
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"the queue does not answer: {error}") from error


def with_seed(recipe: Recipe) -> Recipe:
    """The recipe with a seed drawn at random; 32 bits, as other tools write them."""
    return from_mapping({**as_mapping(recipe), "seed": secrets.randbits(32)})


def kind_of(recipe: Recipe) -> str:
    """What paintings of about the same cost share."""
    return f"{recipe.model} {recipe.width}x{recipe.height} {recipe.steps}"


def digest(user: str) -> str:
    """Of a name that may hold any characters, 32 hex digits."""
    return hashlib.blake2b(user.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def dump(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def dump_picture(picture: Picture) -> str:
    """The picture's recipe and record as JSON; `load_picture` reads it."""
    return dump({"recipe": as_mapping(picture.recipe), "record": record(picture)})


def load_picture(text: str | None) -> Picture | None:
    """The opposite of `dump_picture`."""
    if not text:
        return None
    values = json.loads(text)
    return from_record(from_mapping(values["recipe"]), values["record"])


def flat(mapping: Mapping[str, str]) -> Iterable[str]:
    """field, value, field, value …"""
    return (text for pair in mapping.items() for text in pair)


def number(text: str | None) -> float | None:
    """A time, or None when it has not come."""
    return float(text) if text else None


def from_memory(job: str, request: Mapping[str, str]) -> Job:
    """The job that `Board.remembered` recorded."""
    return Job(
        id=job,
        painting=None,
        state=State.DONE,
        origin=Origin.MEMORY,
        reason=request["reason"],
        recipe=from_mapping(json.loads(request["recipe"])),
        created=float(request["created"]),
        finished=float(request["created"]),
        picture=load_picture(request["picture"]),
        user=request.get("user", ""),
        match=Remembered(**json.loads(request["match"])),
    )


def from_painting(job: str, request: Mapping[str, str], work: Mapping[str, str], position: int | None) -> Job:
    """The job as its painting stands; a cancelled job is cancelled whatever becomes of the painting."""
    cancelled = number(request.get("cancelled"))
    state = State.CANCELLED if cancelled else State(work["state"])
    recipe = from_mapping(json.loads(work["recipe"]))
    return Job(
        id=job,
        painting=request["painting"],
        state=state,
        origin=Origin(request["origin"]),
        reason=request["reason"],
        recipe=recipe,
        created=float(request["created"]),
        started=number(work.get("started")),
        finished=cancelled or number(work.get("finished")),
        step=recipe.steps if state is State.DONE else int(work["step"]),
        position=position if state is State.QUEUED else None,
        seconds_left=number(work.get("left")) if state is State.RUNNING else None,
        said=work.get("said", "") if state is State.RUNNING else "",
        previewed=int(work["previewed"]) if state is State.RUNNING and "previewed" in work else None,
        error=work.get("error"),
        picture=load_picture(work.get("picture")) if state is State.DONE else None,
        user=request.get("user", ""),
    )


def open_board(url: str) -> Board:
    """A board at a redis-py URL (redis://, rediss:// or unix://); connects on first use."""
    client = redis.Redis.from_url(
        url, decode_responses=True, socket_timeout=10, socket_connect_timeout=3, health_check_interval=30
    )
    return Board(client)
