"""Whether more workers paint more: throughput of 1, 2, 4 and 8 workers whose painting is slept, so that two cores do.

Everything else is real: Celery over Redis, claims in turn, progress at each step, the text model, the index over
HTTP, pictures in a folder. `overhead_ms` is what a painting takes beyond its sleep, with one worker; `efficiency_N`
the throughput of N workers against N times that of one, in the same run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fleet import Fleet, fleet, submit
from jobs.job import Job, State
from jobs.queue import Queue

WORKERS = (1, 2, 4, 8)
EACH = 12  # paintings per worker
STEPS, STEP_SECONDS = 20, 0.05


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--each", type=int, default=EACH)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = measure(Path(folder), given.text_folder.resolve(), given.workers, given.each)
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:24} {value}")


def measure(folder: Path, text_folder: Path, workers: list[int], each: int) -> dict[str, Any]:
    """Figures by name."""
    told: dict[str, Any] = {"painting_seconds": STEPS * STEP_SECONDS}
    with fleet(folder, text_folder, step_seconds=STEP_SECONDS) as run:
        queue = run.open_queue()
        alone = 0.0
        for many in workers:
            hire(run, queue, many)
            paint(queue, f"warm {many}", 2 * many, steps=2)
            jobs = paint(queue, f"{many}", many * each)
            rate = len(jobs) / (max(job.finished or 0 for job in jobs) - min(job.started or 0 for job in jobs))
            alone = alone or rate / many
            told[f"pictures_per_second_{many}"] = round(rate, 3)
            told[f"efficiency_{many}"] = round(rate / (many * alone), 3)
        told["overhead_ms"] = round(1000 * (1 / alone - STEPS * STEP_SECONDS), 1)
    return told


def hire(run: Fleet, queue: Queue, many: int) -> None:
    """Start workers until there are so many, each ready."""
    for number in range(1, many + 1):
        if f"worker-{number}" not in run.parts:
            run.start(f"worker-{number}")
    deadline = time.monotonic() + 120
    while len(queue.job_store.heartbeats.workers()) < many:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(queue.job_store.heartbeats.workers())} of {many} workers came")
        time.sleep(0.1)


def paint(queue: Queue, name: str, many: int, steps: int = STEPS) -> list[Job]:
    """So many paintings, all asked for at once, when all are done."""
    asked = [submit(queue, f"{name}-{number}", steps) for number in range(many)]
    found: list[Job] = []
    while len(found) < many:
        time.sleep(0.2)
        found = [job for one in asked if (job := queue.job_store.jobs.find(one.id)) and job.state.final]
    if failed := [job for job in found if job.state is not State.DONE]:
        raise RuntimeError(f"{len(failed)} paintings ended as {failed[0].state}: {failed[0].error}")
    return found


if __name__ == "__main__":
    main()
