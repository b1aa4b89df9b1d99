"""Throughput of 1, 2, 4 and 8 workers that sleep instead of painting, so that two cores suffice.

Everything else is real: Celery over Redis, claims, progress at each step, the text model, the index over HTTP,
pictures in a folder. `overhead_ms` is the time of a painting beyond its sleep, with one worker. `efficiency_N` is the
throughput of N workers divided by N times that of one worker, in the same run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fleet import Fleet, start_fleet, submit
from jobs.job import Job, State
from jobs.queue import Queue

WORKERS = (1, 2, 4, 8)
PAINTINGS_PER_WORKER = 12
STEPS, STEP_SECONDS = 20, 0.05


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    parser.add_argument("--each", type=int, default=PAINTINGS_PER_WORKER, help="paintings per worker")
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), options.text_folder.resolve(), options.workers, options.each)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:24} {value}")


def measure(folder: Path, text_folder: Path, workers: list[int], each: int) -> dict[str, Any]:
    """Measure each number of workers; returns the results by name."""
    results: dict[str, Any] = {"painting_seconds": STEPS * STEP_SECONDS}
    with start_fleet(folder, text_folder, step_seconds=STEP_SECONDS) as fleet:
        queue = fleet.open_queue()
        single_rate = 0.0
        for count in workers:
            start_workers(fleet, queue, count)
            paint(queue, f"warm {count}", 2 * count, steps=2)
            jobs = paint(queue, f"{count}", count * each)
            rate = len(jobs) / (max(job.finished or 0 for job in jobs) - min(job.started or 0 for job in jobs))
            single_rate = single_rate or rate / count
            results[f"pictures_per_second_{count}"] = round(rate, 3)
            results[f"efficiency_{count}"] = round(rate / (count * single_rate), 3)
        results["overhead_ms"] = round(1000 * (1 / single_rate - STEPS * STEP_SECONDS), 1)
    return results


def start_workers(fleet: Fleet, queue: Queue, count: int) -> None:
    """Start workers until `count` of them are ready; raises RuntimeError if they are not ready in time."""
    for number in range(1, count + 1):
        if f"worker-{number}" not in fleet.processes:
            fleet.start(f"worker-{number}")
    deadline = time.monotonic() + 120
    while len(queue.job_store.heartbeats.workers()) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(queue.job_store.heartbeats.workers())} of {count} workers are ready")
        time.sleep(0.1)


def paint(queue: Queue, name: str, count: int, steps: int = STEPS) -> list[Job]:
    """Submit `count` paintings at once and wait for them; raises RuntimeError if one fails."""
    jobs = [submit(queue, f"{name}-{number}", steps) for number in range(count)]
    finished: list[Job] = []
    while len(finished) < count:
        time.sleep(0.2)
        present = [queue.job_store.jobs.find(job.id) for job in jobs]
        finished = [job for job in present if job and job.state.final]
    if failed := [job for job in finished if job.state is not State.DONE]:
        raise RuntimeError(f"{len(failed)} paintings ended as {failed[0].state}: {failed[0].error}")
    return finished


if __name__ == "__main__":
    main()
