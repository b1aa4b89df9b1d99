"""Jobs and paintings change in atomic steps, and only the holder of a claim may finish one."""

import base64
import threading
from dataclasses import replace

import pytest

from jobs.job import MemoryMatch, Origin, State
from jobs.store import claims, submissions
from jobs.store.connection import KEPT_SECONDS
from jobs.store.job_store import JobStore, open_job_store
from jobs.store.records import hash_name
from jobs.store.submissions import PRIORITY_SECONDS
from memo import Match, Unavailable
from tests.real import painted


@pytest.fixture
def open_job(job_store, recipe):
    """Open a job with these changes to the recipe or to the usual options."""

    def create(**changes):
        options = {"reason": "why", "scope": "shared", "joinable": True, "user": "", "priority": 0}
        options |= {name: changes.pop(name) for name in list(changes) if name in options}
        return job_store.submissions.open_job(replace(recipe, **changes), **options)

    return create


def test_a_new_job_waits_with_a_random_seed(job_store, open_job, recipe):
    job = open_job()
    assert (job.state, job.origin, job.position, job.step, job.reason) == (State.QUEUED, Origin.PAINTED, 0, 0, "why")
    assert job.recipe.seed is not None and job.recipe.wish == recipe
    assert job_store.jobs.find(job.id) == job
    assert job_store.jobs.find("unknown") is None


def test_a_requested_seed_is_kept(open_job):
    assert open_job(seed=0).recipe.seed == 0


def test_positions_count_from_the_oldest_painting(job_store, open_job):
    jobs = [open_job(prompt=f"fox {number}") for number in range(3)]
    assert [job_store.jobs.find(job.id).position for job in jobs] == [0, 1, 2]


def test_a_claimed_painting_runs_and_cannot_be_claimed_twice(job_store, open_job):
    job = open_job()
    claim = job_store.claims.claim(job.recipe.model)
    assert claim and claim.recipe == job.recipe and claim.attempt == 1
    assert job_store.claims.claim(job.recipe.model) is None
    assert job_store.jobs.find(job.id).state is State.RUNNING and job_store.jobs.find(job.id).started


def test_a_painting_under_way_can_be_joined_by_its_id(job_store, open_job):
    first = open_job()
    second = job_store.submissions.join(first.painting, "it means the same", scope="shared")
    assert (second.origin, second.painting, second.reason) == (
        Origin.JOINED,
        first.painting,
        "the same picture is already being painted for another request: it means the same",
    )
    assert job_store.submissions.cancel(first.id) and job_store.jobs.find(second.id).state is State.QUEUED
    assert job_store.claims.claim(first.recipe.model)
    assert job_store.submissions.join(first.painting, "running", scope="shared") is not None


@pytest.mark.parametrize("by", ["wish", "name"])
@pytest.mark.parametrize("running", [False, True])
def test_a_joined_job_is_returned_as_it_is_recorded(job_store, open_job, by, running):
    open_job(prompt="first of the queue")
    painting = open_job(prompt="a fox").painting
    if running:
        for _ in range(2):
            job_store.progress.report_step(job_store.claims.claim("stickers"), 3, 4.5, "cHJl", "soon")
    if by == "wish":
        job = open_job(prompt="a fox")
    else:
        job = job_store.submissions.join(painting, "it means the same", scope="shared", user="bob")
    assert job.painting == painting and job == job_store.jobs.find(job.id)
    assert job_store.jobs.recent(1) == [job] and job.position == (None if running else 1)


def test_a_painting_of_another_scope_cannot_be_joined(job_store, open_job):
    assert job_store.submissions.join(open_job(scope="alice").painting, "why", scope="bob") is None


def test_a_painting_that_is_not_under_way_cannot_be_joined(job_store, open_job):
    failed, cancelled, abandoned = open_job(prompt="one"), open_job(prompt="two"), open_job(prompt="three")
    job_store.progress.fail(job_store.claims.claim(failed.recipe.model), "broken")
    job_store.submissions.cancel(cancelled.id)
    job_store.claims.claim(abandoned.recipe.model)
    job_store.submissions.cancel(abandoned.id)
    for painting in (failed.painting, cancelled.painting, abandoned.painting, "0" * 32):
        assert job_store.submissions.join(painting, "why", scope="shared") is None


def test_exactly_one_of_many_simultaneous_claims_succeeds(job_store, open_job, redis_url):
    job, results = open_job(), []
    job_stores = [open_job_store(redis_url) for _ in range(8)]
    threads = [
        threading.Thread(target=lambda b=b: results.append(b.claims.claim(job.recipe.model))) for b in job_stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in job_stores:
        other.connection.close()
    assert len([claim for claim in results if claim]) == 1


def test_a_job_shows_its_progress_and_then_its_picture(job_store, open_job):
    job = open_job()
    claim = job_store.claims.claim(job.recipe.model)
    assert job_store.progress.report_step(claim, 7) == "go on"
    assert job_store.jobs.find(job.id).step == 7
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    assert job_store.progress.complete(claim, picture)
    done = job_store.jobs.find(job.id)
    assert (done.state, done.picture, done.step) == (State.DONE, picture, done.recipe.steps)
    assert done.finished and done.finished >= done.started >= done.created


def test_a_failed_job_shows_the_error(job_store, open_job):
    job = open_job()
    assert job_store.progress.fail(job_store.claims.claim(job.recipe.model), "out of ochre")
    assert (job_store.jobs.find(job.id).state, job_store.jobs.find(job.id).error) == (State.FAILED, "out of ochre")


def test_the_same_wish_joins_the_painting_under_way(job_store, open_job):
    first, second = open_job(), open_job()
    assert second.origin is Origin.JOINED and second.painting == first.painting and second.id != first.id
    assert second.recipe.seed == first.recipe.seed
    claim = job_store.claims.claim(first.recipe.model)
    third = open_job()
    assert third.painting == first.painting and third.state is State.RUNNING
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    job_store.progress.complete(claim, picture)
    assert [job_store.jobs.find(job.id).picture for job in (first, second, third)] == [picture] * 3
    assert open_job().painting != first.painting


@pytest.mark.parametrize(
    "change", [{"prompt": "a blue fox"}, {"seed": 3}, {"scope": "alice"}, {"joinable": False}, {"steps": 3}]
)
def test_another_wish_or_scope_does_not_join(open_job, change):
    assert open_job().painting != open_job(**change).painting


def test_cancelling_a_waiting_job_ends_it_at_once(job_store, open_job):
    job = open_job()
    assert job_store.submissions.cancel(job.id) and not job_store.submissions.cancel(job.id)
    assert job_store.jobs.find(job.id).state is State.CANCELLED
    assert job_store.claims.claim(job.recipe.model) is None
    assert open_job().painting != job.painting


def test_the_worker_learns_of_a_cancelled_job_at_the_next_step(job_store, open_job):
    job = open_job()
    claim = job_store.claims.claim(job.recipe.model)
    job_store.submissions.cancel(job.id)
    assert job_store.progress.report_step(claim, 1) == "cancel"
    assert job_store.progress.end_cancelled(claim)
    assert job_store.jobs.find(job.id).state is State.CANCELLED


def test_a_painting_goes_on_while_another_job_waits_for_it(job_store, open_job):
    first, second = open_job(), open_job()
    claim = job_store.claims.claim(first.recipe.model)
    job_store.submissions.cancel(first.id)
    assert (
        job_store.jobs.find(first.id).state is State.CANCELLED
        and job_store.jobs.find(second.id).state is State.RUNNING
    )
    assert job_store.progress.report_step(claim, 1) == "go on"
    job_store.submissions.cancel(second.id)
    assert job_store.progress.report_step(claim, 2) == "cancel"


def test_nobody_joins_a_painting_that_is_being_cancelled(job_store, open_job):
    job = open_job()
    job_store.claims.claim(job.recipe.model)
    job_store.submissions.cancel(job.id)
    assert open_job().painting != job.painting


def test_a_final_job_cannot_be_cancelled(job_store, open_job):
    job = open_job()
    job_store.progress.fail(job_store.claims.claim(job.recipe.model), "x")
    assert not job_store.submissions.cancel(job.id) and job_store.jobs.find(job.id).state is State.FAILED
    assert not job_store.submissions.cancel("unknown")


def test_a_painting_whose_lease_ran_out_is_requeued(job_store, open_job, monkeypatch):
    monkeypatch.setattr("jobs.store.claims.LEASE_SECONDS", -1.0)
    job = open_job()
    lost = job_store.claims.claim(job.recipe.model)
    assert job_store.claims.requeue_expired() == [job.recipe.model]
    assert job_store.jobs.find(job.id).state is State.QUEUED and job_store.jobs.find(job.id).position == 0
    assert job_store.progress.report_step(lost, 3) == "lost"
    second = job_store.claims.claim(job.recipe.model)
    assert second.attempt == 2
    picture, _ = painted(lost.recipe, seed=lost.recipe.seed)
    assert (
        not job_store.progress.complete(lost, picture)
        and not job_store.progress.fail(lost, "late")
        and not job_store.claims.renew(lost)
    )
    assert job_store.jobs.find(job.id).state is State.RUNNING
    assert job_store.progress.complete(second, picture)


def test_a_renewed_lease_keeps_the_painting(job_store, open_job):
    job = open_job()
    claim = job_store.claims.claim(job.recipe.model)
    assert job_store.claims.renew(claim) and job_store.claims.requeue_expired() == []


def test_unfinished_paintings_are_found_among_many(job_store, open_job):
    first, second, third = (open_job(prompt=prompt).painting for prompt in ("b", "c", "a"))
    cancelled, ended = open_job(prompt="d"), job_store.claims.claim("stickers")
    job_store.submissions.cancel(cancelled.id)
    job_store.claims.claim("stickers")
    job_store.progress.fail(ended, "no")
    known = [first, second, third, cancelled.painting, "unknown"]
    assert job_store.jobs.unfinished(known) == {first, second, third} - {ended.painting}


def test_a_released_painting_keeps_its_position_and_its_attempts(job_store, open_job):
    first, second = open_job(prompt="first"), open_job(prompt="second")
    claim = job_store.claims.claim(first.recipe.model)
    assert job_store.claims.release(claim) and not job_store.claims.release(claim)
    assert [job_store.jobs.find(job.id).position for job in (first, second)] == [0, 1]
    assert job_store.claims.claim(first.recipe.model).attempt == 1


def claim_prompts(job_store, count, model="stickers"):
    """Make this many claims; returns their prompts."""
    return [job_store.claims.claim(model).recipe.prompt for _ in range(count)]


def test_a_user_with_many_jobs_does_not_delay_the_first_job_of_others(job_store, open_job):
    for number in range(50):
        open_job(prompt=f"much {number}", user="ada")
    assert claim_prompts(job_store, 2) == ["much 0", "much 1"]
    for user in ("bob", "cem"):
        for number in range(2):
            open_job(prompt=f"{user} {number}", user=user)
    assert claim_prompts(job_store, 5) == ["bob 0", "cem 0", "bob 1", "cem 1", "much 2"]


def test_users_take_turns_on_a_single_worker(job_store, open_job):
    for number in range(3):
        open_job(prompt=f"ada {number}", user="ada")
    for number in range(3):
        open_job(prompt=f"bob {number}", user="bob")
    order = []
    while claim := job_store.claims.claim("stickers"):
        order.append(claim.recipe.prompt)
        job_store.progress.fail(claim, "x")
    assert order == ["ada 0", "bob 0", "ada 1", "bob 1", "ada 2", "bob 2"]


def test_urgent_jobs_go_first_until_others_have_waited_long(job_store, open_job, monkeypatch):
    open_job(prompt="usual")
    open_job(prompt="urgent", priority=1)
    open_job(prompt="for the night", priority=-1)
    assert claim_prompts(job_store, 3) == ["urgent", "usual", "for the night"]
    open_job(prompt="waited long", priority=-1)
    moment = submissions.now()
    monkeypatch.setattr(submissions, "now", lambda: moment + 2.5 * PRIORITY_SECONDS)
    open_job(prompt="new", priority=1)
    assert claim_prompts(job_store, 2) == ["waited long", "new"]


def test_priority_does_not_put_a_user_ahead_of_others(job_store, open_job):
    for number in range(3):
        open_job(prompt=f"ada {number}", user="ada", priority=10)
    open_job(prompt="bob", user="bob")
    assert set(claim_prompts(job_store, 2)) == {"ada 0", "bob"}


def test_an_urgent_job_moves_the_painting_that_it_joins_forward(job_store, open_job):
    first, second = open_job(prompt="first"), open_job(prompt="second")
    assert open_job(prompt="second", priority=2).painting == second.painting
    assert [job_store.jobs.find(job.id).position for job in (first, second)] == [1, 0]
    assert claim_prompts(job_store, 2) == ["second", "first"]


@pytest.mark.parametrize("by", ["wish", "name"])
def test_a_joining_user_does_not_wait_for_all_jobs_of_the_other_user(job_store, open_job, by):
    """Bob joins Ada's last painting: it is painted once, in his turn, and leaves her queue."""
    for number in range(20):
        last = open_job(prompt=f"ada {number}", user="ada")
    joined = (
        open_job(prompt="ada 19", user="bob")
        if by == "wish"
        else job_store.submissions.join(last.painting, "alike", scope="shared", user="bob")
    )
    assert joined.painting == last.painting and job_store.statistics.count_waiting("stickers") == 20
    assert claim_prompts(job_store, 3) == ["ada 0", "ada 19", "ada 1"]  # Ada is next: she has only one under way
    assert (
        job_store.statistics.count_waiting("stickers") == 17
        and len(claim_prompts(job_store, 17)) == 17
        and job_store.claims.claim("stickers") is None
    )


def test_a_joined_painting_counts_for_the_user_in_whose_turn_it_was_claimed(job_store, open_job):
    for number in range(3):
        open_job(prompt=f"ada {number}", user="ada")
    open_job(prompt="ada 2", user="bob")
    open_job(prompt="bob 1", user="bob")
    assert claim_prompts(job_store, 4) == ["ada 0", "ada 2", "ada 1", "bob 1"]


def test_a_requeued_painting_waits_in_the_queues_of_both_users(job_store, open_job, redis_url, monkeypatch):
    monkeypatch.setattr(claims, "LEASE_SECONDS", -1.0)
    first = open_job(prompt="first", user="ada")
    job_store.claims.claim("stickers")
    job_store.submissions.join(first.painting, "alike", scope="shared", user="bob")
    monkeypatch.setattr(claims, "LEASE_SECONDS", 60.0)
    for number in range(3):
        open_job(prompt=f"ada {number}", user="ada", priority=9)
    job_store.claims.claim("stickers")
    assert job_store.claims.requeue_expired() == ["stickers"]
    idle_worker = open_job_store(redis_url)  # it paints the suspect alone
    assert claim_prompts(idle_worker, 1) == ["first"]
    idle_worker.connection.close()


def test_a_claim_names_the_user_whose_turn_it_was(job_store, open_job):
    open_job(prompt="a", user="ada", priority=2)
    claim = job_store.claims.claim("stickers")
    assert claim.user == hash_name("ada") and abs(claim.rank - (submissions.now() - 2 * PRIORITY_SECONDS)) < 10


def test_a_model_has_a_queue_of_its_own(job_store, open_job):
    open_job(prompt="one")
    open_job(prompt="two", model="other")
    assert (
        job_store.statistics.count_waiting("stickers"),
        job_store.statistics.count_waiting("other"),
        job_store.statistics.count_waiting("none"),
    ) == (1, 1, 0)
    assert claim_prompts(job_store, 1, "other") == ["two"] and job_store.claims.claim("other") is None
    assert (job_store.statistics.count_waiting("stickers"), job_store.statistics.count_waiting("other")) == (1, 0)


def test_a_preview_exists_only_while_the_picture_is_being_painted(job_store, open_job):
    job = open_job()
    claim = job_store.claims.claim(job.recipe.model)
    assert job_store.progress.report_step(claim, 1, 2.5) == "go on"
    assert (
        job_store.jobs.find(job.id).seconds_left,
        job_store.jobs.find(job.id).previewed,
        job_store.jobs.preview(job.id),
    ) == (
        2.5,
        None,
        None,
    )
    job_store.progress.report_step(claim, 2, 2.0, base64.b64encode(b"seen").decode())
    job_store.progress.report_step(claim, 3, 1.5)
    now = job_store.jobs.find(job.id)
    assert (now.step, now.seconds_left, now.previewed, job_store.jobs.preview(job.id)) == (3, 1.5, 2, b"seen")
    job_store.claims.release(claim)
    assert (job_store.jobs.find(job.id).previewed, job_store.jobs.preview(job.id)) == (None, None)
    claim = job_store.claims.claim(job.recipe.model)
    job_store.progress.report_step(claim, 1, 2.5, base64.b64encode(b"again").decode())
    job_store.progress.fail(claim, "x")
    assert job_store.jobs.find(job.id).seconds_left is None and job_store.jobs.preview(job.id) is None
    assert job_store.jobs.preview("unknown") is None


def test_an_answer_from_memory_is_a_finished_job(job_store, recipe):
    picture, _ = painted(recipe)
    note = MemoryMatch(prompt=recipe.prompt, score=0.98, how="same meaning")
    match = Match(picture, 0.98, "same meaning")
    job = job_store.submissions.record_remembered(recipe, match, "it says the same")
    assert (job.state, job.origin, job.picture, job.match) == (State.DONE, Origin.MEMORY, picture, note)
    assert job.reason == "it says the same" and job_store.jobs.recent(5) == [job]
    assert not job_store.submissions.cancel(job.id)


def test_a_picture_is_forgotten_with_the_jobs_that_led_to_it(job_store, open_job, recipe):
    first, joined = open_job(prompt="secret"), open_job(prompt="secret")
    other = open_job(prompt="other")
    for _ in range(2):
        claim = job_store.claims.claim("stickers")
        job_store.progress.complete(claim, painted(claim.recipe, seed=claim.recipe.seed)[0])
    picture = job_store.jobs.find(first.id).picture
    remembered = job_store.submissions.record_remembered(recipe, Match(picture, 1.0, "same"), "why")
    running = open_job(prompt="secret", seed=picture.recipe.seed)  # to be painted once more
    job_store.submissions.forget(picture.key)
    assert [job_store.jobs.find(job.id) for job in (first, joined, remembered)] == [None] * 3
    assert [job.id for job in job_store.jobs.recent(9)] == [running.id, other.id]
    assert [finished.key for _, finished in job_store.jobs.finished_pictures("0-0")] == [
        job_store.jobs.find(other.id).picture.key
    ]
    assert not any(
        "secret" in str(job_store.connection.redis.hgetall(name))
        for name in job_store.connection.redis.keys(job_store.connection.prefix + "job:*")
    )
    assert job_store.claims.claim("stickers").painting == running.painting


def test_savings_are_never_negative(job_store, recipe):
    """The energy of a picture painted elsewhere is unknown and counts as 0, while looking it up has used some."""
    picture = replace(painted(recipe)[0], joules=0.0, seconds=2.0)
    job_store.submissions.record_remembered(recipe, Match(picture, 1.0, "same"), "why", seconds=0.5)
    assert (job_store.statistics.counts()["joules_saved"], job_store.statistics.counts()["seconds_saved"]) == (
        0.0,
        1.5,
    )


def test_the_newest_jobs_come_first(job_store, open_job):
    jobs = [open_job(prompt=f"fox {number}").id for number in range(3)]
    assert [job.id for job in job_store.jobs.recent(3)] == jobs[::-1]
    assert [job.id for job in job_store.jobs.recent(2)] == jobs[:0:-1]


def test_jobs_read_together_equal_jobs_read_one_by_one(job_store, open_job, recipe, monkeypatch):
    monkeypatch.setattr("jobs.store.snapshots.PAGE", 3)
    picture, _ = painted(recipe)
    remembered = job_store.submissions.record_remembered(recipe, Match(picture, 1.0, "same words"), "it was")
    first, second, third, lost = (open_job(prompt=f"fox {number}") for number in range(4))
    job_store.submissions.cancel(second.id)
    job_store.connection.redis.delete(f"{job_store.connection.prefix}painting:{lost.painting}")
    jobs = job_store.jobs.find_all([third.id, remembered.id, "unknown", second.id, lost.id, first.id])
    assert jobs == [job_store.jobs.find(job.id) for job in (third, remembered, second, first)]
    assert [(job.state, job.position) for job in jobs] == [
        (State.QUEUED, 1),
        (State.DONE, None),
        (State.CANCELLED, None),
        (State.QUEUED, 0),
    ]
    assert job_store.jobs.find_all([]) == []


def test_silent_workers_are_taken_off_the_list(job_store, monkeypatch):
    job_store.heartbeats.beat("here", {"pid": 1})
    assert job_store.heartbeats.workers()["here"]["pid"] == 1
    job_store.heartbeats.remove("here")
    assert job_store.heartbeats.workers() == {}
    job_store.heartbeats.beat("silent", {"pid": 2})
    monkeypatch.setattr("jobs.store.heartbeats.SILENCE_SECONDS", -1.0)
    assert job_store.heartbeats.workers() == {}


def test_entries_of_the_backlog_stay_until_they_are_removed(job_store):
    job_store.backlog.add_missing(["a" * 32, "b" * 32], stored=5)
    first, second = job_store.backlog.unindexed()
    assert (first.key, second.key, job_store.backlog.index_state()) == ("a" * 32, "b" * 32, (5, 2))
    job_store.backlog.remove_unindexed([first])
    assert job_store.backlog.unindexed() == [second] and job_store.backlog.index_state() == (5, 1)


def test_a_picture_that_waits_to_be_indexed_is_counted_once(job_store):
    for _ in range(2):
        job_store.backlog.add_missing(["a" * 32], stored=1)
    assert len(job_store.backlog.unindexed()) == 1 and job_store.backlog.index_state() == (1, 1)


def test_one_worker_at_a_time_indexes_the_backlog(job_store):
    assert job_store.backlog.take_turn("a") and job_store.backlog.take_turn("a")
    assert not job_store.backlog.take_turn("b")
    job_store.backlog.end_turn()
    assert job_store.backlog.take_turn("b")


def test_a_redis_that_is_down_raises_unavailable(unused_port, recipe):
    job_store: JobStore = open_job_store(f"redis://127.0.0.1:{unused_port}/0")
    for call in (
        job_store.connection.check,
        lambda: job_store.jobs.find("x"),
        lambda: job_store.claims.claim("x"),
        lambda: job_store.submissions.open_job(recipe, reason="", scope="", joinable=True),
    ):
        with pytest.raises(Unavailable, match="queue"):
            call()


def test_a_finished_job_expires_and_leaves_no_lock_behind(job_store, open_job):
    job = open_job()
    job_store.progress.fail(job_store.claims.claim(job.recipe.model), "x")
    remaining = {
        key.removeprefix(job_store.connection.prefix)
        for key in job_store.connection.redis.keys(job_store.connection.prefix + "*")
    }
    shared = f"jobs:scope:{hash_name('shared')}"
    remaining = {name for name in remaining if not name.startswith("counts:minute:")}
    assert remaining == {
        f"job:{job.id}",
        f"painting:{job.painting}",
        f"picture:{job.key}",
        "jobs",
        shared,
        "counts",
        "served",
    }
    for name in (f"job:{job.id}", f"painting:{job.painting}"):
        assert 0 < job_store.connection.redis.ttl(job_store.connection.prefix + name) <= KEPT_SECONDS
