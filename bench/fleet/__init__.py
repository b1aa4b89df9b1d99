"""Real processes for benches: Redis, an index server, a folder of pictures, and workers that only sleep.

`bench.scale` and `bench.chaos` use it.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from jobs.config import JobsConfig
from jobs.job import Job
from jobs.models import Catalogue
from jobs.queue import Queue, open_queue
from memo import MemoConfig, Memory, open_memory
from memoaized.child_processes import ChildProcess
from memoaized.redis_server import find_redis, plan_redis
from memoaized.up import free_port, responds_ok

MODELS = Path(__file__).parents[2] / "models"
POISON = "poison"  # a prompt with this word kills the worker that paints it
START_TIMEOUT = 60.0  # seconds


class Fleet:
    """Processes by name, each of which can be killed and started again."""

    def __init__(self, folder: Path, text_folder: Path, step_seconds: float) -> None:
        self.folder, self.log = folder, (folder / "log").open("a")
        run_folder = folder / "run"
        run_folder.mkdir()
        binary = find_redis(dict(os.environ))
        plan = plan_redis(binary, folder, run_folder, password=secrets.token_hex(16), free_port=free_port())
        port, key = free_port(), secrets.token_hex(16)
        self.redis_url, self.index_url, self.pictures = plan.url, f"http://127.0.0.1:{port}", folder / "pictures"
        self.environment = {
            **os.environ,
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            "OMP_NUM_THREADS": "1",
            "MEMO_INDEX": self.index_url,
            "MEMO_INDEX_KEY": key,
            "MEMO_STORE": f"file:{self.pictures}",
            "MEMO_TEXT_FOLDER": str(text_folder),
            "MEMO_EMBEDDING_CACHE": "",
            "JOBS_REDIS": plan.url,
            "WORKER_SLOTS": "1",
            "JOBS_MODELS": str(MODELS),
            "INDEX_SERVER_FOLDER": str(folder / "index"),
            "INDEX_SERVER_KEY": key,
            "BENCH_STEP_SECONDS": str(step_seconds),
        }
        index = [sys.executable, "-m", "index_server.app", "--port", str(port)]
        self.processes = {
            "redis": ChildProcess("redis", plan.command, self.environment, grace=10),
            "index": ChildProcess("index", index, self.environment, grace=10),
        }

    def start(self, name: str) -> None:
        """Start a process and wait until it answers; `worker-N` is a worker."""
        if name not in self.processes:
            command = [sys.executable, "-m", "celery", "--app", "bench.fleet.sleeper:app", "--quiet", "worker"]
            command += ["--pool", "threads", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
            command += ["--without-heartbeat", "--hostname", f"{name}@%h"]
            self.processes[name] = ChildProcess(name, command, self.environment, grace=20)
        self.processes[name].start(self.log_line)
        if name == "redis":
            self.wait_until_ready(name, self.redis_answers)
        elif name == "index":
            self.wait_until_ready(name, lambda: responds_ok(f"{self.index_url}/healthz"))

    def kill(self, name: str) -> None:
        """Kill a process, and wait for its end."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: int) -> None:
        """Send a signal that ends the process, and wait for its end."""
        process = self.processes[name].process
        assert process is not None
        os.kill(process.pid, number)
        process.wait(self.processes[name].grace)
        self.close(name)

    def stop(self) -> None:
        """Stop all processes, workers first."""
        for name in reversed(self.processes):
            self.end(name)
        self.log.close()

    def end(self, *names: str) -> None:
        """Ask processes to end, then wait for them."""
        for name in names:
            self.processes[name].terminate()
        for name in names:
            self.processes[name].wait()
            self.close(name)

    def close(self, name: str) -> None:
        """Close the output of an ended process, once its last lines have been read."""
        process = self.processes[name].process
        if process and process.stdout:
            time.sleep(0.05)  # a thread is still reading it
            process.stdout.close()

    def log_line(self, name: str, line: str) -> None:
        """Write a line of a process to the log file."""
        self.log.write(f"{name} | {line}\n")
        self.log.flush()

    def wait_until_ready(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until a process is ready; raises RuntimeError with the end of the log if it does not start."""
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if time.monotonic() > deadline or not self.processes[name].is_running:
                raise RuntimeError(f"{name} did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def limit_redis(self, maxmemory: str) -> None:
        """Set how much memory Redis may use: with "1" it refuses to write, with "0" it takes all that it needs."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.config_set("maxmemory", maxmemory)

    def redis_answers(self) -> bool:
        """Whether Redis is up and has loaded its data."""
        try:
            with redis.Redis.from_url(self.redis_url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def open_queue(self) -> Queue:
        """The queue of the workers."""
        return open_queue(JobsConfig(redis=self.redis_url))

    def open_memory(self, judge: str = "rules", embedding_cache: Path | None = None) -> Memory:
        """Open the memory that the workers use; `judge` replaces its judge."""
        settings = {"MEMO_JUDGE": judge, "MEMO_EMBEDDING_CACHE": str(embedding_cache or "")}
        return open_memory(MemoConfig.from_env({**self.environment, **settings}))


@contextmanager
def start_fleet(folder: Path, text_folder: Path, *, step_seconds: float) -> Iterator[Fleet]:
    """Start Redis and the index; the caller starts workers. All processes end with the block."""
    fleet = Fleet(folder, text_folder, step_seconds)
    try:
        fleet.start("redis")
        fleet.start("index")
        yield fleet
    finally:
        fleet.stop()


def submit(queue: Queue, name: str, steps: int) -> Job:
    """Submit a painting whose prompt contains `name`."""
    settings = {"prompt": f"picture {name}", "steps": steps, "width": 128, "height": 128}
    return queue.submit(Catalogue(MODELS).recipe(settings), reason="bench", scope="shared")
