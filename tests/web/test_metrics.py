"""The metrics that Prometheus scrapes."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from memo import Match
from tests.real import painted


@pytest.fixture
def scrape(client):
    """Samples by name and labels."""

    def read():
        answer = client.get("/metrics")
        assert answer.status_code == 200 and answer.content_type.startswith("text/plain")
        families = text_string_to_metric_families(answer.text)
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    return read


def test_waiting_paintings_and_answered_jobs_are_counted(scrape, job_store, recipe):
    before = scrape()
    assert before["memoaized_queue_depth", "stickers"] == 0 and before["memoaized_workers",] == 0
    for prompt in ("one", "two"):
        job_store.submissions.open_job(replace(recipe, prompt=prompt), reason="", scope="shared")
    now = scrape()
    assert now["memoaized_queue_depth", "stickers"] == 2 and now["memoaized_queue_age_seconds", "stickers"] > 0
    assert now["memoaized_jobs_total", "painted"] == 2 and now["memoaized_jobs_total", "memory"] == 0
    claim = job_store.claims.claim(recipe.model)
    picture, _ = painted(claim.recipe, seed=claim.recipe.seed)
    job_store.progress.complete(claim, replace(picture, seconds=4.0, joules=90.0))
    match = Match(replace(picture, seconds=99.0, joules=999.0), 1.0, "same words")
    job_store.submissions.record_remembered(recipe, match, "why", seconds=0.5)
    after = scrape()
    assert after["memoaized_queue_depth", "stickers"] == 1
    assert (after["memoaized_painting_seconds_total",], after["memoaized_painting_energy_joules_total",]) == (
        4.0,
        90.0,
    )
    assert (after["memoaized_saved_painting_seconds_total",], after["memoaized_saved_energy_joules_total",]) == (
        3.5,
        85.0,
    )


def test_each_worker_has_its_own_samples(scrape, job_store):
    report = {"slots": 8, "busy": 3, "joules": 12.5, "ended": {"done": 5, "failed": 1}}
    job_store.heartbeats.beat(
        "here", {**report, "painters": {"stickers": {"batch_size": 3, "step_ms": 41.5, "gpu_mb": 512}}}
    )
    now = scrape()
    assert (now["memoaized_worker_slots", "here"], now["memoaized_worker_busy_slots", "here"]) == (8, 3)
    assert now["memoaized_worker_paintings_total", "failed", "here"] == 1
    assert now["memoaized_worker_energy_joules_total", "here"] == 12.5
    assert now["memoaized_painter_batch_size", "stickers", "here"] == 3
    assert now["memoaized_painter_step_seconds", "stickers", "here"] == pytest.approx(0.0415)
    assert now["memoaized_painter_gpu_memory_bytes", "stickers", "here"] == 512e6
