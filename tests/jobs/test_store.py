"""Jobs and paintings change in atomic steps, and only the holder of a claim may finish one."""

import base64
import threading
from dataclasses import replace

import pytest

from jobs.job import Origin, Remembered, State
from jobs.store import board as board_module
from jobs.store.board import AGE, KEPT_SECONDS, Board, digest, open_board
from memo import Unavailable
from tests.real import painted


@pytest.fixture
def ask(board, recipe):
    def open_job(**changes):
        options = {"reason": "why", "scope": "shared", "joinable": True, "user": "", "priority": 0}
        options |= {name: changes.pop(name) for name in list(changes) if name in options}
        return board.open_job(replace(recipe, **changes), **options)

    return open_job


def test_a_new_job_waits_with_a_seed_of_its_own(board, ask, recipe):
    job = ask()
    assert (job.state, job.origin, job.position, job.step, job.reason) == (State.QUEUED, Origin.PAINTED, 0, 0, "why")
    assert job.recipe.seed is not None and job.recipe.wish == recipe
    assert board.job(job.id) == job
    assert board.job("never heard of") is None


def test_a_seed_that_was_given_is_kept(ask):
    assert ask(seed=0).recipe.seed == 0


def test_positions_count_from_the_oldest(board, ask):
    jobs = [ask(prompt=f"fox {number}") for number in range(3)]
    assert [board.job(job.id).position for job in jobs] == [0, 1, 2]


def test_a_claim_makes_it_running_and_a_second_claim_gets_nothing(board, ask):
    job = ask()
    claim = board.claim(job.recipe.model)
    assert claim and claim.recipe == job.recipe and claim.attempt == 1
    assert board.claim(job.recipe.model) is None
    assert board.job(job.id).state is State.RUNNING and board.job(job.id).started


def test_a_painting_under_way_can_be_joined_by_its_name(board, ask):
    first = ask()
    second = board.join(first.painting, "it means the same")
    assert (second.origin, second.painting, second.reason) == (Origin.JOINED, first.painting, "it means the same")
    assert board.cancel(first.id) and board.job(second.id).state is State.QUEUED
    assert board.claim(first.recipe.model)
    assert board.join(first.painting, "running") is not None


def test_what_is_not_under_way_cannot_be_joined(board, ask):
    done, cancelled, left = ask(prompt="one"), ask(prompt="two"), ask(prompt="three")
    board.failed(board.claim(done.recipe.model), "broken")
    board.cancel(cancelled.id)
    board.claim(left.recipe.model)
    board.cancel(left.id)
    for painting in (done.painting, cancelled.painting, left.painting, "0" * 32):
        assert board.join(painting, "why") is None


def test_of_many_claimants_at_once_exactly_one_gets_it(board, ask, redis_url):
    job, got = ask(), []
    boards = [open_board(redis_url) for _ in range(8)]
    threads = [threading.Thread(target=lambda b=b: got.append(b.claim(job.recipe.model))) for b in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in boards:
        other.redis.close()
    assert len([claim for claim in got if claim]) == 1


def test_progress_is_seen_and_done_carries_the_picture(board, ask):
    job = ask()
    claim = board.claim(job.recipe.model)
    assert board.progress(claim, 7) == "go on"
    assert board.job(job.id).step == 7
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    assert board.done(claim, picture)
    done = board.job(job.id)
    assert (done.state, done.picture, done.step) == (State.DONE, picture, done.recipe.steps)
    assert done.finished and done.finished >= done.started >= done.created


def test_a_failure_says_why(board, ask):
    job = ask()
    assert board.failed(board.claim(job.recipe.model), "out of ochre")
    assert (board.job(job.id).state, board.job(job.id).error) == (State.FAILED, "out of ochre")


def test_the_same_wish_joins_the_painting_under_way(board, ask):
    first, second = ask(), ask()
    assert second.origin is Origin.JOINED and second.painting == first.painting and second.id != first.id
    assert second.recipe.seed == first.recipe.seed
    claim = board.claim(first.recipe.model)
    third = ask()
    assert third.painting == first.painting and third.state is State.RUNNING
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    board.done(claim, picture)
    assert [board.job(job.id).picture for job in (first, second, third)] == [picture] * 3
    assert ask().painting != first.painting


@pytest.mark.parametrize(
    "change", [{"prompt": "a blue fox"}, {"seed": 3}, {"scope": "alice"}, {"joinable": False}, {"steps": 3}]
)
def test_another_wish_or_scope_does_not_join(ask, change):
    assert ask().painting != ask(**change).painting


def test_cancelling_a_waiting_job_ends_it_at_once(board, ask):
    job = ask()
    assert board.cancel(job.id) and not board.cancel(job.id)
    assert board.job(job.id).state is State.CANCELLED
    assert board.claim(job.recipe.model) is None
    assert ask().painting != job.painting


def test_cancelling_a_running_job_tells_the_worker_at_the_next_step(board, ask):
    job = ask()
    claim = board.claim(job.recipe.model)
    board.cancel(job.id)
    assert board.progress(claim, 1) == "cancel"
    assert board.stopped(claim)
    assert board.job(job.id).state is State.CANCELLED


def test_a_painting_goes_on_while_somebody_waits_for_it(board, ask):
    first, second = ask(), ask()
    claim = board.claim(first.recipe.model)
    board.cancel(first.id)
    assert board.job(first.id).state is State.CANCELLED and board.job(second.id).state is State.RUNNING
    assert board.progress(claim, 1) == "go on"
    board.cancel(second.id)
    assert board.progress(claim, 2) == "cancel"


def test_nobody_joins_a_painting_that_is_being_cancelled(board, ask):
    job = ask()
    board.claim(job.recipe.model)
    board.cancel(job.id)
    assert ask().painting != job.painting


def test_a_final_job_cannot_be_cancelled(board, ask):
    job = ask()
    board.failed(board.claim(job.recipe.model), "x")
    assert not board.cancel(job.id) and board.job(job.id).state is State.FAILED
    assert not board.cancel("never heard of")


def test_a_lease_that_runs_out_gives_the_painting_back(board, ask, monkeypatch):
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", -1.0)
    job = ask()
    lost = board.claim(job.recipe.model)
    assert board.reclaim() == [job.recipe.model]
    assert board.job(job.id).state is State.QUEUED and board.job(job.id).position == 0
    assert board.progress(lost, 3) == "lost"
    again = board.claim(job.recipe.model)
    assert again.attempt == 2
    picture, _ = painted(lost.recipe, seed=lost.recipe.seed)
    assert not board.done(lost, picture) and not board.failed(lost, "late") and not board.renew(lost)
    assert board.job(job.id).state is State.RUNNING
    assert board.done(again, picture)


def test_a_renewed_lease_keeps_the_painting(board, ask):
    job = ask()
    claim = board.claim(job.recipe.model)
    assert board.renew(claim) and board.reclaim() == []


def test_what_is_still_under_way_is_told_of_many(board, ask):
    waits, runs, ended = (ask(prompt=prompt).painting for prompt in ("b", "c", "a"))
    board.cancel(ask(prompt="d").id)
    for _ in range(2):
        board.claim("stickers")
    assert board.under_way([waits, runs, ended, "unknown"]) == {waits, runs, ended}


def test_a_painting_handed_back_keeps_its_place_and_its_tries(board, ask):
    first, second = ask(prompt="first"), ask(prompt="second")
    claim = board.claim(first.recipe.model)
    assert board.release(claim) and not board.release(claim)
    assert [board.job(job.id).position for job in (first, second)] == [0, 1]
    assert board.claim(first.recipe.model).attempt == 1


def claimed(board, many, model="stickers"):
    """The prompts of so many claims."""
    return [board.claim(model).recipe.prompt for _ in range(many)]


def test_whoever_asks_for_much_delays_nobody_elses_first(board, ask):
    for number in range(50):
        ask(prompt=f"much {number}", user="ada")
    assert claimed(board, 2) == ["much 0", "much 1"]
    for user in ("bob", "cem"):
        for number in range(2):
            ask(prompt=f"{user} {number}", user=user)
    assert claimed(board, 5) == ["bob 0", "cem 0", "bob 1", "cem 1", "much 2"]


def test_owners_take_turns_when_one_paints_after_the_other(board, ask):
    for number in range(3):
        ask(prompt=f"ada {number}", user="ada")
    for number in range(3):
        ask(prompt=f"bob {number}", user="bob")
    order = []
    while claim := board.claim("stickers"):
        order.append(claim.recipe.prompt)
        board.failed(claim, "x")
    assert order == ["ada 0", "bob 0", "ada 1", "bob 1", "ada 2", "bob 2"]


def test_the_more_urgent_of_ones_own_comes_first_until_others_waited_long(board, ask, monkeypatch):
    ask(prompt="usual")
    ask(prompt="urgent", priority=1)
    ask(prompt="for the night", priority=-1)
    assert claimed(board, 3) == ["urgent", "usual", "for the night"]
    ask(prompt="waited long", priority=-1)
    moment = board_module.now()
    monkeypatch.setattr(board_module, "now", lambda: moment + 2.5 * AGE)
    ask(prompt="new", priority=1)
    assert claimed(board, 2) == ["waited long", "new"]


def test_nobody_gets_ahead_of_others_by_being_urgent(board, ask):
    for number in range(3):
        ask(prompt=f"ada {number}", user="ada", priority=10)
    ask(prompt="bob", user="bob")
    assert set(claimed(board, 2)) == {"ada 0", "bob"}


def test_an_urgent_job_hurries_the_painting_that_it_joins(board, ask):
    first, second = ask(prompt="first"), ask(prompt="second")
    assert ask(prompt="second", priority=2).painting == second.painting
    assert [board.job(job.id).position for job in (first, second)] == [1, 0]
    assert claimed(board, 2) == ["second", "first"]


@pytest.mark.parametrize("by", ["wish", "name"])
def test_who_joins_does_not_wait_for_all_that_the_other_asked_for(board, ask, by):
    """Bob wants what is Ada's last: it comes in his turn, is painted once, and leaves her line."""
    for number in range(20):
        last = ask(prompt=f"ada {number}", user="ada")
    joined = ask(prompt="ada 19", user="bob") if by == "wish" else board.join(last.painting, "alike", "bob")
    assert joined.painting == last.painting and board.waiting("stickers") == 20
    assert claimed(board, 3) == ["ada 0", "ada 19", "ada 1"]  # the last of them since Ada has but one under way
    assert board.waiting("stickers") == 17 and len(claimed(board, 17)) == 17 and board.claim("stickers") is None


def test_what_is_joined_counts_as_theirs_in_whose_turn_it_was_claimed(board, ask):
    for number in range(3):
        ask(prompt=f"ada {number}", user="ada")
    ask(prompt="ada 2", user="bob")
    ask(prompt="bob 1", user="bob")
    assert claimed(board, 4) == ["ada 0", "ada 2", "ada 1", "bob 1"]


def test_what_is_joined_while_it_runs_comes_back_in_both_lines(board, ask, monkeypatch):
    monkeypatch.setattr(board_module, "LEASE_SECONDS", -1.0)
    first = ask(prompt="first", user="ada")
    board.claim("stickers")
    board.join(first.painting, "alike", "bob")
    monkeypatch.setattr(board_module, "LEASE_SECONDS", 60.0)
    for number in range(3):
        ask(prompt=f"ada {number}", user="ada", priority=9)
    board.claim("stickers")
    assert board.reclaim() == ["stickers"] and claimed(board, 1) == ["first"]


def test_a_claim_tells_whose_turn_it_was(board, ask):
    ask(prompt="a", user="ada", priority=2)
    claim = board.claim("stickers")
    assert claim.owner == digest("ada") and abs(claim.place - (board_module.now() - 2 * AGE)) < 10


def test_a_model_has_a_queue_of_its_own(board, ask):
    ask(prompt="one")
    ask(prompt="two", model="other")
    assert (board.waiting("stickers"), board.waiting("other"), board.waiting("none")) == (1, 1, 0)
    assert claimed(board, 1, "other") == ["two"] and board.claim("other") is None
    assert (board.waiting("stickers"), board.waiting("other")) == (1, 0)


def test_a_preview_is_there_while_it_is_painted(board, ask):
    job = ask()
    claim = board.claim(job.recipe.model)
    assert board.progress(claim, 1, 2.5) == "go on"
    assert (board.job(job.id).seconds_left, board.job(job.id).previewed, board.preview(job.id)) == (2.5, None, None)
    board.progress(claim, 2, 2.0, base64.b64encode(b"seen").decode())
    board.progress(claim, 3, 1.5)
    now = board.job(job.id)
    assert (now.step, now.seconds_left, now.previewed, board.preview(job.id)) == (3, 1.5, 2, b"seen")
    board.release(claim)
    assert (board.job(job.id).previewed, board.preview(job.id)) == (None, None)
    claim = board.claim(job.recipe.model)
    board.progress(claim, 1, 2.5, base64.b64encode(b"again").decode())
    board.failed(claim, "x")
    assert board.job(job.id).seconds_left is None and board.preview(job.id) is None
    assert board.preview("never heard of") is None


def test_memorys_answer_is_a_finished_job(board, recipe):
    picture, _ = painted(recipe)
    match = Remembered(prompt="a red fox", score=0.98, how="same meaning")
    job = board.remembered(recipe, picture, match, "it says the same")
    assert (job.state, job.origin, job.picture, job.match) == (State.DONE, Origin.MEMORY, picture, match)
    assert job.reason == "it says the same" and board.recent(5) == [job]
    assert not board.cancel(job.id)


def test_a_picture_is_forgotten_with_all_that_was_known_of_its_jobs(board, ask, recipe):
    made, joined = ask(prompt="secret"), ask(prompt="secret")
    other = ask(prompt="other")
    for _ in range(2):
        claim = board.claim("stickers")
        board.done(claim, painted(claim.recipe, seed=claim.recipe.seed)[0])
    picture = board.job(made.id).picture
    again = board.remembered(recipe, picture, Remembered(prompt="secret", score=1.0, how="same"), "why")
    running = ask(prompt="secret", seed=picture.recipe.seed)  # to be painted anew
    board.forget(picture.key)
    assert [board.job(job.id) for job in (made, joined, again)] == [None] * 3
    assert [job.id for job in board.recent(9)] == [running.id, other.id]
    assert [found.key for _, found in board.finished("0-0")] == [board.job(other.id).picture.key]
    assert not any("secret" in str(board.redis.hgetall(name)) for name in board.redis.keys(board.prefix + "job:*"))
    assert board.claim("stickers").painting == running.painting


def test_what_was_saved_never_shrinks(board, recipe):
    """A picture that was painted elsewhere has no known joules: to look it up has cost some nevertheless."""
    picture = replace(painted(recipe)[0], joules=0.0, seconds=2.0)
    board.remembered(recipe, picture, Remembered(prompt="a", score=1.0, how="same"), "why", took=0.5)
    assert (board.counts()["joules_saved"], board.counts()["seconds_saved"]) == (0.0, 1.5)


def test_the_newest_jobs_come_first(board, ask):
    jobs = [ask(prompt=f"fox {number}").id for number in range(3)]
    assert sorted(job.id for job in board.recent(3)) == sorted(jobs)
    assert len(board.recent(2)) == 2


def test_many_jobs_are_read_at_once_as_they_are_each(board, ask, recipe, monkeypatch):
    monkeypatch.setattr("jobs.store.board.PAGE", 3)
    picture, _ = painted(recipe)
    remembered = board.remembered(recipe, picture, Remembered(prompt="a fox", score=1.0, how="same words"), "it was")
    first, second, third, lost = (ask(prompt=f"fox {number}") for number in range(4))
    board.cancel(second.id)
    board.redis.delete(f"{board.prefix}painting:{lost.painting}")
    found = board.jobs([third.id, remembered.id, "never given", second.id, lost.id, first.id])
    assert found == [board.job(job.id) for job in (third, remembered, second, first)]
    assert [(job.state, job.position) for job in found] == [
        (State.QUEUED, 1),
        (State.DONE, None),
        (State.CANCELLED, None),
        (State.QUEUED, 0),
    ]
    assert board.jobs([]) == []


def test_silent_workers_are_struck_off(board, monkeypatch):
    board.beat("here", {"pid": 1})
    assert board.workers()["here"]["pid"] == 1
    board.leave("here")
    assert board.workers() == {}
    board.beat("silent", {"pid": 2})
    monkeypatch.setattr("jobs.store.board.WORKER_SILENCE", -1.0)
    assert board.workers() == {}


def test_the_backlog_is_kept_until_settled(board):
    board.postpone("a" * 32)
    board.postpone("b" * 32)
    [(entry, key), (_, other)] = board.postponed()
    assert (key, other) == ("a" * 32, "b" * 32)
    board.settled(entry)
    assert [key for _, key in board.postponed()] == ["b" * 32]


def test_a_redis_that_is_down_is_said(unused_port, recipe):
    board: Board = open_board(f"redis://127.0.0.1:{unused_port}/0")
    for call in (
        board.ping,
        lambda: board.job("x"),
        lambda: board.claim("x"),
        lambda: board.open_job(recipe, reason="", scope="", joinable=True),
    ):
        with pytest.raises(Unavailable, match="queue"):
            call()


def test_a_finished_job_expires_and_leaves_no_lock_behind(board, ask):
    job = ask()
    board.failed(board.claim(job.recipe.model), "x")
    left = {key.removeprefix(board.prefix) for key in board.redis.keys(board.prefix + "*")}
    shared = f"scope:{digest('shared')}"
    left = {name for name in left if not name.startswith("minute:")}
    assert left == {f"job:{job.id}", f"painting:{job.painting}", f"of:{job.key}", "jobs", shared, "counts", "served"}
    for name in (f"job:{job.id}", f"painting:{job.painting}"):
        assert 0 < board.redis.ttl(board.prefix + name) <= KEPT_SECONDS
