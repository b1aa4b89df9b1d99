"""A painting that kills its workers fails alone: after a death, those that were under way are painted one by one."""

from dataclasses import replace

import pytest

from jobs.job import State
from jobs.store import claims
from jobs.store.connection import PREFIX
from jobs.store.job_store import open_job_store
from tests.real import painted


@pytest.fixture
def open_job(job_store, recipe):
    """Open a job with this prompt."""
    return lambda prompt: job_store.submissions.open_job(replace(recipe, prompt=prompt), reason="", scope="shared")


def claim_prompts(job_store, count):
    """Make this many claims; returns their prompts."""
    return [job_store.claims.claim("stickers").recipe.prompt for _ in range(count)]


@pytest.fixture
def other_worker(redis_url):
    """The job store of another worker process."""
    store = open_job_store(redis_url)
    yield store
    store.connection.close()


def let_leases_expire(job_store, *ids):
    """Let the leases of these paintings run out, and requeue them, as after the death of their worker."""
    leases = job_store.connection.prefix + "leases"
    job_store.connection.redis.zadd(leases, dict.fromkeys(ids, 0))
    return job_store.claims.requeue_expired()


def test_paintings_whose_worker_died_are_painted_alone_and_only_the_guilty_one_uses_up_attempts(
    job_store, other_worker, open_job
):
    names = ["poison", "innocent 1", "innocent 2", "innocent 3"]
    open_jobs = [open_job(prompt=name) for name in names]
    claims_of_dead = [job_store.claims.claim("stickers") for _ in open_jobs]
    assert let_leases_expire(other_worker, *(claim.painting for claim in claims_of_dead)) == ["stickers"] * 4
    for attempt in (1, 2, 3):
        poison = other_worker.claims.claim("stickers")
        assert (poison.recipe.prompt, poison.attempt, poison.suspect) == ("poison", attempt, True)
        with pytest.raises(claims.Occupied):
            other_worker.claims.claim("stickers")
        let_leases_expire(other_worker, poison.painting)
        other_worker.claims.worker += "'"  # the dead worker is replaced
    assert other_worker.claims.claim("stickers").attempt == 4
    for name in names[1:]:
        claim = job_store.claims.claim("stickers")
        assert (claim.recipe.prompt, claim.attempt, claim.suspect) == (name, 1, True)
        assert job_store.progress.complete(claim, painted(claim.recipe, seed=claim.recipe.seed)[0])


def test_a_suspect_waits_until_its_worker_paints_nothing_else(job_store, other_worker, open_job):
    suspect = open_job(prompt="suspect")
    other_worker.claims.claim("stickers")
    open_job(prompt="under way")
    under_way = job_store.claims.claim("stickers")
    let_leases_expire(job_store, suspect.painting)
    open_job(prompt="later")
    with pytest.raises(claims.Occupied):
        job_store.claims.claim("stickers")
    job_store.progress.fail(under_way, "x")
    assert job_store.claims.claim("stickers").recipe.prompt == "suspect"
    assert claim_prompts(other_worker, 1) == ["later"]  # other workers go on


def test_a_worker_does_not_wait_for_ever_for_a_painting_that_hangs(job_store, other_worker, open_job):
    suspect = open_job(prompt="suspect")
    other_worker.claims.claim("stickers")
    open_job(prompt="hangs")
    job_store.claims.claim("stickers")
    let_leases_expire(job_store, suspect.painting)
    open_job(prompt="later")
    with pytest.raises(claims.Occupied):
        job_store.claims.claim("stickers")
    name = f"{PREFIX}painting:{suspect.painting}"
    since = float(job_store.connection.redis.hget(name, "drained_since"))
    job_store.connection.redis.hset(name, "drained_since", since - claims.DRAIN_SECONDS - 1)
    assert claim_prompts(job_store, 1) == ["later"]
    with pytest.raises(claims.Occupied):
        job_store.claims.claim("stickers")  # only the suspect is left


def test_leases_of_one_dead_worker_may_run_out_at_different_times(job_store, other_worker, open_job):
    jobs = [open_job(prompt=name) for name in ("a", "b", "c")]
    for _ in jobs:
        job_store.claims.claim("stickers")
    for job in jobs:
        let_leases_expire(other_worker, job.painting)
    for _ in jobs:
        claim = other_worker.claims.claim("stickers")
        assert claim.attempt == 1 and claim.suspect
        other_worker.progress.fail(claim, "x")


def test_a_reported_fault_makes_no_suspect_and_counts(job_store, open_job):
    faulty, beside = open_job(prompt="faulty"), open_job(prompt="beside")
    claim, other = job_store.claims.claim("stickers"), job_store.claims.claim("stickers")
    job_store.progress.report_message(claim, "it will be repeated", fault="out of ochre")
    let_leases_expire(job_store, faulty.painting)
    repeated = job_store.claims.claim("stickers")
    assert (repeated.attempt, repeated.suspect) == (2, False)
    let_leases_expire(job_store, beside.painting, faulty.painting)
    assert job_store.claims.claim("stickers").attempt == 2 and other.attempt == 1


def test_a_suspect_that_nobody_waits_for_any_more_is_not_painted_again(job_store, open_job):
    cancelled, joined = open_job(prompt="cancelled"), open_job(prompt="joined")
    second = open_job(prompt="joined")
    for _ in range(2):
        job_store.claims.claim("stickers")
    job_store.submissions.cancel(cancelled.id)
    job_store.submissions.cancel(joined.id)
    let_leases_expire(job_store, cancelled.painting, joined.painting)
    assert job_store.jobs.find(cancelled.id).state is State.CANCELLED
    assert claim_prompts(job_store, 1) == ["joined"] and job_store.claims.claim("stickers") is None
    assert job_store.jobs.find(second.id).state is State.RUNNING


def test_a_lease_without_a_painting_is_dropped(job_store):
    assert let_leases_expire(job_store, "vanished") == [] and job_store.claims.claim("stickers") is None
    assert job_store.connection.redis.zcard(job_store.connection.prefix + "leases") == 0
