"""A request whose painting failed is never answered as if it had succeeded when it is sent again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs import events
from jobs.job import State
from jobs.queue import Queue
from memo import BadSetup
from tests.real import QuickPainter, finished, wait_for
from web.openai.retries import RETRY_COUNT_HEADER
from worker.paint import PaintingRunner

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 2}
OWL = {**FOX, "prompt": "an owl at night"}
Send = Callable[..., TestResponse]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscriptions to Redis end at once."""
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)


@pytest.fixture
def failing(working: PaintingRunner, painter: QuickPainter) -> QuickPainter:
    """A worker whose painter has no canvas."""
    painter.fault = BadSetup("no canvas")
    return painter


def task(client: FlaskClient, name: str, **body: object) -> TestResponse:
    return client.post("/sdapi/v1/txt2img", json={**FOX, "force_task_id": name, **body})


def openai(client: FlaskClient, attempt: int = 0) -> TestResponse:
    body = {"prompt": FOX["prompt"], "size": "64x64", "num_inference_steps": 2}
    return client.post("/v1/images/generations", json=body, headers={RETRY_COUNT_HEADER: str(attempt)})


def test_an_idempotency_key_returns_the_failed_job_as_failed(
    client: FlaskClient, queue: Queue, failing: QuickPainter
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/api/v1/jobs", json=FOX, headers=headers).json
    finished(queue, first["id"])
    failing.fault = None
    again = client.post("/api/v1/jobs", json=FOX, headers=headers)
    assert again.json["id"] == first["id"] and again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.json["state"], again.json["picture"]) == (202, "failed", None)
    assert "no canvas" in again.json["error"]


def test_a_key_whose_request_was_refused_halfway_carries_out_the_next_one(
    client: FlaskClient, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, calls = queue.submit, iter([None, BadSetup("no queue"), None, None])

    def refuse_second(*args: object, **options: object) -> object:
        if fault := next(calls):
            raise fault
        return submit(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "submit", refuse_second)
    headers, body = {"Idempotency-Key": "two"}, {**FOX, "count": 2}
    assert client.post("/api/v1/jobs", json=body, headers=headers).status_code == 500
    again = client.post("/api/v1/jobs", json=body, headers=headers)
    assert again.status_code == 202 and "Idempotency-Replayed" not in again.headers
    assert {job["state"] for job in again.json["jobs"]} == {"queued"}


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_repeated_openai_request_reports_the_failure_or_paints_anew(
    client: FlaskClient, failing: QuickPainter, attempt: int
) -> None:
    assert openai(client).status_code == 500
    again = openai(client, attempt)
    assert (again.status_code, again.json["error"]["code"]) == (500, "painting_failed")
    assert again.headers["X-Should-Retry"] == "false"
    failing.fault = None
    assert len(openai(client).json["data"]) == 1


@pytest.mark.parametrize("attempt", ["\N{SUPERSCRIPT TWO}", "9" * 5000, "-1", "one", ""])
def test_an_odd_number_of_the_attempt_is_no_error(client: FlaskClient, working: PaintingRunner, attempt: str) -> None:
    body = {"prompt": FOX["prompt"], "size": "64x64", "num_inference_steps": 2}
    for _ in range(2):
        headers = {RETRY_COUNT_HEADER: attempt.encode("latin-1", "replace").decode("latin-1")}
        assert client.post("/v1/images/generations", json=body, headers=headers).status_code == 200


def test_a_failed_task_is_painted_when_it_is_sent_again(client: FlaskClient, failing: QuickPainter) -> None:
    refused = task(client, "fox")
    assert refused.status_code == 500 and "no canvas" in refused.json["detail"]
    failing.fault = None
    assert len(task(client, "fox").json["images"]) == 1 and failing.painted == [FOX["prompt"]]


def test_an_interrupted_task_is_painted_when_it_is_sent_again(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    painter.go_on.clear()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(task, client.application.test_client(), "fox")
        wait_for(lambda: [job for job in queue.job_store.jobs.recent(9) if job.state is State.RUNNING])
        client.post("/sdapi/v1/interrupt", json={})
        assert waiting.result().json["images"] == []
    painter.go_on.set()
    assert len(task(client, "fox").json["images"]) == 1


def test_a_task_whose_picture_was_deleted_is_painted_when_it_is_sent_again(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    first = task(client, "fox").json["images"]
    [job] = queue.job_store.jobs.recent(9)
    assert job.picture and client.delete(f"/api/v1/pictures/{job.picture.key}").status_code == 204
    second = task(client, "fox").json["images"]
    assert len(second) == 1 and second != first


def test_a_task_of_the_same_name_for_something_else_gets_its_own_picture(
    client: FlaskClient, working: PaintingRunner, painter: QuickPainter
) -> None:
    first, other, again = (task(client, "any", **body).json["images"] for body in (FOX, OWL, FOX))
    assert first == again != other and painter.painted == [FOX["prompt"], OWL["prompt"]]


def test_a_failed_painting_is_neither_remembered_nor_joined(
    client: FlaskClient, queue: Queue, failing: QuickPainter
) -> None:
    first = client.post("/api/v1/jobs", json=FOX).json["id"]
    assert finished(queue, first).state is State.FAILED
    failing.fault = None
    for prompt in (FOX["prompt"], "please draw the red fox in snow"):
        answer = client.post("/api/v1/jobs", json={**FOX, "prompt": prompt, "memo": "auto"})
        job = finished(queue, answer.json["id"])
        assert job.state is State.DONE and job.picture
        client.delete(f"/api/v1/pictures/{job.picture.key}")


def test_a_cancelled_painting_is_not_joined(client: FlaskClient, queue: Queue) -> None:
    first = client.post("/api/v1/jobs", json=FOX).json["id"]
    assert client.delete(f"/api/v1/jobs/{first}").json["state"] == "cancelled"
    for prompt in (FOX["prompt"], "please draw the red fox in snow"):
        assert client.post("/api/v1/jobs", json={**FOX, "prompt": prompt}).json["origin"] != "memory"
    newest = queue.job_store.jobs.recent(1)[0]
    assert newest.state is State.QUEUED
