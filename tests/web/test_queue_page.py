"""The page of queue and workers, and the history behind its charts."""

from flask.testing import FlaskClient

from jobs.queue import Queue
from jobs.store.job_store import JobStore
from tests.real import finished, wait_for
from worker.paint import PaintingRunner

BODY = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 2}
FACTS = {"device": "cpu float32", "slots": 4, "busy": 2, "models": ["stickers"], "ended": {"done": 7}}


def test_the_queue_page_shows_the_workers(client: FlaskClient, job_store: JobStore) -> None:
    assert "No worker is running." in client.get("/queue").text
    job_store.heartbeats.beat("here:1", {**FACTS, "painters": {"stickers": {"batch_size": 2, "step_ms": 12.3}}})
    page = client.get("/queue").text
    assert "here:1" in page and "painting 2, up to 4 at once" in page and "7 painted" in page
    assert "batch of 2, 12 ms per step" in page


def test_the_queue_page_shows_how_many_jobs_wait(client: FlaskClient) -> None:
    client.post("/api/v1/jobs", json=BODY)
    for path in ("/queue", "/queue/state"):
        assert '<td data-waiting="stickers">1</td>' in client.get(path).text
        assert '<td data-waiting="slow">none</td>' in client.get(path).text


def test_history_counts_the_last_hour(client: FlaskClient, queue: Queue, working: PaintingRunner) -> None:
    finished(queue, client.post("/api/v1/jobs", json=BODY).json["id"])
    wait_for(lambda: queue.job_store.statistics.counts()["pictures"])
    client.post("/api/v1/jobs", json=BODY)
    history = client.get("/api/v1/stats/history").json
    assert len(history["times"]) == 60
    assert sum(history["painted"]) == sum(history["memory"]) == sum(history["pictures_per_minute"]) == 1
    assert [rate for rate in history["hit_rate"] if rate is not None][-1] > 0
    spent, saved = (sum(history[f"watt_hours_{kind}"]) for kind in ("spent", "saved"))
    assert saved <= spent  # the lookup costs something, even where painting costs nothing


def test_history_averages_the_batch_sizes_of_painters_that_are_busy(client: FlaskClient, job_store: JobStore) -> None:
    for size in (0, 2, 6):
        job_store.heartbeats.beat("here:1", {**FACTS, "painters": {"stickers": {"batch_size": size}}})
    sizes = client.get("/api/v1/stats/history?span=24h").json["batch_size"]
    assert sizes[-1] == 4 and set(sizes[:-1]) == {None}


def test_an_unknown_span_is_refused(client: FlaskClient) -> None:
    answer = client.get("/api/v1/stats/history?span=year")
    assert answer.status_code == 422 and answer.json["field"] == "span"
