"""The benches of a fleet of workers, at a small size: everything runs, and what they count is really counted."""

import pytest

from bench import chaos, scale
from bench.fleet import fleet, submit
from memo.memory import object_name
from tests.real import ROOT, painted, redis_server, wait_for

TEXT = ROOT / "var" / "text"


@pytest.fixture(autouse=True)
def with_redis(tmp_path):
    redis_server(tmp_path / "asked for")  # skips, or fails in CI, where there is none


@pytest.mark.timeout(180)
def test_every_number_of_workers_is_measured(tmp_path):
    told = scale.measure(tmp_path, TEXT, [1, 2], 3)
    assert told["efficiency_1"] == 1.0 and told["efficiency_2"] > 0
    assert told["overhead_ms"] > 0


@pytest.mark.timeout(300)
def test_nothing_is_lost_in_a_small_chaos(tmp_path, monkeypatch):
    monkeypatch.setattr(chaos, "DOWN_SECONDS", 2.0)
    told = chaos.measure(tmp_path, TEXT, 60, 3)
    wanted = {"jobs": 60, "lost": 0, "done": 60, "failed": 0, "done_without_bytes": 0, "painted_twice": 0}
    assert told | wanted == told
    assert (told["index_without_bytes"], told["orphans"]) == (0, 0) and told["kills"] >= 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("slots", "together"), [("3", 3), ("auto", 1)])  # on a CPU, which one fills
def test_a_worker_has_as_many_paintings_under_way_as_it_has_slots(tmp_path, slots, together):
    with fleet(tmp_path, TEXT, step_seconds=0.2) as running:
        running.environment |= {"WORKER_SLOTS": slots, "WORKER_DEVICE": "cpu"}
        queue = running.open_queue()
        jobs = [submit(queue, f"slot {number}", 4) for number in range(4)]
        running.start("worker-1")
        seen = set()

        def ended():
            states = [queue.job_store.jobs.find(job.id).state for job in jobs]
            seen.add(states.count("running"))
            return states == ["done"] * 4

        assert wait_for(ended, 60) and max(seen) == together
        assert [facts["slots"] for facts in queue.job_store.heartbeats.workers().values()] == [together]


def test_what_is_wrong_is_counted(job_store, memory, recipe):
    """One job done whose picture is gone, one picture that nobody asked for, one that is not indexed."""
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    claim = job_store.claims.claim(recipe.model)
    picture, png = painted(claim.recipe, seed=claim.recipe.seed)
    memory.keep(picture, png)
    memory.index_picture(picture)
    job_store.progress.complete(claim, picture)
    ended = [job_store.jobs.find(job.id)]
    right = chaos.verified(memory, ended)
    assert (right["done"], sum(right.values())) == (1, 1)
    memory.store.delete(object_name(picture.key))
    other, png = painted(claim.recipe, seed=7)
    memory.keep(other, png)
    told = chaos.verified(memory, ended)
    assert (told["done_without_bytes"], told["index_without_bytes"]) == (1, 1)
    assert (told["painted_twice"], told["unindexed"]) == (1, 1)
