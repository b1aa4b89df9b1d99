"""Test that no job is lost while services fail: several workers paint, and every service fails in turn.

Every few seconds a worker is killed and started again; the store is away, answers writes with 409, and stores only
halves of objects, for some seconds each; the index fails; Redis refuses to write, and is restarted. Some jobs are
poison: they kill each worker that paints them, beside innocent ones in other slots. At the end every job must be
final, every innocent job done and every poison job failed, no job may have two pictures, every picture in the index
must have its bytes, and after `reindex` every picture in the store must be in the index.
"""

import argparse
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.fleet import POISON, Fleet, start_fleet, submit
from bench.fleet.faulty_store import Fault, FaultyStore, serve_faulty_store
from jobs.job import Job, State
from jobs.queue import Queue
from memo import Memory, Unavailable
from memo.memory import object_name
from memoaized.reindex import re_embed

Action = Callable[[], None]

JOBS, WORKERS, SLOTS = 500, 3, 4
POISON_JOBS = 3
STEPS, STEP_SECONDS = 20, 0.02
KILL_SECONDS = 4.0  # between two kills of a worker
OUTAGE_SECONDS = 5.0  # of the store and of the index, at least
STORE_FAILURES = 4  # requests that fail in each outage of the store, at least
REFUSAL_SECONDS = 10.0  # for which Redis refuses to write
TIMEOUT = 600.0  # seconds for all jobs to finish
# Shares of finished jobs at which the store is away, answers 409 and stores halves, and the index, Redis' writes and
# Redis fail
OUTAGES_AT = (0.05, 0.12, 0.19, 0.3, 0.4, 0.5)
HELD_BACK = 0.25  # share of the jobs submitted after the last outage; else a fast fleet may finish before it


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), options.text_folder.resolve(), options.jobs, options.workers)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:24} {value}")


def measure(folder: Path, text_folder: Path, total: int, workers: int) -> dict[str, Any]:
    """Run the fleet and the outages; returns the results by name."""
    started = time.monotonic()
    with (
        serve_faulty_store() as (store, settings),
        start_fleet(folder, text_folder, step_seconds=STEP_SECONDS) as fleet,
    ):
        fleet.environment |= {**settings, "WORKER_SLOTS": str(SLOTS)}
        names = [f"worker-{number}" for number in range(1, workers + 1)]
        for name in names:
            fleet.start(name)
        queue, memory = fleet.open_queue(), fleet.open_memory()
        prompts = make_prompts(total)
        jobs = [submit(queue, prompt, STEPS) for prompt in prompts[: total - int(HELD_BACK * total)]]
        wait_for_first_job(queue, jobs)
        chaos = Chaos(fleet, store, names)
        finished = wait_for_all(queue, jobs, prompts, chaos)
        wait_for_backlog(queue)
        results: dict[str, Any] = {"jobs": total, "lost": total - len(finished), **count_faults(memory, finished)}
        fleet.end(*names)
        results["orphans"] = count_orphans(memory)
        last = max((job.finished or 0.0 for job in finished), default=0.0)
        results |= {
            "kills": chaos.kills,
            "deaths": chaos.deaths,
            "store_failures": {fault.value: count for fault, count in store.failures.items()},
            "ended_after_last_outage_s": round(last - chaos.last_outage, 1),
        }
        results |= {"seconds": round(time.monotonic() - started, 1)}
        return results


def make_prompts(total: int) -> list[str]:
    """A name for each job; those of the poison jobs are spread over the first half."""
    places = {number * total // (2 * POISON_JOBS) + 5 for number in range(POISON_JOBS)}
    return [f"{POISON} {number}" if number in places else str(number) for number in range(total)]


class Chaos:
    """Kills workers and causes outages, each at its time."""

    def __init__(self, fleet: Fleet, store: FaultyStore, names: list[str]) -> None:
        self.fleet, self.store, self.names, self.kills, self.deaths = fleet, store, names, 0, 0
        self.random = random.Random(1)
        self.last_outage = 0.0  # seconds since 1970
        self.started, self.next_kill = time.monotonic(), KILL_SECONDS
        self.outages: list[tuple[float, Action, Action, float]] = [
            (OUTAGES_AT[0], lambda: self.break_store(Fault.AWAY), self.mend_store, OUTAGE_SECONDS),
            (OUTAGES_AT[1], lambda: self.break_store(Fault.CONFLICT), self.mend_store, OUTAGE_SECONDS),
            (OUTAGES_AT[2], lambda: self.break_store(Fault.HALF), self.mend_store, OUTAGE_SECONDS),
            (OUTAGES_AT[3], lambda: fleet.kill("index"), lambda: fleet.start("index"), OUTAGE_SECONDS),
            (OUTAGES_AT[4], lambda: fleet.limit_redis("1"), lambda: fleet.limit_redis("0"), REFUSAL_SECONDS),
            (OUTAGES_AT[5], self.restart_redis, lambda: None, OUTAGE_SECONDS),
        ]
        self.restore_due: tuple[float, Action] | None = None  # when and how the current outage ends

    def act(self, finished: float) -> None:
        """Cause or end an outage and kill a worker, if they are due; `finished` is the share of finished jobs."""
        passed = time.monotonic() - self.started
        if self.restore_due and self.restore_due[0] <= passed and self.store_failed_enough():
            self.restore_due[1]()
            self.restore_due = None
        elif not self.restore_due and self.outages and self.outages[0][0] <= finished:
            _, fail, restore, seconds = self.outages.pop(0)
            fail()
            self.restore_due = passed + seconds, restore
        self.restart_poisoned()
        if passed >= self.next_kill:
            self.next_kill = passed + KILL_SECONDS
            name = self.random.choice(self.names)
            self.fleet.kill(name)
            self.fleet.start(name)
            self.kills += 1

    def restart_poisoned(self) -> None:
        """Start the workers again that a poison job has killed, as `memoaized up` would."""
        for name in self.names:
            if not self.fleet.processes[name].is_running:
                self.fleet.close(name)
                self.fleet.start(name)
                self.deaths += 1

    def break_store(self, fault: Fault) -> None:
        """Let the store fail in this way."""
        self.store.fault = fault

    def store_failed_enough(self) -> bool:
        """Whether workers have met the current fault of the store, if there is one."""
        return self.store.fault is Fault.NONE or self.store.failures[self.store.fault] >= STORE_FAILURES

    def mend_store(self) -> None:
        """Let the store work again."""
        self.store.fault = Fault.NONE

    def restart_redis(self) -> None:
        """Stop Redis with SIGTERM, as an upgrade would, and start it a second later."""
        self.fleet.signal("redis", signal.SIGTERM)
        time.sleep(1.0)
        self.fleet.start("redis")
        self.last_outage = time.time()


def wait_for_first_job(queue: Queue, jobs: list[Job]) -> None:
    """Wait until the workers paint, so that the outages affect them; raises RuntimeError if none ever does."""
    deadline = time.monotonic() + TIMEOUT
    while not any((current := find_job(queue, job.id)) and current.state.final for job in jobs):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no worker finished a job in {TIMEOUT:.0f} s; see the log of the fleet")
        time.sleep(0.1)


def wait_for_all(queue: Queue, jobs: list[Job], prompts: Sequence[str], chaos: Chaos) -> list[Job]:
    """Wait until a job for each prompt has finished, or for TIMEOUT; returns the finished ones.

    Submits the remaining jobs after the last outage. Raises RuntimeError if not all outages have happened.
    """
    deadline = time.monotonic() + TIMEOUT
    finished: dict[str, Job] = {}
    total = len(prompts)
    while (len(finished) < total or chaos.restore_due) and time.monotonic() < deadline:
        time.sleep(0.2)
        chaos.act(len(finished) / total)
        if not chaos.outages:
            jobs += [submit(queue, prompt, STEPS) for prompt in prompts[len(jobs) :]]
        for job in jobs:
            if job.id not in finished and (current := find_job(queue, job.id)) and current.state.final:
                finished[job.id] = current
    if chaos.outages:
        raise RuntimeError(
            f"{len(finished)} of {total} jobs finished in {TIMEOUT:.0f} s, before all outages had happened"
        )
    return list(finished.values())


def find_job(queue: Queue, job: str) -> Job | None:
    """The job; None if it is unknown or Redis does not answer."""
    try:
        return queue.job_store.jobs.find(job)
    except Unavailable:
        return None


def wait_for_backlog(queue: Queue) -> None:
    """Wait until the backlog of the index's outage is indexed; what remains after a minute counts as orphans."""
    deadline = time.monotonic() + 60
    while queue.job_store.backlog.unindexed() and time.monotonic() < deadline:
        time.sleep(0.5)


def count_faults(memory: Memory, finished: list[Job]) -> dict[str, int]:
    """Count the differences between the finished jobs, the store and the index."""
    states = Counter(job.state for job in finished)
    keys = {job.recipe.key for job in finished}
    stored, indexed = set(memory.store.names()), set(memory.index.keys())
    done = [job for job in finished if job.state is State.DONE]
    return {
        "done": states[State.DONE],
        "failed": states[State.FAILED],
        "innocent_failed": sum(job.state is State.FAILED and not is_poison(job) for job in finished),
        "poison_failed": sum(job.state is State.FAILED and is_poison(job) for job in finished),
        "done_without_bytes": sum(not memory.store.exists(object_name(job.recipe.key)) for job in done),
        "painted_twice": len(stored - {object_name(key) for key in keys}),
        "index_without_bytes": sum(object_name(key) not in stored for key in indexed),
        "unindexed": len(stored - {object_name(key) for key in indexed}),
    }


def is_poison(job: Job) -> bool:
    """Whether this job kills its workers."""
    return POISON in job.recipe.prompt


def count_orphans(memory: Memory) -> int:
    """Number of pictures that are not in the index even after `reindex`."""
    re_embed(memory.embedder, memory.index, memory.store, lambda line: None)
    return len(set(memory.store.names()) - {object_name(key) for key in memory.index.keys()})


if __name__ == "__main__":
    main()
