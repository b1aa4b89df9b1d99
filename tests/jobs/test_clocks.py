"""Leases, silence and webhooks go by the clock of Redis; neither wrong clocks nor clocks that are set do harm."""

import time
from dataclasses import replace

import pytest

from jobs.job import State
from jobs.store import claims
from jobs.store.connection import PREFIX
from jobs.store.job_store import open_job_store
from jobs.webhooks.deliveries import Webhook, Webhooks
from tests.real import painted


@pytest.fixture
def other_worker(redis_url):
    """The job store of another worker process."""
    store = open_job_store(redis_url)
    yield store
    store.connection.close()


@pytest.fixture
def machine_clock(monkeypatch):
    """A function that sets the clock of this machine, not that of Redis, ahead by some seconds."""
    real = time.time

    def set_ahead(seconds):
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return set_ahead


@pytest.fixture
def claimed(job_store, recipe):
    """A job and the claim on it."""
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    return job, job_store.claims.claim("stickers")


def set_redis_ahead(job_store, seconds):
    """Let the clock of Redis jump: everything that it noted lies further back, or ahead if negative."""
    redis = job_store.connection.redis
    for name in ("leases", "workers:seen"):
        for member, score in redis.zrange(PREFIX + name, 0, -1, withscores=True):
            redis.zadd(PREFIX + name, {member: score - seconds})
    for worker, text in redis.hgetall(PREFIX + "clocks").items():
        at, monotonic = text.split()
        redis.hset(PREFIX + "clocks", worker, f"{float(at) - seconds:.6f} {monotonic}")
    if quiet_until := redis.get(PREFIX + "quiet-until"):
        redis.set(PREFIX + "quiet-until", float(quiet_until) - seconds)


@pytest.mark.parametrize("seconds", [20, 3600, -20, -3600])
def test_a_worker_with_another_clock_takes_nothing_from_others_and_keeps_its_own(
    claimed, job_store, other_worker, recipe, machine_clock, seconds
):
    job, claim = claimed
    machine_clock(seconds)
    assert other_worker.claims.requeue_expired() == []
    other_job = job_store.submissions.open_job(replace(recipe, prompt="another"), reason="", scope="shared")
    other = other_worker.claims.claim("stickers")
    assert other_worker.claims.renew(other)
    machine_clock(0)
    assert job_store.claims.requeue_expired() == [] and job_store.claims.renew(claim)
    states = {job_store.jobs.find(each.id).state for each in (job, other_job)}
    assert states == {State.RUNNING} and claim.attempt == other.attempt == 1


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_the_painting_of_a_dead_worker_with_another_clock_is_taken_back_in_time(
    job_store, other_worker, recipe, machine_clock, monkeypatch, seconds
):
    machine_clock(seconds)
    job_store.submissions.open_job(recipe, reason="", scope="shared")
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.2)
    other_worker.claims.claim("stickers")
    machine_clock(0)
    time.sleep(0.3)
    assert job_store.claims.requeue_expired() == ["stickers"]


@pytest.mark.parametrize("seconds", [20, 3600, -20, -3600])
def test_a_jump_of_the_clock_of_redis_while_painting_costs_no_attempt(
    claimed, job_store, other_worker, seconds, recipe
):
    job, claim = claimed
    for worker in (job_store, other_worker):
        worker.claims.requeue_expired()
    set_redis_ahead(job_store, seconds)
    assert other_worker.claims.requeue_expired() == []
    assert job_store.claims.requeue_expired() == []
    assert job_store.claims.renew(claim) and other_worker.claims.requeue_expired() == []
    left = job_store.connection.redis.zscore(PREFIX + "leases", job.painting) - time.time()
    assert claims.LEASE_SECONDS - 2 < left <= claims.LEASE_SECONDS + 2
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    assert job_store.progress.complete(claim, picture)


@pytest.mark.parametrize("seconds", [20, 3600])
def test_a_worker_that_was_suspended_takes_nothing_from_the_others_however_often_it_looks(
    claimed, job_store, other_worker, monkeypatch, seconds
):
    _, claim = claimed
    real, behind = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real() - behind)
    for behind in (0.0, seconds, seconds):
        assert other_worker.claims.requeue_expired() == []
        normal, behind = behind, 0.0
        assert job_store.claims.requeue_expired() == [] and job_store.claims.renew(claim)
        behind = normal
    assert job_store.claims.renew(claim) and claim.attempt == 1


def test_a_dead_workers_painting_is_taken_back_a_lease_after_the_clock_jumped(claimed, job_store, monkeypatch):
    monkeypatch.setattr(claims, "LEASE_SECONDS", -0.5)  # plus a second: it has run out half a second later
    job_store.claims.requeue_expired()
    set_redis_ahead(job_store, 3600)
    assert job_store.claims.requeue_expired() == []
    time.sleep(1.2)
    assert job_store.claims.requeue_expired() == ["stickers"]


def test_a_user_served_before_the_clock_was_set_back_does_not_wait_for_all_others(job_store, recipe):
    for number in range(6):
        user, prompt = ("ada", "bob")[number % 2], f"fox {number}"
        job_store.submissions.open_job(replace(recipe, prompt=prompt), reason="", scope="shared", user=user)

    def paint_next():
        claim = job_store.claims.claim("stickers")
        job_store.progress.fail(claim, "x")
        return claim.user

    first, redis = paint_next(), job_store.connection.redis
    redis.zadd(PREFIX + "served", {first: time.time() + 3600})
    assert paint_next() != first and paint_next() == first


def test_a_worker_without_a_time_of_its_last_heartbeat_is_gone(job_store):
    job_store.connection.redis.hset(PREFIX + "workers", "of an older version", "{}")
    job_store.heartbeats.beat("here", {})
    assert set(job_store.heartbeats.workers()) == {"here"}


def test_a_clock_that_was_set_back_while_nobody_looked_delays_a_dead_workers_painting_by_one_lease(
    claimed, job_store
):
    job, _ = claimed
    set_redis_ahead(job_store, -3600)
    assert job_store.claims.requeue_expired() == []
    left = job_store.connection.redis.zscore(PREFIX + "leases", job.painting) - time.time()
    assert left <= claims.LEASE_SECONDS + 2


def test_a_slow_call_moves_no_lease_for_good(claimed, job_store, monkeypatch):
    job, _ = claimed
    redis, real = job_store.connection.redis, time.monotonic
    job_store.claims.requeue_expired()
    ends = redis.zscore(PREFIX + "leases", job.painting)
    monkeypatch.setattr(time, "monotonic", lambda: real() - 0.3)  # Redis answered 0.3 s later than usual
    job_store.claims.requeue_expired()
    assert redis.zscore(PREFIX + "leases", job.painting) == ends


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_worker_is_alive_by_its_heartbeats_whatever_its_clock_says(job_store, machine_clock, monkeypatch, seconds):
    machine_clock(seconds)
    job_store.heartbeats.beat("here", {"pid": 1})
    machine_clock(0)
    assert set(job_store.heartbeats.workers()) == {"here"}
    monkeypatch.setattr("jobs.store.heartbeats.SILENCE_SECONDS", 0.1)
    time.sleep(0.2)
    assert job_store.heartbeats.workers() == {}


def test_a_worker_that_died_before_the_clock_was_set_back_is_taken_off_the_list(job_store, monkeypatch):
    job_store.heartbeats.beat("dead", {})
    set_redis_ahead(job_store, -3600)
    job_store.heartbeats.beat("alive", {})
    monkeypatch.setattr("jobs.store.heartbeats.SILENCE_SECONDS", 0.2)
    time.sleep(0.3)
    job_store.heartbeats.beat("alive", {})
    assert set(job_store.heartbeats.workers()) == {"alive"}


@pytest.mark.parametrize("weeks", [2, -2])
def test_initial_images_age_by_the_clock_of_redis(job_store, machine_clock, weeks):
    machine_clock(weeks * 7 * 24 * 3600)
    job_store.backlog.touch_init_image("fresh", "mine")
    machine_clock(0)
    assert job_store.backlog.old_init_images() == []
    machine_clock(abs(weeks) * 7 * 24 * 3600)
    assert job_store.backlog.old_init_images() == []


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_webhooks_are_due_by_the_clock_of_redis(claimed, job_store, machine_clock, seconds):
    job, claim = claimed
    webhooks = Webhooks(job_store, "secret")
    machine_clock(seconds)
    webhooks.add(job, Webhook(url="http://example.com", job=job.id))
    job_store.progress.fail(claim, "x")
    delivery = webhooks.take_due()
    assert delivery is not None and webhooks.take_due() is None
    webhooks.retry(delivery)
    machine_clock(0)
    due = job_store.connection.redis.zscore(PREFIX + "webhooks", delivery.id) - time.time()
    assert 3 < due < 7
