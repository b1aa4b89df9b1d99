"""Jobs as they stand now: one, several, the newest, those of a user; and the pictures finished last."""

import base64
from collections.abc import Sequence

from jobs.job import Job, State
from memo import Picture

from .connection import Connection, redis_errors
from .records import hash_name, job_from_memory, job_from_painting, load_picture

PAGE = 100  # jobs read at once: more would keep other clients waiting
FINISHED = "finished"  # the stream of finished pictures, and the channel that announces a new one


class Snapshots:
    """Reads jobs from Redis. Methods raise Unavailable when it does not answer."""

    def __init__(self, connection: Connection) -> None:
        self.redis, self.prefix = connection.redis, connection.prefix

    def find(self, job: str) -> Job | None:
        """The job of this id; None when the id is unknown or has expired."""
        return next(iter(self.find_all([job])), None)

    def find_all(self, ids: Sequence[str]) -> list[Job]:
        """The jobs of these ids, in this order; ids that are unknown or have expired are left out."""
        return [job for start in range(0, len(ids), PAGE) for job in self.find_page(ids[start : start + PAGE])]

    def find_page(self, ids: Sequence[str]) -> list[Job]:
        """As `find_all`, for at most PAGE jobs in two round trips."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=False)
            for job in ids:
                pipe.hgetall(self.prefix + "job:" + job)
            known = [(job, fields) for job, fields in zip(ids, pipe.execute(), strict=True) if fields]
            pipe = self.redis.pipeline(transaction=True)
            for _, fields in known:
                if painting := fields["painting"]:
                    pipe.hgetall(self.prefix + "painting:" + painting)
                    pipe.zrank(self.prefix + "queued", painting)
            replies = iter(pipe.execute())
        jobs = (
            job_from_painting(job, fields, painting=next(replies), position=next(replies))
            if fields["painting"]
            else job_from_memory(job, fields)
            for job, fields in known
        )
        return [job for job in jobs if job]

    def recent(self, limit: int, scope: str | None = None) -> list[Job]:
        """The newest jobs first, of one scope or of all."""
        name = "jobs" if scope is None else "jobs:scope:" + hash_name(scope)
        with redis_errors():
            ids = self.redis.zrevrange(self.prefix + name, 0, limit - 1)
        return self.find_all(ids)

    def of_user(self, user: str) -> list[Job]:
        """The jobs of a user that are still known, newest first."""
        with redis_errors():
            ids = self.redis.zrevrange(self.prefix + "jobs:user:" + hash_name(user), 0, -1)
        return self.find_all(ids)

    def preview(self, job: str) -> bytes | None:
        """The last preview of a job that is being painted, a WebP file; None while there is none."""
        with redis_errors():
            painting = self.redis.hget(self.prefix + "job:" + job, "painting")
            preview = self.redis.hget(self.prefix + "painting:" + painting, "preview") if painting else None
        return base64.b64decode(preview) if preview else None

    def unfinished(self, paintings: Sequence[str]) -> set[str]:
        """Those of these paintings that are queued or running."""
        with redis_errors():
            pipe = self.redis.pipeline(transaction=False)
            for painting in paintings:
                pipe.hget(self.prefix + "painting:" + painting, "state")
            states = zip(paintings, pipe.execute(), strict=True)
        return {painting for painting, state in states if state in (State.QUEUED, State.RUNNING)}

    def finished_pictures(self, since: str) -> list[tuple[str, Picture]]:
        """Pictures finished after the stream entry `since`, oldest first, each with its entry's id."""
        with redis_errors():
            entries = self.redis.xrange(self.prefix + FINISHED, f"({since}")
        pictures = ((entry, load_picture(fields["picture"])) for entry, fields in entries)
        return [(entry, picture) for entry, picture in pictures if picture]

    def latest_entry(self) -> str:
        """An id after which the stream of finished pictures goes on from now, whether or not one was finished yet.

        It is made from Redis' clock, so that it does not tell when somebody's picture was finished.
        """
        with redis_errors():
            seconds, microseconds = self.redis.time()
        return f"{seconds}{microseconds // 1000:03d}-0"
