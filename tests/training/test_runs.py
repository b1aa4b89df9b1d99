"""Trainings through the queue: records, leases, requeuing, and a real worker process that is killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from jobs.celery_app import QUEUE, create_celery
from jobs.config import JobsConfig
from jobs.job import State
from memo import BadSetup, Unavailable
from tests.real import ROOT, wait_for
from training import RUNS, runs
from training.knobs import to_json
from training.pictures import train_vae
from training.runs import OrphanRequeuer, TrainingRequest, TrainingRunner, TrainingStore, send_training, submit


@pytest.fixture
def trainings(job_store):
    return TrainingStore(job_store.connection)


@pytest.fixture
def vae_request(vae_knobs, tmp_path):
    """Six steps of a tiny autoencoder."""
    knobs = replace(vae_knobs, out=tmp_path / "run", steps=6, batch=2, checkpoint_minutes=0)
    return TrainingRequest("vae", to_json(knobs))


def with_knobs(vae_request, **knobs):
    return TrainingRequest(vae_request.run, {**vae_request.knobs, **knobs})


def test_a_submitted_training_is_queued_then_runs_and_reports_its_progress(trainings, vae_request):
    sent, records = [], []
    training = submit(trainings, vae_request, sent.append)
    assert sent == [training] and trainings.find(training).summary() == "vae queued, step 0 of 6"
    runner = TrainingRunner(trainings)
    report_to = runner.report_to

    def record_after_report(*arguments):
        report = report_to(*arguments)
        return lambda *row: (report(*row), records.append(trainings.find(training)))

    runner.report_to = record_after_report
    assert runner.run(training) == "done"
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6]
    assert {record.state for record in records} == {State.RUNNING} and set(records[0].losses) == {"loss", "l1"}
    assert records[0].seconds_left is None and records[4].seconds_left > 0 and "s left" in records[4].summary()
    record = trainings.find(training)
    assert record.state is State.DONE and record.result == vae_request.knobs["out"] and record.seconds > 0


def test_a_finished_or_unknown_training_is_skipped(trainings, vae_request):
    training = submit(trainings, with_knobs(vae_request, steps=1), lambda _: None)
    assert [TrainingRunner(trainings).run(training_id) for training_id in (training, training, "f" * 32)] == [
        "done",
        "skipped",
        "skipped",
    ]
    assert trainings.find("f" * 32) is None


def test_a_message_delivered_twice_trains_once(trainings, vae_request):
    training = submit(trainings, vae_request, lambda _: None)
    assert trainings.claim(training) is not None
    assert TrainingRunner(trainings).run(training) == "skipped"
    assert trainings.find(training).state is State.RUNNING and trainings.find_orphans() == []


def test_a_wrong_setting_fails_the_training_and_records_the_reason(trainings, vae_request, tmp_path):
    training = submit(trainings, with_knobs(vae_request, pairs=str(tmp_path / "nothing")), lambda _: None)
    assert TrainingRunner(trainings).run(training) == "failed"
    assert "no captioned pictures" in trainings.find(training).error


def test_an_unexpected_error_is_recorded_and_raised(trainings, vae_request):
    training = submit(trainings, with_knobs(vae_request, crop=33), lambda _: None)
    with pytest.raises(RuntimeError):
        TrainingRunner(trainings).run(training)
    assert trainings.find(training).state is State.FAILED
    assert trainings.find(training).error.startswith("RuntimeError")


def test_a_message_that_cannot_be_sent_fails_the_training(trainings, vae_request):
    def refuse(_):
        raise Unavailable("no queue")

    with pytest.raises(Unavailable):
        submit(trainings, vae_request, refuse)
    (key,) = trainings.redis.keys("memoaized:training:*")
    assert trainings.find(key.split(":")[-1]).error == "not sent: no queue"


def test_a_training_whose_worker_died_is_requeued_once(trainings, vae_request, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.05)
    training = submit(trainings, vae_request, lambda _: None)
    trainings.claim(training)
    assert wait_for(trainings.find_orphans, 5) == [training]
    assert trainings.find(training).state is State.QUEUED and trainings.find_orphans() == []


def test_a_training_whose_worker_dies_three_times_fails(trainings, vae_request, monkeypatch):
    training = submit(trainings, vae_request, lambda _: None)
    for _ in range(runs.MAX_ATTEMPTS):
        assert trainings.claim(training)
        trainings.redis.delete(trainings.key(training, ":lease"))
    assert trainings.claim(training) is None
    assert "died 3 times" in trainings.find(training).error


def test_a_row_of_losses_resets_the_count_of_attempts(trainings, vae_request):
    training = submit(trainings, vae_request, lambda _: None)
    report = TrainingRunner(trainings).report_to(training, runs.TimeEstimate(6))
    for step in range(runs.MAX_ATTEMPTS + 2):
        assert trainings.claim(training)
        report(step, {"loss": 1.0})
        trainings.redis.delete(trainings.key(training, ":lease"))


def test_the_lease_is_renewed_during_the_run_and_released_after_it(trainings, vae_request, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(runs, "RENEW_SECONDS", 0.05)
    training = submit(trainings, vae_request, lambda _: None)
    _, token = trainings.claim(training)
    with TrainingRunner(trainings).hold_lease(training, token):
        assert not runs.threading.Event().wait(2.5) and trainings.claim(training) is None
        assert not trainings.renew(training, "the token of another worker")
    assert trainings.claim(training) is not None


def test_a_lease_that_ran_out_is_taken_again_unless_another_worker_has_it(trainings, vae_request):
    training = submit(trainings, vae_request, lambda _: None)
    _, token = trainings.claim(training)
    trainings.redis.delete(trainings.key(training, ":lease"))
    assert trainings.renew(training, token) and trainings.claim(training) is None
    trainings.redis.delete(trainings.key(training, ":lease"))
    _, other = trainings.claim(training)
    assert not trainings.renew(training, token)
    trainings.release(training, token)
    assert trainings.claim(training) is None and trainings.renew(training, other)


def test_an_outage_of_redis_does_not_stop_a_training(trainings, vae_request, monkeypatch, caplog):
    def down(*_, **__):
        raise Unavailable("redis is down")

    report = TrainingRunner(trainings).report_to("f" * 32, runs.TimeEstimate(6))
    monkeypatch.setattr(trainings, "update", down)
    report(1, {"loss": 1.0})
    assert "redis is down" in caplog.text


def test_records_expire(trainings, vae_request):
    training = submit(trainings, vae_request, lambda _: None)
    assert 0 < trainings.redis.ttl(trainings.key(training)) <= runs.RECORD_SECONDS


def test_a_missing_package_is_named_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "training.pictures.train_vae", None)
    with pytest.raises(BadSetup, match=r"pip install 'memoaized\[gpu,train\]'"):
        runs.load_module(RUNS["vae"])


def test_a_worker_without_the_training_queue_takes_no_trainings(redis_url):
    with create_celery(JobsConfig(redis=redis_url)) as app:
        assert set(app.amqp.queues.consume_from) == {QUEUE} and runs.TRAIN_QUEUE != QUEUE


def test_after_a_worker_is_killed_another_finishes_the_training_with_the_same_losses(
    trainings, vae_request, redis_url, tmp_path
):
    """End to end: queue, worker process, SIGKILL after a checkpoint, another worker, the same losses."""
    uninterrupted = train_vae.train(
        train_vae.Knobs(**{**asdict(load_knobs(vae_request)), "out": tmp_path / "whole", "steps": 60})
    )
    with create_celery(JobsConfig(redis=redis_url)) as app:
        training = submit(trainings, with_knobs(vae_request, steps=60), lambda training: send_training(app, training))
    first = start_training_worker(redis_url)
    wait_for(lambda: (tmp_path / "run/state.pt").exists() and trainings.find(training).step >= 3, 60)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    reached = trainings.find(training).step
    assert reached < 60
    trainings.redis.delete(trainings.key(training, ":lease"))  # else it expires after half a minute
    second = start_training_worker(redis_url)
    try:
        wait_for(lambda: trainings.find(training).state.final, 60)
    finally:
        second.terminate()
        second.wait(20)
    record = trainings.find(training)
    assert record.state is State.DONE and record.step == 60, record
    assert (tmp_path / "run/loss.csv").read_bytes() == (uninterrupted / "loss.csv").read_bytes()


def load_knobs(vae_request):
    return runs.from_json(train_vae.Knobs, json.loads(json.dumps(vae_request.knobs)))


def start_training_worker(redis_url):
    """Start a worker process as documented, in a process group of its own."""
    command = [sys.executable, "-m", "celery", "--app", "training.main:app", "--quiet", "worker"]
    command += ["--queues", "train", "--concurrency", "1", "--without-gossip", "--without-mingle"]
    environment = {**os.environ, "JOBS_REDIS": redis_url, "JOBS_MODELS": "nowhere", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def test_the_requeuer_sends_an_orphan_again_and_stops(trainings, vae_request, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.05)
    training, sent = submit(trainings, vae_request, lambda _: None), []
    trainings.claim(training)
    requeuer = OrphanRequeuer(trainings, sent.append)
    wait_for(lambda: not trainings.redis.exists(trainings.key(training, ":lease")), 5)
    requeuer.start()
    wait_for(lambda: sent == [training], 5)
    requeuer.stop()
    assert not requeuer.thread.is_alive()


def test_the_requeuer_survives_an_outage_of_the_broker(trainings, monkeypatch, caplog):
    monkeypatch.setattr(runs, "RENEW_SECONDS", 0.01)
    rounds = []

    def find_orphans():
        rounds.append(1)
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(trainings, "find_orphans", find_orphans)
    requeuer = OrphanRequeuer(trainings, lambda training: None)
    requeuer.start()
    wait_for(lambda: len(rounds) > 2, 5)
    requeuer.stop()
    assert "the broker is away" in caplog.text and not requeuer.thread.is_alive()
