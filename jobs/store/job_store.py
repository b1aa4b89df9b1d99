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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import redis

from jobs.job import Claim, Job, MemoryMatch, Origin, State
from memo import SHARED, Picture, Recipe, Unavailable, now
from memo.picture import from_record, record
from memo.recipe import from_canonical, to_canonical

from . import scripts

log = logging.getLogger(__name__)

PREFIX = "memoaized:"
LEASE_SECONDS = 15.0
AGE = 60.0  # seconds of waiting that are worth as much as one degree of priority
KEPT_SECONDS = 7 * 24 * 3600  # how long a finished job can be asked about
RECENT_JOBS = 1000
PAGE = 100  # jobs read at once
LOOKUP_WATTS = 10.0  # of the core that looks up: assumed, as everywhere that nothing is measured
WORKER_SILENCE = 20.0  # seconds after which a worker counts as gone
BACKLOG_BATCH = 16
MOST_CONNECTIONS = 64  # of one process; threads wait for each other's, for so many seconds
POOL_SECONDS = 10
FINISHED = "finished"  # what is watched for pictures of any painting
MINUTES_KEPT = 26 * 60  # of history


class JobStore:
    """Methods raise Unavailable when Redis does not answer."""

    def __init__(self, client: "redis.Redis[str]", prefix: str = PREFIX) -> None:
        self.redis, self.prefix = client, prefix
        self.script = {
            name: client.register_script(getattr(scripts, name))
            for name in (
                "OPEN",
                "JOIN",
                "CLAIM",
                "PROGRESS",
                "MESSAGE",
                "RENEW",
                "FINISH",
                "RELEASE",
                "CANCEL",
                "ONCE",
            )
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
        work = {"recipe": dump(to_canonical(seeded)), "scope": scope, "model": recipe.model}
        rank = moment - AGE * priority
        served = str(self.run("OPEN", painting, wish, moment, rank, digest(user), *flat(work)))
        joined = served != painting
        reason = "the same is being painted for someone already" if joined else reason
        origin = Origin.JOINED if joined else Origin.PAINTED
        asked = {"random_seed": int(recipe.seed is None), "always_paint": int(not joinable), "scope": scope}
        return self.record_waiting(job, served, origin=origin, reason=reason, created=moment, user=user, **asked)

    def join(self, painting: str, reason: str, user: str = "", priority: int = 0) -> Job | None:
        """Record a job that waits for a painting under way; None when it has ended meanwhile."""
        if not self.run("JOIN", painting, digest(user), now() - AGE * priority):
            return None
        job, asked = secrets.token_hex(16), {"reason": reason, "created": now(), "user": user}
        with answering():
            scope = self.redis.hget(self.prefix + "painting:" + painting, "scope")
        return self.record_waiting(job, painting, origin=Origin.JOINED, scope=scope, **asked)

    def record_waiting(self, job: str, painting: str, **request: Any) -> Job:
        """Record a job that waits for a painting."""
        self.record_job(job, {"painting": painting, **request})
        found = self.job(job)
        assert found is not None
        self.link(found.key, job, painting)
        return found

    def record_remembered(
        self, recipe: Recipe, picture: Picture, match: MemoryMatch, reason: str, user: str = "", took: float = 0.0
    ) -> Job:
        """Record a job that memory answered at once, `took` being the seconds of looking up.

        It saved what such paintings cost on average, less the looking up; nothing where that is not known.
        """
        job, moment = secrets.token_hex(16), now()
        request = {
            "painting": "",
            "origin": Origin.MEMORY,
            "reason": reason,
            "created": moment,
            "user": user,
            "scope": picture.scope,
            "recipe": dump(to_canonical(recipe)),
            "match": dump(asdict(match)),
            "picture": dump_picture(picture),
        }
        self.record_job(job, request)
        self.link(picture.key, job)
        seconds, joules = self.mean_cost(picture)
        spared = {"seconds_saved": seconds - took, "joules_saved": joules - took * LOOKUP_WATTS}
        self.count(**{what: max(0.0, value) for what, value in spared.items()})
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
        """Add to `counts` and to this minute's."""
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            for name, value in by.items():
                pipe.hincrbyfloat(self.prefix + "counts", name, value)
            self.note(pipe, by)
            pipe.execute()

    def note(self, pipe: Any, by: Mapping[str, float]) -> None:
        """Add to this minute's counts; they are kept for MINUTES_KEPT."""
        minute = f"{self.prefix}minute:{int(now() // 60)}"
        for name, value in by.items():
            pipe.hincrbyfloat(minute, name, value)
        pipe.expire(minute, MINUTES_KEPT * 60)

    def history(self, minutes: int) -> list[Counter[str]]:
        """Counts of each of the last minutes, this one last: jobs by origin, costs, pictures, batch sizes."""
        last = int(now() // 60)
        with answering():
            pipe = self.redis.pipeline(transaction=False)
            for minute in range(last - minutes + 1, last + 1):
                pipe.hgetall(f"{self.prefix}minute:{minute}")
            return [Counter({name: float(value) for name, value in found.items()}) for found in pipe.execute()]

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
            self.remember(pipe, "scope:" + digest(request["scope"]), job, request["created"])
            pipe.hincrby(self.prefix + "counts", str(request["origin"]), 1)
            self.note(pipe, {str(request["origin"]): 1})
            if request["user"]:
                self.remember(pipe, "user:" + digest(request["user"]), job, request["created"])
            pipe.execute()

    def link(self, key: str, job: str, painting: str = "") -> None:
        """Note what is to be forgotten with the picture of this key."""
        name = self.prefix + "of:" + key
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            pipe.sadd(name, "job:" + job, *(["painting:" + painting] if painting else []))
            pipe.expire(name, KEPT_SECONDS)
            pipe.execute()

    def forget(self, key: str) -> None:
        """Remove what is known of the jobs and paintings that led to this picture; what is under way goes on."""
        stream = self.prefix + FINISHED
        with answering():
            names = self.redis.smembers(self.prefix + "of:" + key)
            paintings = {name: self.painting_of(name) for name in names}
            living = self.unfinished(list(set(paintings.values())))
            gone = [name for name, painting in paintings.items() if painting not in living]
            pipe = self.redis.pipeline(transaction=True)
            for name in gone:
                pipe.delete(self.prefix + name)
                pipe.srem(self.prefix + "of:" + key, name)
            for entry, fields in self.redis.xrange(stream):
                if (picture := load_picture(fields["picture"])) and picture.key == key:
                    pipe.xdel(stream, entry)
            pipe.execute()

    def painting_of(self, name: str) -> str:
        """The painting that job:<id> or painting:<id> is about; "" for what memory answered."""
        kind, _, number = name.partition(":")
        return number if kind == "painting" else self.redis.hget(self.prefix + name, "painting") or ""

    def remember(self, pipe: Any, of: str, job: str, created: float) -> None:
        """Put a job on a list of recent ones that is kept as long as the newest of them."""
        pipe.zadd(self.prefix + of, {job: created})
        pipe.zremrangebyrank(self.prefix + of, 0, -RECENT_JOBS - 1)
        pipe.expire(self.prefix + of, KEPT_SECONDS)

    def job(self, job: str) -> Job | None:
        """A snapshot, or None when this id was never given or has expired."""
        return next(iter(self.jobs([job])), None)

    def jobs(self, names: Sequence[str]) -> list[Job]:
        """Snapshots in the order of these ids, without those that were never given or have expired."""
        return [job for start in range(0, len(names), PAGE) for job in self.page(names[start : start + PAGE])]

    def page(self, names: Sequence[str]) -> list[Job]:
        """As `jobs`, in two requests: all at once would keep others waiting."""
        with answering():
            pipe = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self.prefix + "job:" + name)
            requests = [(name, request) for name, request in zip(names, pipe.execute(), strict=True) if request]
            pipe = self.redis.pipeline(transaction=True)
            for _, request in requests:
                if painting := request["painting"]:
                    pipe.hgetall(self.prefix + "painting:" + painting)
                    pipe.zrank(self.prefix + "queued", painting)
            told = iter(pipe.execute())
        found = (
            from_painting(name, request, work=next(told), position=next(told))
            if request["painting"]
            else from_memory(name, request)
            for name, request in requests
        )
        return [job for job in found if job]

    def preview(self, job: str) -> bytes | None:
        """What a job's picture looks like by now, if it is being painted and something can be seen."""
        with answering():
            painting = self.redis.hget(self.prefix + "job:" + job, "painting")
            found = self.redis.hget(self.prefix + "painting:" + painting, "preview") if painting else None
        return base64.b64decode(found) if found else None

    def recent(self, limit: int, scope: str | None = None) -> list[Job]:
        """The newest jobs first, of one scope or of all."""
        name = "jobs" if scope is None else "scope:" + digest(scope)
        with answering():
            names = self.redis.zrevrange(self.prefix + name, 0, limit - 1)
        return self.jobs(names)

    def of_user(self, user: str) -> list[Job]:
        """The jobs of a user that are still known, newest first."""
        with answering():
            names = self.redis.zrevrange(self.prefix + "user:" + digest(user), 0, -1)
        return self.jobs(names)

    def cancel(self, job: str) -> bool:
        """Whether this call cancelled it; its painting goes on while others wait for it."""
        return bool(self.run("CANCEL", job, now(), KEPT_SECONDS))

    def compare_and_set(self, name: str, value: str, seconds: float, instead: str = "") -> str | None:
        """Write a value under a name for so many seconds, if `instead` (or nothing) stands there; "" takes it away.

        None when it was written, else what stands there, which may be "".
        """
        there = self.run("ONCE", digest(name), value, round(seconds * 1000), instead)
        return None if there is None else str(there)

    def keep_group(self, group: str, jobs: Sequence[str], facts: Mapping[str, object]) -> None:
        """Write down, for as long as jobs are kept, that these were asked for as one, and what else is known."""
        with answering():
            self.redis.set(self.prefix + "group:" + group, dump({**facts, "jobs": list(jobs)}), ex=KEPT_SECONDS)

    def group(self, group: str) -> dict[str, Any] | None:
        """The facts of a group, its `jobs` among them; None when there is none of this name."""
        with answering():
            found = self.redis.get(self.prefix + "group:" + group)
        return dict(json.loads(found)) if found else None

    # What workers do

    def claim(self, *models: str) -> Claim | None:
        """Take the painting of these models whose turn it is, owners taking turns; None when none waits."""
        token = secrets.token_hex(16)
        moment = now()
        got = self.run("CLAIM", token, moment, moment + LEASE_SECONDS, KEPT_SECONDS, *models)
        if got is None:
            return None
        painting, recipe, scope, attempt, user, rank, fault = got
        wanted = from_canonical(json.loads(recipe))
        return Claim(painting, token, wanted, scope, int(attempt), user, float(rank), fault)

    def report_progress(
        self, claim: Claim, step: int, seconds_left: float | None = None, preview: str = "", message: str = ""
    ) -> str:
        """Report a finished step; answers "go on", "cancel", or "lost" when another worker has the claim.

        `preview` is an image in base64 that takes the rank of the one before; `message` tells what is waited for.
        """
        left = "" if seconds_left is None else round(seconds_left, 3)
        return str(self.run("PROGRESS", claim.painting, claim.token, step, left, preview, message))

    def report_message(self, claim: Claim, message: str, *, fault: str = "") -> str:
        """Tell what is waited for while no step is taken, or what this try failed of; answers as `progress`."""
        return str(self.run("MESSAGE", claim.painting, claim.token, message, fault))

    def renew_lease(self, claim: Claim) -> bool:
        """Prolong the lease; False when the claim is lost."""
        return bool(self.run("RENEW", claim.painting, claim.token, now() + LEASE_SECONDS))

    def complete(self, claim: Claim, picture: Picture) -> bool:
        """The picture is kept; False when the claim was lost meanwhile. Its cost goes into the books."""
        if not self.finish(claim, State.DONE, {"picture": dump_picture(picture)}):
            return False
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            for what, value in (("seconds", picture.seconds), ("joules", picture.joules), ("count", 1.0)):
                pipe.hincrbyfloat(self.prefix + "spent", f"{kind_of(picture.recipe)}:{what}", value)
            pipe.execute()
        self.count(seconds_spent=picture.seconds, joules_spent=picture.joules, pictures=1)
        return True

    def finished(self, since: str | None = None) -> list[tuple[str, Picture]]:
        """Pictures finished after the one of this name, oldest first, each with its name; None: the last one only."""
        stream = self.prefix + FINISHED
        with answering():
            found = self.redis.xrange(stream, f"({since}") if since else self.redis.xrevrange(stream, count=1)
        pictures = ((name, load_picture(fields["picture"])) for name, fields in found)
        return [(name, picture) for name, picture in pictures if picture]

    def fail(self, claim: Claim, error: str) -> bool:
        """The painting cannot be made; the error is shown to whoever asked."""
        return self.finish(claim, State.FAILED, {"error": error})

    def end_cancelled(self, claim: Claim) -> bool:
        """Nobody waits for it any more."""
        return self.finish(claim, State.CANCELLED, {})

    def finish(self, claim: Claim, state: State, facts: Mapping[str, str]) -> bool:
        """A final state, written only by the holder of the claim."""
        return bool(self.run("FINISH", claim.painting, claim.token, state, now(), KEPT_SECONDS, *flat(facts)))

    def release(self, claim: Claim) -> bool:
        """Hand the painting back unpainted, as if never claimed; somebody must be rung for it."""
        return self.run("RELEASE", claim.painting, claim.token, "1") is not None

    # What keeps it going

    def count_waiting(self, model: str) -> int:
        """How many paintings wait for this model."""
        with answering():
            return int(self.redis.zcard(self.prefix + "waiting:" + model))

    def count_queued(self) -> int:
        """How many paintings wait, for any model."""
        with answering():
            return int(self.redis.zcard(self.prefix + "queued"))

    def longest_wait(self, model: str) -> float:
        """For how many seconds the painting has waited that stands first in its user's line; 0 when none waits."""
        since = []
        with answering():
            for user in self.redis.smembers(self.prefix + "users:" + model):
                for painting in self.redis.zrange(f"{self.prefix}queued:{user}:{model}", 0, 0):
                    since.append(number(self.redis.hget(self.prefix + "painting:" + painting, "created")) or now())
        return now() - min(since) if since else 0.0

    def requeue_expired(self) -> list[str]:
        """Put paintings whose lease ran out back into the queue; returns the model of each, to be rung for."""
        back = []
        with answering():
            for painting in self.redis.zrangebyscore(self.prefix + "leases", 0, now()):
                token = self.redis.hget(self.prefix + "painting:" + painting, "token") or ""
                if model := self.run("RELEASE", painting, token, "0"):
                    log.warning("painting %s lost its worker; back into the queue", painting)
                    back.append(str(model))
        return back

    def heartbeat(self, worker: str, facts: Mapping[str, object]) -> None:
        """This worker is alive."""
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hset(self.prefix + "workers", worker, dump({**facts, "seen": now()}))
            pipe.expire(self.prefix + "workers", KEPT_SECONDS)
            self.note(pipe, batch_sizes(facts))
            pipe.execute()

    def remove_worker(self, worker: str) -> None:
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

    def unfinished(self, paintings: Sequence[str]) -> set[str]:
        """Those of them that are queued or running."""
        with answering():
            pipe = self.redis.pipeline(transaction=False)
            for painting in paintings:
                pipe.hget(self.prefix + "painting:" + painting, "state")
            states = zip(paintings, pipe.execute(), strict=True)
        return {painting for painting, state in states if state in (State.QUEUED, State.RUNNING)}

    # Pictures that wait for the index

    def add_to_backlog(self, key: str) -> None:
        """Remember durably that this kept picture is not indexed yet."""
        with answering():
            self.redis.xadd(self.prefix + "unindexed", {"key": key})

    def backlog(self) -> list[tuple[str, str]]:
        """The oldest entries of the backlog: (entry id, picture key)."""
        with answering():
            entries = self.redis.xrange(self.prefix + "unindexed", count=BACKLOG_BATCH)
        return [(entry, fields["key"]) for entry, fields in entries]

    def remove_from_backlog(self, entry: str) -> None:
        """This entry of the backlog is indexed."""
        with answering():
            self.redis.xdel(self.prefix + "unindexed", entry)

    def touch_init_image(self, start: str, scope: str) -> None:
        """Note that a picture to start from was sent or asked for now."""
        with answering():
            self.redis.zadd(self.prefix + "starts", {json.dumps([start, scope]): now()})

    def old_init_images(self) -> list[tuple[str, str]]:
        """Some of those noted longest ago, by name and scope, if that is longer than finished jobs are known."""
        with answering():
            old = self.redis.zrangebyscore(self.prefix + "starts", "-inf", now() - KEPT_SECONDS, 0, BACKLOG_BATCH)
        return [(start, scope) for start, scope in map(json.loads, old)]

    def drop_init_image(self, start: str, scope: str) -> None:
        """This one need not be looked at again, unless it is wanted again."""
        with answering():
            self.redis.zrem(self.prefix + "starts", json.dumps([start, scope]))

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
    return replace(recipe, seed=secrets.randbits(32))


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
    return dump({"recipe": to_canonical(picture.recipe), "record": record(picture)})


def load_picture(text: str | None) -> Picture | None:
    """The opposite of `dump_picture`."""
    if not text:
        return None
    values = json.loads(text)
    return from_record(from_canonical(values["recipe"]), values["record"])


def batch_sizes(facts: Mapping[str, Any]) -> dict[str, float]:
    """How wide a worker's painters step now, to be averaged over those that step."""
    stepping = [
        float(state.get("batch_size", 0)) for state in facts.get("painters", {}).values() if state.get("batch_size")
    ]
    return {"batch_sizes": sum(stepping), "batches": len(stepping)} if stepping else {}


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
        recipe=from_canonical(json.loads(request["recipe"])),
        created=float(request["created"]),
        finished=float(request["created"]),
        picture=load_picture(request["picture"]),
        user=request.get("user", ""),
        scope=request.get("scope", SHARED),
        random_seed=True,
        match=MemoryMatch(**json.loads(request["match"])),
    )


def from_painting(
    job: str, request: Mapping[str, str], *, work: Mapping[str, str], position: int | None
) -> Job | None:
    """The job as its painting stands, if it still does; cancelled, it is so whatever becomes of the painting."""
    if not work:
        return None
    cancelled = number(request.get("cancelled"))
    state = State.CANCELLED if cancelled else State(work["state"])
    recipe = from_canonical(json.loads(work["recipe"]))
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
        message=work.get("message", "") if state is State.RUNNING else "",
        previewed=int(work["previewed"]) if state is State.RUNNING and "previewed" in work else None,
        error=work.get("error"),
        picture=load_picture(work.get("picture")) if state is State.DONE else None,
        user=request.get("user", ""),
        scope=work["scope"],
        random_seed=request.get("random_seed") != "0",
        always_paint=request.get("always_paint") == "1",
        waiters=int(work.get("waiters", 1)),
    )


def open_job_store(url: str) -> JobStore:
    """A board at a redis-py URL (redis://, rediss:// or unix://); connects on first use."""
    waits = {"socket_timeout": 10, "socket_connect_timeout": 3, "health_check_interval": 30}
    pool = redis.BlockingConnectionPool.from_url(
        url, decode_responses=True, max_connections=MOST_CONNECTIONS, timeout=POOL_SECONDS, **waits
    )
    return JobStore(redis.Redis.from_pool(pool))
