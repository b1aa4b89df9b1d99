"""Whether anything is lost while everything breaks: paintings on several workers, and each part made to fail in turn.

All the while a worker is killed every few seconds and started again; Redis is restarted, the store and the index fail
for some seconds each. Afterwards every job must have ended, no painting may have become two pictures, the index may
name no picture without bytes, and after `reindex` no picture may lie in the store unfound.
"""

import argparse
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fleet import Fleet, fleet, submit
from jobs.job import Job, State
from jobs.queue import Queue
from memo import Memory, Unavailable
from memo.memory import object_name
from memoaized.reindex import re_embed

Deed = Callable[[], None]

JOBS, WORKERS = 500, 3
STEPS, STEP_SECONDS = 20, 0.02
KILL_SECONDS = 4.0  # between the kills of a worker
DOWN_SECONDS = 5.0  # that the store and the index are away
PATIENCE = 600.0  # seconds for all to end
ENDED = (0.1, 0.3, 0.5)  # of the jobs, when the store, the index and Redis fail
HELD = 0.25  # of the jobs, asked for when the last of these has failed: or a fast fleet might end before that


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = measure(Path(folder), given.text_folder.resolve(), given.jobs, given.workers)
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:24} {value}")


def measure(folder: Path, text_folder: Path, many: int, workers: int) -> dict[str, Any]:
    """Figures by name."""
    begun = time.monotonic()
    with fleet(folder, text_folder, step_seconds=STEP_SECONDS) as run:
        names = [f"worker-{number}" for number in range(1, workers + 1)]
        for name in names:
            run.start(name)
        queue, memory = run.open_queue(), run.open_memory()
        asked = [submit(queue, str(number), STEPS) for number in range(many - int(HELD * many))]
        wait_for_first(queue, asked)
        chaos = Chaos(run, names)
        ended = wait(queue, asked, many, chaos)
        wait_for_backlog(queue)
        told: dict[str, Any] = {"jobs": many, "lost": many - len(ended), **verified(memory, ended)}
        run.end(*names)
        told["orphans"] = orphans(memory)
        last = max((job.finished or 0.0 for job in ended), default=0.0)
        told |= {"kills": chaos.kills, "ended_after_last_outage_s": round(last - chaos.last_outage, 1)}
        told |= {"seconds": round(time.monotonic() - begun, 1)}
        return told


class Chaos:
    """What goes wrong, and when."""

    def __init__(self, run: Fleet, names: list[str]) -> None:
        self.fleet, self.names, self.kills = run, names, 0
        self.random = random.Random(1)
        self.away = run.pictures.with_name("away")
        self.last_outage = 0.0  # seconds since 1970
        self.begun, self.next_kill = time.monotonic(), KILL_SECONDS
        self.outages: list[tuple[float, Deed, Deed]] = [
            (ENDED[0], self.store_away, self.store_back),
            (ENDED[1], lambda: run.kill("index"), lambda: run.start("index")),
            (ENDED[2], self.restart_redis, lambda: None),
        ]
        self.back: tuple[float, Deed] | None = None  # when and how what is away comes back

    def tick(self, ended: float) -> None:
        """Do what is due by now, when this share of the jobs has ended."""
        passed = time.monotonic() - self.begun
        if self.back and self.back[0] <= passed:
            self.back[1]()
            self.back = None
        elif not self.back and self.outages and self.outages[0][0] <= ended:
            _, away, back = self.outages.pop(0)
            away()
            self.back = passed + DOWN_SECONDS, back
        if passed >= self.next_kill:
            self.next_kill = passed + KILL_SECONDS
            name = self.random.choice(self.names)
            self.fleet.kill(name)
            self.fleet.start(name)
            self.kills += 1

    def store_away(self) -> None:
        """No picture can be written or read."""
        self.fleet.pictures.rename(self.away)
        self.fleet.pictures.write_text("a file where the folder of pictures was")

    def store_back(self) -> None:
        """As before."""
        self.fleet.pictures.unlink()
        self.away.rename(self.fleet.pictures)

    def restart_redis(self) -> None:
        """Ended as an upgrade would end it, and away for a second."""
        self.fleet.signal("redis", signal.SIGTERM)
        time.sleep(1.0)
        self.fleet.start("redis")
        self.last_outage = time.time()


def wait_for_first(queue: Queue, asked: list[Job]) -> None:
    """Until workers are at work, else what goes wrong would disturb nobody; raises RuntimeError when none ever is."""
    deadline = time.monotonic() + PATIENCE
    while not any((job := look(queue, one.id)) and job.state.final for one in asked):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no worker finished a job in {PATIENCE:.0f} s: see their logs")
        time.sleep(0.1)


def wait(queue: Queue, asked: list[Job], many: int, chaos: Chaos) -> list[Job]:
    """The jobs that have ended, of so many, when all have or patience has; asks for the rest when all has failed.

    Raises RuntimeError when not all has.
    """
    deadline = time.monotonic() + PATIENCE
    ended: dict[str, Job] = {}
    while (len(ended) < many or chaos.back) and time.monotonic() < deadline:
        time.sleep(0.2)
        chaos.tick(len(ended) / many)
        if not chaos.outages:
            asked += [submit(queue, str(number), STEPS) for number in range(len(asked), many)]
        for one in asked:
            if one.id not in ended and (job := look(queue, one.id)) and job.state.final:
                ended[one.id] = job
    if chaos.outages:
        raise RuntimeError(f"{len(ended)} of {many} jobs ended in {PATIENCE:.0f} s, before everything had failed")
    return list(ended.values())


def look(queue: Queue, job: str) -> Job | None:
    """The job, unless Redis is away or has never heard of it."""
    try:
        return queue.job_store.jobs.find(job)
    except Unavailable:
        return None


def wait_for_backlog(queue: Queue) -> None:
    """Until what was kept while the index was down is indexed; what still waits then is counted as an orphan."""
    deadline = time.monotonic() + 60
    while queue.job_store.backlog.unindexed() and time.monotonic() < deadline:
        time.sleep(0.5)


def verified(memory: Memory, ended: list[Job]) -> dict[str, int]:
    """What store and index hold against what was promised."""
    states = Counter(job.state for job in ended)
    keys = {job.recipe.key for job in ended}
    stored, indexed = set(memory.store.names()), set(memory.index.keys())
    done = [job for job in ended if job.state is State.DONE]
    return {
        "done": states[State.DONE],
        "failed": states[State.FAILED],
        "done_without_bytes": sum(object_name(job.recipe.key) not in stored for job in done),
        "painted_twice": len(stored - {object_name(key) for key in keys}),
        "index_without_bytes": sum(object_name(key) not in stored for key in indexed),
        "unindexed": len(stored - {object_name(key) for key in indexed}),
    }


def orphans(memory: Memory) -> int:
    """Pictures that are still not in the index after `reindex`."""
    re_embed(memory.embedder, memory.index, memory.store, lambda line: None)
    return len(set(memory.store.names()) - {object_name(key) for key in memory.index.keys()})


if __name__ == "__main__":
    main()
