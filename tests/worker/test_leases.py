"""What a worker does besides painting: leases, lost messages, the backlog and old init images."""

import io
import threading
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest
from PIL import Image

from jobs.job import State
from jobs.store.claims import LEASE_SECONDS
from jobs.store.connection import KEPT_SECONDS
from memo import Unavailable
from tests.real import painted, wait_for
from worker.leases import SILENT_SECONDS, SWEEP_SECONDS, LeaseKeeper


@pytest.fixture
def notified():
    return []


@pytest.fixture
def lease_keeper(runner, notified):
    return LeaseKeeper(runner, notified.append, lambda: ["stickers"], slots=1, name="here", facts={"pid": 1})


def run_both_rounds(lease_keeper):
    """Run one round of each of the two threads."""
    lease_keeper.keep_leases()
    lease_keeper.maintain()


def test_a_worker_is_notified_of_a_dead_workers_painting(lease_keeper, job_store, recipe, notified, monkeypatch):
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", -1.0)
    job = job_store.submissions.open_job(recipe, reason="", scope="shared", joinable=True)
    job_store.claims.claim(recipe.model)
    run_both_rounds(lease_keeper)
    assert notified == ["stickers"] and job_store.jobs.find(job.id).state is State.QUEUED


def test_the_claims_of_a_living_worker_are_renewed(lease_keeper, runner, job_store, recipe, monkeypatch):
    job = job_store.submissions.open_job(recipe, reason="", scope="shared", joinable=True)
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", -1.0)
    runner.claims[job.painting] = job_store.claims.claim(job.recipe.model)
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", 60.0)
    run_both_rounds(lease_keeper)
    assert job_store.claims.requeue_expired() == [] and job_store.jobs.find(job.id).state is State.RUNNING


def test_a_free_worker_notices_paintings_whose_message_was_lost(
    lease_keeper, runner, job_store, recipe, notified, monkeypatch
):
    monkeypatch.setattr("worker.leases.UNNOTICED_SECONDS", 0.0)
    for number in range(3):
        job_store.submissions.open_job(
            replace(recipe, prompt=f"fox {number}"), reason="", scope="shared", joinable=True
        )
    runner.claims["busy"] = job_store.claims.claim(recipe.model)
    run_both_rounds(lease_keeper)
    assert notified == []
    runner.claims.clear()
    run_both_rounds(lease_keeper)
    assert notified == ["stickers"] * lease_keeper.slots


def test_a_new_painting_waits_for_its_own_message(lease_keeper, job_store, recipe, notified):
    job_store.submissions.open_job(recipe, reason="", scope="shared", joinable=True)
    run_both_rounds(lease_keeper)
    run_both_rounds(lease_keeper)
    assert notified == []


def test_an_init_image_that_nothing_has_used_for_long_is_removed(
    lease_keeper, job_store, memory, recipe, monkeypatch
):
    names = [memory.keep_init_image(png_of(colour), "mine") for colour in ("red", "green", "blue")]
    for name in names:
        job_store.backlog.touch_init_image(name, "mine")
    picture, png = painted(replace(recipe, init_image=names[1], strength=0.5), scope="mine")
    memory.keep(picture, png)
    memory.index_picture(picture)
    run_both_rounds(lease_keeper)
    assert all(memory.has_init_image(name, "mine") for name in names)
    later = time.time() + KEPT_SECONDS + 1
    monkeypatch.setattr(job_store.backlog, "clock", lambda: later)
    job_store.backlog.touch_init_image(names[2], "mine")  # uploaded again
    run_both_rounds(lease_keeper)
    assert [memory.has_init_image(name, "mine") for name in names] == [False, True, True]
    assert job_store.backlog.old_init_images() == []
    memory.forget(picture.key, "mine")
    assert not memory.has_init_image(names[1], "mine")


def png_of(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def test_a_cancelled_job_does_not_keep_its_init_image(lease_keeper, job_store, memory, recipe, monkeypatch):
    init_image = memory.keep_init_image(png_of("red"), "mine")
    job_store.backlog.touch_init_image(init_image, "mine")
    from_image = replace(recipe, init_image=init_image, strength=0.5)
    waiting, cancelled = (
        job_store.submissions.open_job(replace(from_image, seed=seed), reason="", scope="mine") for seed in (1, 2)
    )
    for job in (waiting, cancelled):
        memory.painting_started(job.painting, job.recipe, job.scope)
    job_store.submissions.cancel(cancelled.id)
    lease_keeper.maintain()
    assert memory.paintings_under_way() == [waiting.painting]
    job_store.submissions.cancel(waiting.id)
    later = time.time() + KEPT_SECONDS + 1
    monkeypatch.setattr(job_store.backlog, "clock", lambda: later)
    lease_keeper.swept_at -= SWEEP_SECONDS
    lease_keeper.maintain()
    assert memory.paintings_under_way() == [] and not memory.has_init_image(init_image, "mine")


def test_heartbeats_begin_at_the_start_and_at_the_end_the_worker_is_taken_off_the_list(
    lease_keeper, runner, job_store, notified
):
    lease_keeper.start()
    wait_for(lambda: "here" in job_store.heartbeats.workers())
    assert job_store.heartbeats.workers()["here"]["models"] == ["stickers"]
    runner.closing.set()
    runner.handle_message("stickers")
    lease_keeper.stop()
    assert job_store.heartbeats.workers() == {} and notified == ["stickers"]


def test_a_started_worker_indexes_pictures_that_the_index_lost(lease_keeper, memory, recipe):
    picture, png = painted(recipe)
    memory.keep(picture, png)
    lease_keeper.start()
    wait_for(lambda: memory.index.get(picture.key) == picture)
    lease_keeper.stop()


@pytest.mark.parametrize("fault", [Unavailable("the queue does not answer"), FileNotFoundError("a model was moved")])
@pytest.mark.parametrize("task", ["renew", "list_models"])
def test_no_error_ends_the_lease_keeper(runner, job_store, notified, monkeypatch, caplog, task, fault):
    monkeypatch.setattr("worker.leases.PERIOD", 0.01)
    rounds = []

    def fail():
        rounds.append(1)
        raise fault

    monkeypatch.setattr(LeaseKeeper, "renew", lambda self: fail() if task == "renew" else None)
    list_models = fail if task == "list_models" else lambda: ["stickers"]
    lease_keeper = LeaseKeeper(runner, notified.append, list_models, slots=1, name="here", facts={})
    lease_keeper.start()
    wait_for(lambda: len(rounds) > 4)
    lease_keeper.stop()
    assert str(fault) in caplog.text


def test_leases_are_renewed_while_a_models_files_are_read(runner, job_store, recipe, notified, monkeypatch):
    monkeypatch.setattr("worker.leases.PERIOD", 0.01)
    reading_started, may_finish = threading.Event(), threading.Event()

    def list_models():
        if lease_keeper.models is not None:
            reading_started.set()
            assert may_finish.wait(20)
        return ["stickers"]

    lease_keeper = LeaseKeeper(runner, notified.append, list_models, slots=1, name="here", facts={})
    job_store.submissions.open_job(recipe, reason="", scope="shared")
    claim = job_store.claims.claim(recipe.model)
    runner.claims[claim.painting] = claim
    lease_keeper.start()
    assert reading_started.wait(20)
    leases = job_store.connection.prefix + "leases"
    before = job_store.connection.redis.zscore(leases, claim.painting)
    assert wait_for(lambda: job_store.connection.redis.zscore(leases, claim.painting) > before)
    may_finish.set()
    lease_keeper.stop()


def test_after_an_outage_other_workers_may_renew_their_leases_first(
    lease_keeper, job_store, recipe, notified, monkeypatch
):
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", -1.0)
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    job_store.claims.claim(recipe.model)
    with monkeypatch.context() as patched:
        patched.setattr(job_store.claims, "requeue_expired", Mock(side_effect=Unavailable("Redis is loading")))
        with pytest.raises(Unavailable):
            lease_keeper.keep_leases()
    lease_keeper.keep_leases()
    assert notified == [] and job_store.jobs.find(job.id).state is State.RUNNING
    lease_keeper.patient_until -= LEASE_SECONDS
    lease_keeper.keep_leases()
    assert notified == ["stickers"] and job_store.jobs.find(job.id).state is State.QUEUED


def test_a_painting_whose_end_could_not_be_reported_is_no_suspect(
    lease_keeper, runner, job_store, recipe, notified, monkeypatch
):
    """After an outage of the queue it goes back at once, and the attempt does not count."""
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    with monkeypatch.context() as patched:
        patched.setattr(job_store.progress, "complete", Mock(side_effect=Unavailable("Redis is full")))
        assert runner.paint(recipe.model) == "left"
    lease_keeper.keep_leases()
    assert notified == ["stickers"] and job_store.jobs.find(job.id).state is State.QUEUED
    claim = job_store.claims.claim(recipe.model)
    assert (claim.attempt, claim.suspect) == (1, False) and runner.left == []


def test_a_hanging_painting_is_left_to_other_workers(
    lease_keeper, runner, job_store, recipe, notified, monkeypatch, caplog
):
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", -1.0)
    claim = runner.claims[job.painting] = job_store.claims.claim(recipe.model)
    runner.last_sign[claim.painting] = time.monotonic() - SILENT_SECONDS - 1
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", 60.0)
    for _ in range(2):
        lease_keeper.keep_leases()
    assert notified == ["stickers"] and job_store.jobs.find(job.id).state is State.QUEUED
    assert caplog.text.count("hangs here") == 1
