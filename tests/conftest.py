"""Fixtures: the real services that tests use, most of them started once per session."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_py
import torch
from celery.contrib.testing.worker import start_worker
from flask import Flask
from flask.testing import FlaskClient

import web
from jobs.celery_app import PAINT, create_celery, queue_of
from jobs.config import JobsConfig
from jobs.events import Events
from jobs.models import Catalogue
from jobs.queue import Queue
from jobs.store.job_store import JobStore, open_job_store
from memo import Memory, Picture, Recipe
from memo.embed import Embedder, open_embedder
from memo.index import Labels, PendingPaintings, open_index, open_sibling
from memo.judge.rules_judge import RulesJudge
from memo.store import FolderStore
from memoaized.up import free_port, responds_ok
from tests.real import (
    ROOT,
    OneAtATime,
    QuickPainter,
    RedisServer,
    Stack,
    painted,
    redis_server,
    running_stack,
    wait_for,
)
from tests.tiny_model import write_tiny_model
from worker.paint import PaintingRunner

pytest_plugins = ["tests.s3_servers", "tests.sticker_bank"]


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return open_embedder("minilm", ROOT / "var" / "text")


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(prompt="a red fox in the snow", model="stickers", revision="r1", width=64, height=64)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "pictures")


@pytest.fixture
def disk_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The calls that matter for durability, in their order, with the names of what they were made on."""
    steps: list[tuple[str, str]] = []
    calls: dict[str, Callable[..., None]] = {"rename": os.replace, "link": os.link, "cut": os.truncate}
    fsync = os.fsync

    def note_fsync(descriptor: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def note(step: str) -> Callable[..., None]:
        def call(*paths: object) -> None:
            steps.append((step, Path(str(paths[0 if step == "cut" else 1])).name))
            calls[step](*paths)

        return call

    monkeypatch.setattr(os, "fsync", note_fsync)
    for step, call in calls.items():
        monkeypatch.setattr(os, call.__name__, note(step))
    return steps


@pytest.fixture
def memory(embedder: Embedder, store: FolderStore) -> Memory:
    index = open_index("memory:", "pictures-test", embedder.dimension)
    index.client = OneAtATime(index.client)  # type: ignore[assignment]  # the client is made for one thread, and tests have several
    pending, labels = open_sibling(index, PendingPaintings, "pending"), open_sibling(index, Labels, "labels")
    return Memory(embedder, index, store, RulesJudge(), pending, labels)


@pytest.fixture
def remember(memory: Memory) -> Callable[..., Picture]:
    """Return a function that stores and indexes a picture of a recipe."""

    def keep(recipe: Recipe, *, seed: int = 1, scope: str = "shared") -> Picture:
        picture, png = painted(recipe, seed=seed, scope=scope)
        memory.keep(picture, png)
        memory.index_picture(picture)
        return picture

    return keep


@pytest.fixture(scope="session")
def session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = redis_server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(session_redis: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_py.Redis.from_url(session_redis.url) as client:
        client.flushall()
    return session_redis.url


@pytest.fixture
def job_store(redis_url: str) -> Iterator[JobStore]:
    job_store = open_job_store(redis_url)
    yield job_store
    job_store.connection.close()


@pytest.fixture
def painter() -> QuickPainter:
    return QuickPainter()


@pytest.fixture
def runner(job_store: JobStore, memory: Memory, painter: QuickPainter) -> PaintingRunner:
    return PaintingRunner(job_store, memory, lambda name: painter)


@pytest.fixture
def queue(job_store: JobStore, redis_url: str) -> Iterator[Queue]:
    queue = Queue(job_store, create_celery(JobsConfig(redis=redis_url)), Events(job_store.connection))
    yield queue
    queue.events.stop()
    queue.celery.close()


@pytest.fixture
def working(queue: Queue, runner: PaintingRunner) -> Iterator[PaintingRunner]:
    """A real Celery worker in a thread, which paints the queued jobs."""
    queue.celery.task(name=PAINT, shared=False)(runner.handle_message)
    queue.celery.amqp.queues.select_add(queue_of("stickers"))
    options = {"pool": "threads", "concurrency": 1, "perform_ping_check": False, "loglevel": "info"}
    with start_worker(queue.celery, shutdown_timeout=30, **options):
        yield runner


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one torch thread: two would add numbers in another order and give other bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two toy models of the real classes: `stickers`, and `slow`, which paints slowly."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder)
    write_tiny_model(folder, name="slow", slow=True)
    return folder


@pytest.fixture
def app(memory: Memory, queue: Queue, tiny_models: Path) -> Flask:
    return web.create_app(memory, queue, Catalogue(tiny_models), TESTING=True)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="session")
def live_stack(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Stack]:
    """One `memoaized up` with a toy model, for all tests that do not change it."""
    with running_stack(tmp_path_factory.mktemp("live"), tiny_models) as stack:
        yield stack


@pytest.fixture(scope="session")
def live_url(live_stack: Stack) -> str:
    """The URL of a running `memoaized up` with a toy model."""
    return live_stack.url


@dataclass
class IndexServer:
    """The embedded index server in a process of its own."""

    url: str
    key: str


@pytest.fixture(scope="session")
def index_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    port = free_port()
    environment = {
        **os.environ,
        "INDEX_SERVER_FOLDER": str(tmp_path_factory.mktemp("index")),
        "INDEX_SERVER_KEY": "test-key",
    }
    command = [sys.executable, "-m", "index_server.app", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    server = IndexServer(f"http://127.0.0.1:{port}", "test-key")
    wait_for(lambda: responds_ok(f"{server.url}/healthz"))
    yield server
    process.terminate()
    process.wait(20)


@pytest.fixture
def unused_port() -> int:
    return free_port()
