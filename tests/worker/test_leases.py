"""What a worker does beside painting, so that nothing waits for ever."""

import io
import threading
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest
from PIL import Image

from jobs.job import State
from jobs.store.board import KEPT_SECONDS, LEASE_SECONDS
from memo import Unavailable
from memo.index import open_index
from tests.real import painted, wait_for
from worker.leases import SILENT_SECONDS, SWEEP_SECONDS, Tender


@pytest.fixture
def rung():
    return []


@pytest.fixture
def tender(studio, rung):
    return Tender(studio, rung.append, lambda: ["stickers"], slots=1, name="here", facts={"pid": 1})


def tend(tender):
    """One round of everything."""
    tender.keep_leases()
    tender.look_after()


def test_others_are_rung_for_a_dead_workers_painting(tender, board, recipe, rung, monkeypatch):
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", -1.0)
    job = board.open_job(recipe, reason="", scope="shared", joinable=True)
    board.claim(recipe.model)
    tend(tender)
    assert rung == ["stickers"] and board.job(job.id).state is State.QUEUED


def test_the_claims_of_a_living_worker_are_renewed(tender, studio, board, recipe, monkeypatch):
    job = board.open_job(recipe, reason="", scope="shared", joinable=True)
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", -1.0)
    studio.claims[job.painting] = board.claim(job.recipe.model)
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", 60.0)
    tend(tender)
    assert board.reclaim() == [] and board.job(job.id).state is State.RUNNING


def test_what_nobody_rang_for_is_noticed_by_whoever_is_free(tender, studio, board, recipe, rung, monkeypatch):
    monkeypatch.setattr("worker.leases.UNHEARD_SECONDS", 0.0)
    for number in range(3):
        board.open_job(replace(recipe, prompt=f"fox {number}"), reason="", scope="shared", joinable=True)
    studio.claims["busy"] = board.claim(recipe.model)
    tend(tender)
    assert rung == []
    studio.claims.clear()
    tend(tender)
    assert rung == ["stickers"] * tender.slots


def test_what_was_just_asked_for_is_left_to_its_own_ring(tender, board, recipe, rung):
    board.open_job(recipe, reason="", scope="shared", joinable=True)
    tend(tender)
    tend(tender)
    assert rung == []


def test_the_backlog_is_indexed_when_the_index_is_back(tender, studio, board, memory, recipe, unused_port, caplog):
    picture, png = painted(recipe)
    memory.keep(picture, png)
    board.postpone(picture.key)
    board.postpone("f" * 32)
    index, memory.index = memory.index, open_index(f"http://127.0.0.1:{unused_port}", "x", memory.embedder.width)
    with pytest.raises(Exception, match="index"):
        tend(tender)
    assert len(board.postponed()) == 2
    memory.index = index
    tend(tender)
    assert memory.index.get(picture.key) == picture and board.postponed() == []
    assert "f" * 32 in caplog.text


def test_a_picture_to_start_from_goes_if_nothing_began_from_it_for_long(tender, board, memory, recipe, monkeypatch):
    names = [memory.keep_start(png_of(colour), "mine") for colour in ("red", "green", "blue")]
    for name in names:
        board.wanted(name, "mine")
    used, png = painted(replace(recipe, start=names[1], strength=0.5), scope="mine")
    memory.keep(used, png)
    memory.index_picture(used)
    tend(tender)
    assert all(memory.has_start(name, "mine") for name in names)
    later = time.time() + KEPT_SECONDS + 1
    monkeypatch.setattr("jobs.store.board.now", lambda: later)
    board.wanted(names[2], "mine")  # sent again
    tend(tender)
    assert [memory.has_start(name, "mine") for name in names] == [False, True, True]
    assert board.old_starts() == []
    memory.forget(used.key, "mine")
    assert not memory.has_start(names[1], "mine")


def png_of(colour):
    written = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(written, "PNG")
    return written.getvalue()


def test_what_is_cancelled_while_it_waits_keeps_no_picture_for_its_sake(tender, board, memory, recipe, monkeypatch):
    start = memory.keep_start(png_of("red"), "mine")
    board.wanted(start, "mine")
    wanted = replace(recipe, start=start, strength=0.5)
    waits, gone = (board.open_job(replace(wanted, seed=seed), reason="", scope="mine") for seed in (1, 2))
    for job in (waits, gone):
        memory.begun(job.painting, job.recipe, job.scope)
    board.cancel(gone.id)
    tender.look_after()
    assert memory.under_way() == [waits.painting]
    board.cancel(waits.id)
    later = time.time() + KEPT_SECONDS + 1
    monkeypatch.setattr("jobs.store.board.now", lambda: later)
    tender.swept -= SWEEP_SECONDS
    tender.look_after()
    assert memory.under_way() == [] and not memory.has_start(start, "mine")


def test_it_beats_from_the_start_and_leaves_at_the_end(tender, studio, board, rung):
    tender.start()
    wait_for(lambda: "here" in board.workers())
    assert board.workers()["here"]["models"] == ["stickers"]
    studio.closing.set()
    studio.answer("stickers")
    tender.stop()
    assert board.workers() == {} and rung == ["stickers"]


@pytest.mark.parametrize("fault", [Unavailable("the queue does not answer"), FileNotFoundError("a model was moved")])
@pytest.mark.parametrize("task", ["renew", "serving"])
def test_nothing_that_goes_wrong_ends_it(studio, board, rung, monkeypatch, caplog, task, fault):
    monkeypatch.setattr("worker.leases.PERIOD", 0.01)
    rounds = []

    def fail():
        rounds.append(1)
        raise fault

    monkeypatch.setattr(Tender, "renew", lambda self: fail() if task == "renew" else None)
    serving = fail if task == "serving" else lambda: ["stickers"]
    tender = Tender(studio, rung.append, serving, slots=1, name="here", facts={})
    tender.start()
    wait_for(lambda: len(rounds) > 4)
    tender.stop()
    assert str(fault) in caplog.text


def test_leases_are_renewed_while_a_new_model_is_read(studio, board, recipe, rung, monkeypatch):
    monkeypatch.setattr("worker.leases.PERIOD", 0.01)
    reading, read = threading.Event(), threading.Event()

    def serving():
        if tender.models is not None:
            reading.set()
            assert read.wait(20)
        return ["stickers"]

    tender = Tender(studio, rung.append, serving, slots=1, name="here", facts={})
    board.open_job(recipe, reason="", scope="shared")
    claim = board.claim(recipe.model)
    studio.claims[claim.painting] = claim
    tender.start()
    assert reading.wait(20)
    leases = board.prefix + "leases"
    before = board.redis.zscore(leases, claim.painting)
    assert wait_for(lambda: board.redis.zscore(leases, claim.painting) > before)
    read.set()
    tender.stop()


def test_after_an_outage_others_may_renew_their_leases_first(tender, board, recipe, rung, monkeypatch):
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", -1.0)
    job = board.open_job(recipe, reason="", scope="shared")
    board.claim(recipe.model)
    with monkeypatch.context() as patched:
        patched.setattr(board, "reclaim", Mock(side_effect=Unavailable("Redis is loading")))
        with pytest.raises(Unavailable):
            tender.keep_leases()
    tender.keep_leases()
    assert rung == [] and board.job(job.id).state is State.RUNNING
    tender.patient_until -= LEASE_SECONDS
    tender.keep_leases()
    assert rung == ["stickers"] and board.job(job.id).state is State.QUEUED


def test_what_hangs_here_is_left_to_others(tender, studio, board, recipe, rung, monkeypatch, caplog):
    job = board.open_job(recipe, reason="", scope="shared")
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", -1.0)
    claim = studio.claims[job.painting] = board.claim(recipe.model)
    studio.heard[claim.painting] = time.monotonic() - SILENT_SECONDS - 1
    monkeypatch.setattr("jobs.store.board.LEASE_SECONDS", 60.0)
    for _ in range(2):
        tender.keep_leases()
    assert rung == ["stickers"] and board.job(job.id).state is State.QUEUED
    assert caplog.text.count("hangs here") == 1
