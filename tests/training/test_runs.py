"""Trainings through the queue: records, leases, a real worker process, and a kill."""

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
from training.knobs import as_json
from training.pictures import train_vae
from training.runs import Runner, TrainingRequest, Trainings, Watch, send_training, submit


@pytest.fixture
def trainings(job_store):
    return Trainings(job_store.connection)


@pytest.fixture
def request(vae_knobs, tmp_path):
    """Six steps of a tiny autoencoder."""
    knobs = replace(vae_knobs, out=tmp_path / "run", steps=6, batch=2, checkpoint_minutes=0)
    return TrainingRequest("vae", as_json(knobs))


def changed(request, **knobs):
    return TrainingRequest(request.run, {**request.knobs, **knobs})


def test_a_submitted_training_waits_then_runs_and_tells_how_far_it_is(trainings, request):
    sent, seen = [], []
    training = submit(trainings, request, sent.append)
    assert sent == [training] and trainings.look(training).line() == "vae queued, step 0 of 6"
    runner = Runner(trainings)
    reporter = runner.reporter

    def listening(*arguments):
        hear = reporter(*arguments)
        return lambda *row: (hear(*row), seen.append(trainings.look(training)))

    runner.reporter = listening
    assert runner.run(training) == "done"
    assert [found.step for found in seen] == [1, 2, 3, 4, 5, 6]
    assert {found.state for found in seen} == {State.RUNNING} and set(seen[0].losses) == {"loss", "l1"}
    assert seen[0].left is None and seen[4].left > 0 and "s left" in seen[4].line()
    found = trainings.look(training)
    assert found.state is State.DONE and found.result == request.knobs["out"] and found.seconds > 0


def test_a_finished_or_unknown_training_is_left(trainings, request):
    training = submit(trainings, changed(request, steps=1), lambda _: None)
    assert [Runner(trainings).run(which) for which in (training, training, "f" * 32)] == ["done", "left", "left"]
    assert trainings.look("f" * 32) is None


def test_a_message_delivered_twice_trains_once(trainings, request):
    training = submit(trainings, request, lambda _: None)
    assert trainings.claim(training) is not None
    assert Runner(trainings).run(training) == "left"
    assert trainings.look(training).state is State.RUNNING and trainings.orphans() == []


def test_a_wrong_setting_fails_the_training_with_its_reason(trainings, request, tmp_path):
    training = submit(trainings, changed(request, pairs=str(tmp_path / "nothing")), lambda _: None)
    assert Runner(trainings).run(training) == "failed"
    assert "no captioned pictures" in trainings.look(training).error


def test_a_fault_of_the_run_is_recorded_and_raised(trainings, request):
    training = submit(trainings, changed(request, crop=33), lambda _: None)
    with pytest.raises(RuntimeError):
        Runner(trainings).run(training)
    assert trainings.look(training).state is State.FAILED
    assert trainings.look(training).error.startswith("RuntimeError")


def test_a_message_that_cannot_be_sent_fails_the_training(trainings, request):
    def refuse(_):
        raise Unavailable("no queue")

    with pytest.raises(Unavailable):
        submit(trainings, request, refuse)
    (key,) = trainings.redis.keys("memoaized:training:*")
    assert trainings.look(key.split(":")[-1]).error == "not sent: no queue"


def test_a_dead_runners_training_is_sent_again_once(trainings, request, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.05)
    training = submit(trainings, request, lambda _: None)
    trainings.claim(training)
    assert wait_for(trainings.orphans, 5) == [training]
    assert trainings.look(training).state is State.QUEUED and trainings.orphans() == []


def test_a_training_that_keeps_killing_its_runner_fails(trainings, request, monkeypatch):
    training = submit(trainings, request, lambda _: None)
    for _ in range(runs.MOST_ATTEMPTS):
        assert trainings.claim(training)
        trainings.redis.delete(trainings.key(training, ":lease"))
    assert trainings.claim(training) is None
    assert "died 3 times" in trainings.look(training).error


def test_deaths_are_forgotten_once_it_gets_on(trainings, request):
    training = submit(trainings, request, lambda _: None)
    hear = Runner(trainings).reporter(training, runs.Pace(6))
    for step in range(runs.MOST_ATTEMPTS + 2):
        assert trainings.claim(training)
        hear(step, {"loss": 1.0})
        trainings.redis.delete(trainings.key(training, ":lease"))


def test_the_lease_is_kept_while_it_runs_and_given_back_after(trainings, request, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(runs, "PERIOD", 0.05)
    training = submit(trainings, request, lambda _: None)
    _, token = trainings.claim(training)
    with Runner(trainings).leased(training, token):
        assert not runs.threading.Event().wait(2.5) and trainings.claim(training) is None
        assert not trainings.renew(training, "another")
    assert trainings.claim(training) is not None


def test_an_outage_stops_no_training(trainings, request, monkeypatch, caplog):
    def down(*_, **__):
        raise Unavailable("redis sleeps")

    hear = Runner(trainings).reporter("f" * 32, runs.Pace(6))
    monkeypatch.setattr(trainings, "write", down)
    hear(1, {"loss": 1.0})
    assert "redis sleeps" in caplog.text


def test_records_expire(trainings, request):
    training = submit(trainings, request, lambda _: None)
    assert 0 < trainings.redis.ttl(trainings.key(training)) <= runs.KEPT_SECONDS


def test_an_absent_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "training.pictures.train_vae", None)
    with pytest.raises(BadSetup, match=r"pip install 'memoaized\[gpu,train\]'"):
        runs.load(RUNS["vae"])


def test_a_worker_that_is_not_asked_to_takes_no_trainings(redis_url):
    with create_celery(JobsConfig(redis=redis_url)) as app:
        assert set(app.amqp.queues.consume_from) == {QUEUE} and runs.TRAIN_QUEUE != QUEUE


def test_a_killed_worker_process_costs_nothing_but_time(trainings, request, redis_url, tmp_path):
    """The whole way: queue, worker process, SIGKILL after a checkpoint, another worker, the same curve."""
    whole = train_vae.train(train_vae.Knobs(**{**asdict(knobs_of(request)), "out": tmp_path / "whole", "steps": 60}))
    with create_celery(JobsConfig(redis=redis_url)) as app:
        training = submit(trainings, changed(request, steps=60), lambda training: send_training(app, training))
    first = training_worker(redis_url)
    wait_for(lambda: (tmp_path / "run/state.pt").exists() and trainings.look(training).step >= 3, 60)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    reached = trainings.look(training).step
    assert reached < 60
    trainings.redis.delete(trainings.key(training, ":lease"))  # what waiting for half a minute does
    second = training_worker(redis_url)
    try:
        wait_for(lambda: trainings.look(training).state.final, 60)
    finally:
        second.terminate()
        second.wait(20)
    found = trainings.look(training)
    assert found.state is State.DONE and found.step == 60, found
    assert (tmp_path / "run/loss.csv").read_bytes() == (whole / "loss.csv").read_bytes()


def knobs_of(request):
    return runs.from_json(train_vae.Knobs, json.loads(json.dumps(request.knobs)))


def training_worker(redis_url):
    """A real one, as the documentation says, in a process group of its own."""
    command = [sys.executable, "-m", "celery", "--app", "training.main:app", "--quiet", "worker"]
    command += ["--queues", "train", "--concurrency", "1", "--without-gossip", "--without-mingle"]
    environment = {**os.environ, "JOBS_REDIS": redis_url, "JOBS_MODELS": "nowhere", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def test_a_watch_begins_and_ends(trainings, request, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.05)
    training, sent = submit(trainings, request, lambda _: None), []
    trainings.claim(training)
    watch = Watch(trainings, sent.append)
    wait_for(lambda: not trainings.redis.exists(trainings.key(training, ":lease")), 5)
    watch.start()
    wait_for(lambda: sent == [training], 5)
    watch.stop()
    assert not watch.thread.is_alive()


def test_a_watch_survives_a_broker_that_is_away(trainings, monkeypatch, caplog):
    monkeypatch.setattr(runs, "PERIOD", 0.01)
    rounds = []

    def orphans():
        rounds.append(1)
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(trainings, "orphans", orphans)
    watch = Watch(trainings, lambda training: None)
    watch.start()
    wait_for(lambda: len(rounds) > 2, 5)
    watch.stop()
    assert "the broker is away" in caplog.text and not watch.thread.is_alive()
