"""A Redis that answers and refuses to write is an outage like any other, and ends by itself."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_py

from bench.fleet import submit
from jobs.celery_app import create_celery
from jobs.config import JobsConfig
from jobs.events import Events
from jobs.queue import Queue, notify_worker
from jobs.store.job_store import open_job_store
from memo import Unavailable
from tests.real import ROOT, finished, redis_server, wait_for

REFUSALS = {  # what makes Redis refuse, and what ends that
    "full": ({"maxmemory": "1"}, {"maxmemory": "0"}),
    "a replica": ({"replicaof": "127.0.0.1 1"}, {"replicaof": "no one"}),
    "too few replicas": ({"min-replicas-to-write": "3"}, {"min-replicas-to-write": "0"}),
    "a failed snapshot": ({"save": "3600 1", "bgsave": "fails"}, {"save": ""}),  # MISCONF
}


@pytest.fixture
def own_redis(tmp_path):
    server = redis_server(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@contextmanager
def refusing(server, kind):
    """Make Redis refuse to write."""
    before, after = REFUSALS[kind]
    with redis_py.Redis.from_url(server.url) as client:
        configure(client, before)
        try:
            yield
        finally:
            configure(client, after)


def configure(client, settings):
    for name, value in settings.items():
        if name == "replicaof":
            client.execute_command("REPLICAOF", *value.split())
        elif name == "bgsave":
            fail_to_save(client)
        else:
            client.config_set(name, value)


def fail_to_save(client):
    """Let a snapshot fail: a folder is where its file belongs."""
    (Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"] / "in the way").mkdir(
        parents=True, exist_ok=True
    )
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


@pytest.fixture
def queue(own_redis):
    job_store = open_job_store(own_redis.url)
    queue = Queue(job_store, create_celery(JobsConfig(redis=own_redis.url)), Events(job_store.connection))
    yield queue
    queue.celery.close()
    job_store.connection.close()


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_redis_that_refuses_to_write_counts_as_unavailable_until_it_writes_again(own_redis, queue, recipe, kind):
    queue.job_store.connection.check()
    with refusing(own_redis, kind):
        for call in (
            queue.job_store.connection.check,
            lambda: queue.submit(recipe, reason="", scope="shared"),
            lambda: notify_worker(queue.celery, recipe.model),
            lambda: queue.job_store.heartbeats.beat("here", {}),
        ):
            with pytest.raises(Unavailable, match="queue"):
                call()
    queue.job_store.connection.check()
    assert queue.submit(recipe, reason="", scope="shared").position == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_worker_waits_while_redis_refuses_to_write_and_then_paints(own_redis, queue, tmp_path, kind):
    environment = {
        "PATH": "/usr/bin:/bin",
        "JOBS_REDIS": own_redis.url,
        "JOBS_MODELS": str(ROOT / "models"),
        "MEMO_STORE": f"file:{tmp_path / 'pictures'}",
        "MEMO_TEXT_FOLDER": str(ROOT / "var" / "text"),
        "MEMO_INDEX": "memory:",
        "BENCH_STEP_SECONDS": "0.01",
        "WORKER_SLOTS": "2",
    }
    command = [sys.executable, "-m", "celery", "--app", "bench.fleet.sleeper:app", "--quiet", "worker", "--pool"]
    command += ["threads", "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = (tmp_path / "log").open("w")
    worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: queue.job_store.heartbeats.workers(), 60)
        with refusing(own_redis, kind):
            for _ in range(20):
                assert not wait_for_end(worker, 0.4), (tmp_path / "log").read_text()[-3000:]
        ended = finished(queue, submit(queue, "after the outage", 2).id, 60)
        assert ended.state == "done", (ended.error, (tmp_path / "log").read_text()[-3000:])
    finally:
        worker.terminate()
        worker.wait(20)
        log.close()
    assert worker.returncode == 0


def wait_for_end(process, seconds):
    """Return whether the process ends within some seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
