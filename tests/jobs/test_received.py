"""What users received lately is remembered for a while, and only for them."""

from dataclasses import replace

import pytest

from jobs.job import Job, Origin, State
from jobs.store.received import make_receipt
from memo import Picture

FOX, DOG = "f" * 32, "d" * 32


@pytest.fixture
def received(recipe):
    """Makes a job whose picture, with this seed, was received by a user for a wish."""
    job = Job(id="1", painting=None, state=State.DONE, origin=Origin.MEMORY, reason="", recipe=recipe, created=0.0)

    def make(user, wish, seed):
        picture = Picture(recipe=replace(recipe, seed=seed), created=0.0, seconds=1.0, device="test")
        return replace(job, receipt=make_receipt(user, wish), picture=picture)

    return make


def test_a_user_received_all_pictures_if_one_was_for_this_wish(job_store, received):
    jobs = [received("ann", FOX, 1), received("ann", FOX, 2), received("ann", DOG, 3)]
    job_store.received.record(jobs, 60)
    assert job_store.received.find(make_receipt("ann", FOX), 60) == {job.picture.key for job in jobs}
    assert job_store.received.find(make_receipt("ann", "c" * 32), 60) == set()
    assert job_store.received.find(make_receipt("bob", FOX), 60) == set()


def test_it_is_forgotten_after_the_given_time(job_store, received):
    old, new = received("ann", FOX, 1), received("ann", DOG, 2)
    job_store.received.record([old], 60)
    redis = job_store.connection.redis
    [name] = redis.keys("*received:*")
    assert 0 < redis.ttl(name) <= 60
    redis.zincrby(name, -61, f"picture:{old.picture.key}")
    job_store.received.record([new], 60)
    assert job_store.received.find(old.receipt, 60) == {new.picture.key}
    redis.zincrby(name, -61, f"wish:{FOX}")
    assert job_store.received.find(old.receipt, 60) == set()


def test_receiving_the_same_again_does_not_prolong_it(job_store, received):
    job_store.received.record([received("ann", FOX, 1)], 60)
    redis = job_store.connection.redis
    [name] = redis.keys("*received:*")
    redis.zincrby(name, -50, f"wish:{FOX}")
    before = redis.zscore(name, f"wish:{FOX}")
    job_store.received.record([received("ann", FOX, 1)], 60)
    assert redis.zscore(name, f"wish:{FOX}") == before
    job_store.received.record([received("ann", FOX, 2)], 60)
    assert redis.zscore(name, f"wish:{FOX}") > before + 40


def test_jobs_without_receipt_or_picture_are_not_recorded(job_store, received):
    job_store.received.record([replace(received("ann", FOX, 1), receipt="")], 60)
    job_store.received.record([replace(received("ann", FOX, 1), picture=None)], 60)
    assert job_store.connection.redis.keys("*received:*") == []


def test_only_the_newest_of_very_many_are_kept(job_store, received):
    jobs = [received("ann", FOX, seed) for seed in range(300)]
    for start in (0, 100, 200):
        job_store.received.record(jobs[start : start + 100], 60)
    found = job_store.received.find(make_receipt("ann", FOX), 60)
    assert len(found) == 199 and jobs[-1].picture.key in found and jobs[0].picture.key not in found
