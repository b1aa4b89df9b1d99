"""Submit, watch and cancel through the real Celery over the real Redis."""

from dataclasses import replace

import pytest

from jobs.celery_app import create_celery, queue_of
from jobs.config import JobsConfig
from jobs.events import Events
from jobs.job import Origin, State
from jobs.queue import Queue, open_queue
from jobs.store.job_store import open_job_store
from memo import Unavailable
from tests.real import finished, redis_server, wait_for


def submit(queue, recipe, **changes):
    return queue.submit(replace(recipe, **changes), reason="", scope="shared")


def test_a_submitted_recipe_is_painted(queue, working, recipe, memory):
    job = submit(queue, recipe)
    done = finished(queue, job.id)
    assert done.state is State.DONE and memory.has(done.picture.key)


def test_two_simultaneous_requests_are_painted_once(queue, working, recipe, painter):
    painter.go_on.clear()
    jobs = [submit(queue, recipe) for _ in range(3)]
    painter.go_on.set()
    done = [finished(queue, job.id) for job in jobs]
    assert len({job.picture.key for job in done}) == 1 and len(painter.painted) == 1
    assert [job.origin for job in done] == [Origin.PAINTED, Origin.JOINED, Origin.JOINED]


@pytest.mark.timeout(60)
def test_a_watcher_sees_the_states_in_order_until_the_end(queue, working, recipe, painter):
    painter.go_on.clear()
    job = submit(queue, recipe, steps=3)
    watch = queue.watch(job.id, heartbeat=120)
    states = [next(watch).state]
    painter.go_on.set()
    states += [snapshot.state for snapshot in watch if snapshot]
    assert states[-1] is State.DONE and set(states) <= {State.QUEUED, State.RUNNING, State.DONE}
    assert sorted(states, key=list(State).index) == states


def test_a_quiet_watcher_gets_heartbeats(queue, recipe):
    watch = queue.watch(submit(queue, recipe).id, heartbeat=0.01)
    assert next(watch).state is State.QUEUED
    assert next(watch) is None
    watch.close()


def test_watching_a_finished_job_gives_it_once_and_watching_an_unknown_job_gives_nothing(queue, recipe):
    job = submit(queue, recipe)
    queue.job_store.submissions.cancel(job.id)
    assert [snapshot.state for snapshot in queue.watch(job.id)] == [State.CANCELLED]
    assert list(queue.watch("unknown")) == []


def test_a_cancelled_job_is_never_painted(queue, working, recipe, painter):
    painter.go_on.clear()
    running, waiting = submit(queue, recipe, prompt="running"), submit(queue, recipe, prompt="waiting")
    wait_for(lambda: queue.job_store.jobs.find(running.id).state is State.RUNNING)
    assert queue.job_store.submissions.cancel(waiting.id)
    painter.go_on.set()
    finished(queue, running.id)
    assert painter.painted == ["running"]


def test_queued_jobs_outlive_a_killed_redis(tmp_path, recipe):
    server = redis_server(tmp_path)
    server.start()
    queue = open_queue(JobsConfig(redis=server.url))
    job = submit(queue, recipe)
    wait_for(lambda: queue.job_store.connection.redis.info("persistence")["aof_pending_bio_fsync"] == 0)
    server.kill()
    with pytest.raises(Unavailable):
        queue.job_store.jobs.find(job.id)
    server.start()
    assert queue.job_store.jobs.find(job.id) == job
    channel = queue.celery.connection_for_read().default_channel
    assert channel.queue_declare(queue_of(recipe.model), passive=True).message_count == 1
    queue.job_store.connection.close()
    server.stop()


def test_a_painting_is_recorded_even_when_its_message_cannot_be_sent(redis_url, recipe, unused_port, caplog):
    job_store = open_job_store(redis_url)
    unreachable = create_celery(JobsConfig(redis=f"redis://127.0.0.1:{unused_port}/0"))
    job = submit(Queue(job_store, unreachable, Events(job_store.connection)), recipe)
    assert job.state is State.QUEUED and job_store.statistics.count_waiting(recipe.model) == 1
    assert "no worker was notified" in caplog.text
    job_store.connection.close()
