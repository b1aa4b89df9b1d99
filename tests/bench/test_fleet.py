"""The benches `scale` and `chaos` at a small size, and the faults that `chaos` counts."""

import pytest

from bench import chaos, scale
from bench.fleet import start_fleet, submit
from memo.memory import object_name
from tests.real import ROOT, painted, redis_server, wait_for

TEXT = ROOT / "var" / "text"


@pytest.fixture(autouse=True)
def with_redis(tmp_path):
    redis_server(tmp_path / "redis")  # without Redis the tests are skipped, or fail in CI


@pytest.mark.timeout(180)
def test_every_number_of_workers_is_measured(tmp_path):
    results = scale.measure(tmp_path, TEXT, [1, 2], 3)
    assert results["efficiency_1"] == 1.0 and results["efficiency_2"] > 0
    assert results["overhead_ms"] > 0


@pytest.mark.timeout(300)
def test_a_small_chaos_run_loses_no_job(tmp_path, monkeypatch):
    monkeypatch.setattr(chaos, "OUTAGE_SECONDS", 2.0)
    monkeypatch.setattr(chaos, "REFUSAL_SECONDS", 4.0)
    monkeypatch.setattr(chaos, "POISON_JOBS", 1)
    results = chaos.measure(tmp_path, TEXT, 60, 3)
    expected = {"jobs": 60, "lost": 0, "done": 59, "innocent_failed": 0, "poison_failed": 1}
    assert results | expected | {"done_without_bytes": 0, "painted_twice": 0} == results
    assert (results["index_without_bytes"], results["orphans"]) == (0, 0) and results["kills"] >= 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("slots", "at_once"), [("3", 3), ("auto", 1)])  # one painting fills a CPU
def test_a_worker_has_as_many_paintings_under_way_as_it_has_slots(tmp_path, slots, at_once):
    with start_fleet(tmp_path, TEXT, step_seconds=0.2) as fleet:
        fleet.environment |= {"WORKER_SLOTS": slots, "WORKER_DEVICE": "cpu"}
        queue = fleet.open_queue()
        jobs = [submit(queue, f"slot {number}", 15) for number in range(4)]  # long enough to be seen together
        fleet.start("worker-1")
        running_counts = set()

        def all_are_done():
            connection = queue.job_store.connection
            running_counts.add(connection.redis.zcard(connection.prefix + "leases"))
            return all(queue.job_store.jobs.find(job.id).state == "done" for job in jobs)

        assert wait_for(all_are_done, 60) and max(running_counts) == at_once
        assert [facts["slots"] for facts in queue.job_store.heartbeats.workers().values()] == [at_once]


def test_faults_are_counted(job_store, memory, recipe):
    """A finished job without its picture, a picture without a job, and a picture that is not in the index."""
    job = job_store.submissions.open_job(recipe, reason="", scope="shared")
    claim = job_store.claims.claim(recipe.model)
    picture, png = painted(claim.recipe, seed=claim.recipe.seed)
    memory.keep(picture, png)
    memory.index_picture(picture)
    job_store.progress.complete(claim, picture)
    finished = [job_store.jobs.find(job.id)]
    faultless = chaos.count_faults(memory, finished)
    assert (faultless["done"], sum(faultless.values())) == (1, 1)
    memory.store.delete(object_name(picture.key))
    unindexed, png = painted(claim.recipe, seed=7)
    memory.keep(unindexed, png)
    results = chaos.count_faults(memory, finished)
    assert (results["done_without_bytes"], results["index_without_bytes"]) == (1, 1)
    assert (results["painted_twice"], results["unindexed"]) == (1, 1)
