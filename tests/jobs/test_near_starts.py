"""Jobs whose painting starts from a remembered picture of a similar prompt."""

from dataclasses import replace

import pytest

from jobs.job import Origin
from jobs.serialize import explain_origin, job_to_dict
from memo import Match
from memo.picture import NearStart
from tests.real import painted

NEAR = NearStart(picture="ab" * 16, share=2.4, steps_saved=8)


@pytest.fixture
def open_near(job_store, recipe):
    """Open a job whose painting skips 8 of 20 steps."""

    def create(**changes):
        started = replace(recipe, init_image="cd" * 16, strength=0.6, **changes)
        return job_store.submissions.open_job(started, reason="why", scope="shared", near=NEAR)

    return create


def complete(job_store, job, **cost):
    """Let a worker paint the next job, which is this one."""
    claim = job_store.claims.claim("stickers")
    assert claim.painting == job.painting
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    job_store.progress.complete(claim, replace(picture, near=claim.near, **cost))
    return job_store.jobs.find(job.id)


def test_a_near_start_is_known_to_the_job_its_worker_and_its_picture(job_store, open_near, recipe):
    job = open_near()
    assert (job.origin, job.near, job.wish) == (Origin.NEAR, NEAR, recipe)
    assert job_store.jobs.find(job.id) == job
    claim = job_store.claims.claim("stickers")
    assert claim.near == NEAR and (claim.recipe.init_image, claim.recipe.strength) == ("cd" * 16, 0.6)


def test_the_same_wish_joins_a_painting_from_a_similar_picture_and_the_other_way_round(job_store, open_near, recipe):
    first, second = open_near(), open_near()
    third = job_store.submissions.open_job(recipe, reason="", scope="shared")
    assert (second.origin, third.origin, second.painting, third.painting) == (
        *(Origin.JOINED, Origin.JOINED),
        *(first.painting, first.painting),
    )
    assert second.near == third.near == NEAR
    other = replace(recipe, prompt="a wolf")
    noise = job_store.submissions.open_job(other, reason="", scope="shared")
    joined = open_near(prompt="a wolf")
    assert joined.painting == noise.painting and joined.near is None and joined.recipe == noise.recipe


def test_a_user_who_chose_the_same_initial_picture_does_not_join(job_store, open_near, recipe):
    open_near()
    chosen = replace(recipe, init_image="cd" * 16, strength=0.6)
    job = job_store.submissions.open_job(chosen, reason="", scope="shared")
    assert (job.origin, job.near, job.wish) == (Origin.PAINTED, None, chosen)


def test_the_skipped_share_of_the_mean_cost_is_saved(job_store, open_near, recipe):
    full = job_store.submissions.open_job(recipe, reason="", scope="shared")
    complete(job_store, full, seconds=10.0, joules=100.0)
    picture = complete(job_store, open_near(prompt="a wolf"), seconds=5.0, joules=70.0).picture
    counts = job_store.statistics.counts()
    assert (counts["near"], counts["painted"], counts["seconds_spent"]) == (1, 1, 15.0)
    assert (counts["seconds_saved"], counts["joules_saved"]) == pytest.approx((4.0, 40.0))
    assert job_store.statistics.history(1)[0]["seconds_saved"] == pytest.approx(4.0)
    assert job_store.statistics.mean_cost(picture) == (10.0, 100.0)  # of paintings with all their steps


def test_without_a_mean_the_saving_follows_from_the_steps_that_were_taken(job_store, open_near):
    picture = complete(job_store, open_near(), seconds=6.0, joules=0.0).picture
    counts = job_store.statistics.counts()
    assert (counts["seconds_saved"], counts["joules_saved"]) == pytest.approx((4.0, 0.0))
    assert job_store.statistics.mean_cost(picture) == pytest.approx((10.0, 0.0))
    job_store.submissions.record_remembered(picture.wish, Match(picture, 1.0, "same words"), "why")
    assert job_store.statistics.counts()["seconds_saved"] == pytest.approx(14.0)


def test_a_cancelled_near_start_saves_nothing(job_store, open_near):
    job_store.submissions.cancel(open_near().id)
    assert job_store.statistics.counts()["seconds_saved"] == 0


def test_the_document_names_source_share_strength_and_steps_saved(job_store, open_near, recipe):
    done = complete(job_store, open_near(), seconds=6.0)
    near = {"picture": "ab" * 16, "share": 2.4, "steps_saved": 8, "strength": 0.6, "generation": 1}
    document = job_to_dict(done)
    assert document["near"] == document["picture"]["near"] == near
    assert explain_origin(done) == "painted from a similar picture: why"
    other = job_store.submissions.open_job(replace(recipe, prompt="a wolf"), reason="", scope="shared")
    assert job_to_dict(other)["near"] is None
