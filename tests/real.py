"""What tests and fixtures start: a Redis server, a quick painter, a whole `memoaized up`; and functions that wait."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis as redis_py
from flask import Flask
from PIL import Image
from werkzeug.serving import make_server

from jobs.job import Job
from jobs.queue import Queue
from memo import SHARED, Picture, Recipe, now, write_png
from memo.judge.rules_judge import RulesJudge
from memoaized.child_processes import ChildProcess
from memoaized.redis_server import RedisPlan, find_redis, plan_redis
from memoaized.up import free_port
from worker.painters.port import ANY_TURN, OnStep, Progress, Turn

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = Path(__file__).parent.parent
IN_CI = bool(os.environ.get("CI"))


def missing(what: str) -> None:
    """Skip the test on a developer's machine, fail it in CI."""
    if IN_CI:
        pytest.fail(f"{what} is missing, but CI must have it")
    pytest.skip(f"{what} is missing")


def painted(recipe: Recipe, *, seed: int = 1, scope: str = "shared") -> tuple[Picture, bytes]:
    """Return a small picture of this recipe and its PNG, as a worker would have made them."""
    values = {name: getattr(recipe, name) for name in recipe.__slots__} | {"seed": seed}
    picture = Picture(recipe=Recipe(**values), created=now(), seconds=1.0, scope=scope)
    return picture, write_png(Image.new("RGB", (recipe.width, recipe.height), "#c60"), picture)


@dataclass
class RedisServer:
    """A private redis-server that a test may kill and start again."""

    plan: RedisPlan
    child: ChildProcess

    @property
    def url(self) -> str:
        return self.plan.url

    def start(self) -> None:
        self.child.start(lambda name, line: None)
        deadline = time.monotonic() + 20
        while True:
            try:
                with redis_py.Redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis_py.RedisError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        assert self.child.process is not None
        self.child.process.kill()
        self.child.process.wait()
        self.close_log()

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait()
        self.close_log()

    def close_log(self) -> None:
        assert self.child.process is not None and self.child.process.stdout is not None
        self.child.process.stdout.close()


def redis_server(folder: Path) -> RedisServer:
    """Return a Redis server with its data in this folder, not yet started."""
    if not (shutil.which("redis-server") or shutil.which("valkey-server") or os.environ.get("REDIS_SERVER")):
        missing("redis-server")
    run = folder / "run"
    run.mkdir(parents=True)
    plan = plan_redis(find_redis(dict(os.environ)), folder, run, password="test", free_port=free_port())
    return RedisServer(plan, ChildProcess("redis", plan.command, dict(os.environ), grace=5))


class QuickPainter:
    """Paints two colours in the recipe's number of steps; a test may pause it or make it fail."""

    device = "test"
    metered = False

    def __init__(self) -> None:
        self.painted: list[str] = []
        self.init_images: list[Image.Image | None] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.fault: Exception | None = None

    def state(self) -> dict[str, float]:
        """See Painter."""
        return {}

    def __call__(
        self, recipe: Recipe, on_step: OnStep, init_image: Image.Image | None = None, turn: Turn = ANY_TURN
    ) -> Image.Image:
        for step in range(1, recipe.steps + 1):
            assert self.go_on.wait(20)
            if self.fault:
                raise self.fault
            on_step(Progress(step))
        self.painted.append(recipe.prompt)
        self.init_images.append(init_image)
        return two_colours(recipe)


def two_colours(recipe: Recipe) -> Image.Image:
    """Return a picture of the recipe's size whose colours depend on its key."""
    picture = Image.new("RGB", (recipe.width, recipe.height), f"#{recipe.key[:6]}")
    picture.paste("white" if recipe.key[0] < "8" else "black", (0, 0, 8, 8))
    return picture


class SharingJudge(RulesJudge):
    """Decides by rules, and tells the same share of all prompts but those in `shares_of`."""

    can_tell_shares = True

    def __init__(self, share: float = 2.5, **shares_of: float) -> None:
        self.share, self.shares_of = share, shares_of
        self.questions: list[tuple[str, tuple[str, ...]]] = []

    def shares(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[float]:
        self.questions.append((wanted, tuple(remembered)))
        return [self.shares_of.get(prompt, self.share) for prompt in remembered]


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the first true value of the condition; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return value


def finished(queue: Queue, job: str, seconds: float = 20) -> Job:
    """Wait until the job has ended, and return it."""

    def final() -> Job | None:
        snapshot = queue.job_store.jobs.find(job)
        return snapshot if snapshot and snapshot.state.final else None

    ended: Job = wait_for(final, seconds)
    return ended


@dataclass
class Stack:
    """`memoaized up` in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    lines: list[str]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)


@contextmanager
def running_stack(data: Path, models: Path, *, workers: int = 1) -> Iterator[Stack]:
    """Run `memoaized up` over a data folder, and yield when it is ready."""
    text = data / "text"
    if not text.exists():
        shutil.copytree(ROOT / "var" / "text", text)
    port = free_port()
    command = [sys.executable, "-m", "memoaized.cli", "up", "--port", str(port), "--data", str(data)]
    command += ["--models", str(models), "--workers", str(workers)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    stack = Stack(process, f"http://127.0.0.1:{port}", data, [])
    reader = threading.Thread(target=collect, args=(process, stack.lines), daemon=True)
    reader.start()
    try:
        wait_for(lambda: any("ready: http" in line for line in stack.lines) or process.poll() is not None, 180)
        assert process.poll() is None, "\n".join(stack.lines)
        yield stack
    except BaseException:
        print("\n".join(stack.lines[-80:]))
        raise
    finally:
        if process.poll() is None:
            stack.stop()
        reader.join(20)
        assert process.stdout is not None
        process.stdout.close()


def collect(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())


def alive(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class OneAtATime:
    """Wraps an object so that only one thread at a time calls its methods."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.lock = inner, threading.RLock()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        return self.locked(attribute) if callable(attribute) else attribute

    def locked(self, method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            with self.lock:
                return method(*args, **options)

        return call


def closing(app: Flask) -> "WSGIApplication":
    """Wrap the app so that its responses are closed even if the browser leaves, which Werkzeug does not ensure."""

    def respond(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterator[bytes]:
        answer = app(environ, start_response)
        try:
            yield from answer
        finally:
            if hasattr(answer, "close"):
                answer.close()

    return respond


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve the app on a free port, and yield its URL."""
    server = make_server("127.0.0.1", 0, closing(app), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
