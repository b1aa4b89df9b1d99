"""Under the policy `near`, a miss is painted from a remembered picture of a similar prompt."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from jobs.job import Job
from jobs.queue import Queue
from jobs.store.statistics import Statistics
from memo import Forgotten, Memory, Picture
from memo.memory import NO_SHARES, NO_STRENGTHS
from tests.real import QuickPainter, SharingJudge, finished, wait_for
from tests.web.conftest import ClientFor, Serve
from web import near_starts, uploads
from web.access import savings
from worker.paint import PaintingRunner

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}  # the toy model takes 8 steps
BLUE = {**FOX, "prompt": "a blue fox in the snow", "memo": "near"}
Ask = Callable[..., Job]


@pytest.fixture(autouse=True)
def judge(memory: Memory) -> SharingJudge:
    memory.judge = judge = SharingJudge()
    return judge


@pytest.fixture
def ask(client: FlaskClient, queue: Queue, memory: Memory, working: PaintingRunner) -> Ask:
    """Send a request; returns its finished job once the picture is indexed."""

    def send(client: FlaskClient = client, **body: object) -> Job:
        answer = client.post("/api/v1/jobs", json=body)
        assert answer.status_code in (200, 202), answer.json
        job = finished(queue, answer.json["id"])
        wait_for(lambda: job.picture and memory.index.get(job.picture.key))
        return job

    return send


@pytest.fixture
def source(ask: Ask) -> Picture:
    """A remembered picture, painted from noise."""
    return picture_of(ask(**FOX))


def picture_of(job: Job) -> Picture:
    assert job.picture
    return job.picture


def test_a_similar_picture_is_started_from(
    client: FlaskClient, ask: Ask, source: Picture, memory: Memory, painter: QuickPainter
) -> None:
    job = ask(**BLUE)
    assert job.origin == "near" and "the prompts share 2.5 of 3, and skips 3 of 8 steps" in job.reason
    start = painter.init_images[-1]
    original = Image.open(io.BytesIO(memory.image(source.key)))
    assert start and start.tobytes() == original.convert("RGB").tobytes()
    recipe = picture_of(job).recipe
    assert recipe.strength == 0.625 and memory.has_init_image(recipe.init_image)
    assert memory.picture(picture_of(job).key) == job.picture  # the file holds the near start, too


def test_the_documents_name_the_source_and_what_was_saved(client: FlaskClient, ask: Ask, source: Picture) -> None:
    job = ask(**BLUE)
    near = {"picture": source.key, "share": 2.5, "strength": 0.625, "steps_saved": 3, "generation": 1}
    document = client.get(f"/api/v1/jobs/{job.id}").json
    assert document["origin"] == "near" and document["near"] == document["picture"]["near"] == near
    assert client.get(f"/api/v1/pictures/{picture_of(job).key}").json["near"] == near
    assert client.get(f"/api/v1/pictures/{source.key}").json["near"] is None


def test_a_near_picture_answers_later_requests_like_any_other(ask: Ask, source: Picture) -> None:
    near = picture_of(ask(**BLUE))
    for body in ({**BLUE, "memo": "auto"}, BLUE, {**BLUE, "prompt": "please draw the blue fox in snow"}):
        later = ask(**body)
        assert (later.origin, later.picture, later.near) == ("memory", near, None)


def test_the_recipe_of_a_near_picture_finds_it_and_paints_it_again(ask: Ask, source: Picture, memory: Memory) -> None:
    near = picture_of(ask(**BLUE))
    names = ("prompt", "width", "height", "init_image", "strength", "seed")
    again = {name: getattr(near.recipe, name) for name in names}
    assert ask(**again).picture == near
    memory.index.remove(near.key)
    job = ask(**again)
    assert picture_of(job).key == near.key and picture_of(job).recipe == near.recipe


def test_a_chain_of_near_starts_ends_with_the_second(ask: Ask, source: Picture, judge: SharingJudge) -> None:
    first = picture_of(ask(**BLUE))
    judge.shares_of[first.recipe.prompt] = 2.8
    second = picture_of(ask(**{**BLUE, "prompt": "a green fox in the snow"}))
    judge.shares_of[second.recipe.prompt] = 2.9
    third = ask(**{**BLUE, "prompt": "a white fox in the snow"})
    starts = [job.near for job in (first, second, third)]
    assert [(near.picture, near.generation) for near in starts if near] == [
        (source.key, 1),
        (first.key, 2),
        (first.key, 2),
    ]


def test_a_picture_reported_wrong_is_not_started_from(client: FlaskClient, ask: Ask, source: Picture) -> None:
    feedback = {"right": False, "prompt": "a lion"}
    assert client.post(f"/api/v1/pictures/{source.key}/feedback", json=feedback).status_code == 204
    assert ask(**BLUE).origin == "painted"


@pytest.mark.parametrize("body", [{"seed": 5}, {"memo": "auto"}, {"memo": None}, {"width": 128, "height": 128}])
def test_other_requests_are_painted_from_noise(ask: Ask, source: Picture, body: dict[str, object]) -> None:
    job = ask(**{**BLUE, **body})
    assert (job.origin, job.near, job.recipe.init_image) == ("painted", None, "")


def test_a_share_that_is_too_low_and_a_judge_that_tells_none_lead_to_noise(
    ask: Ask, source: Picture, judge: SharingJudge
) -> None:
    judge.share = 1.0
    job = ask(**BLUE)
    assert job.origin == "painted" and job.reason.endswith("no remembered picture is similar enough to start from")
    judge.can_tell_shares = False
    job = ask(**{**BLUE, "prompt": "a green fox in the snow"})
    assert job.origin == "painted" and job.reason.endswith(NO_SHARES)


def test_a_model_without_near_starts_paints_from_noise(
    ask: Ask, source: Picture, judge: SharingJudge, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = app.extensions["catalogue"]
    models = {
        name: replace(model, image_to_image=False, near_strengths=()) for name, model in catalogue.models().items()
    }
    monkeypatch.setattr(catalogue, "read", lambda: (models, {}))
    job = ask(**BLUE)
    assert job.origin == "painted" and job.reason.endswith(NO_STRENGTHS) and judge.questions == []
    page = app.test_client().get("/").text
    assert '<label class="choice" hidden>\n              <input type="radio" name="memo" value="near">' in page


def test_a_start_waits_for_the_gate_of_uploads_and_is_left_out_if_that_stays_closed(
    ask: Ask, source: Picture, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "COPY_SECONDS", 0.2)
    gate = app.extensions["uploads"]
    with gate.turn("ann"), gate.turn("bob"):
        job = ask(**BLUE)
    assert job.origin == "painted" and job.reason == "the similar picture to start from cannot be read"
    assert ask(**{**BLUE, "prompt": "a green fox in the snow"}).origin == "near"


def test_a_source_that_was_deleted_meanwhile_leads_to_noise(
    ask: Ask, source: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(key: str) -> bytes:
        raise Forgotten(key)

    monkeypatch.setattr(near_starts, "read_image", gone)
    job = ask(**BLUE)
    assert (job.origin, job.reason) == ("painted", "the similar picture to start from cannot be read")


def test_users_never_start_from_pictures_of_others(
    serve: Serve, client_for: ClientFor, queue: Queue, working: PaintingRunner, memory: Memory
) -> None:
    app = serve()
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    picture = picture_of(finished(queue, ada.post("/api/v1/jobs", json=FOX).json["id"]))
    wait_for(lambda: memory.index.get(picture.key))
    hers, his = (client.post("/api/v1/jobs", json=BLUE).json for client in (ada, bob))
    assert hers["near"]["picture"] == picture.key and his["near"] is None and picture.key not in str(his)
    done = finished(queue, hers["id"])
    assert picture_of(done).scope != "shared" and memory.has_init_image(done.recipe.init_image, done.scope)
    assert not memory.has_init_image(done.recipe.init_image)
    assert bob.get(f"/jobs/{done.id}").status_code == 404


def test_identical_requests_join_one_painting(
    client: FlaskClient, queue: Queue, source: Picture, painter: QuickPainter
) -> None:
    painter.go_on.clear()
    first, second = (client.post("/api/v1/jobs", json=BLUE).json for _ in range(2))
    third = client.post("/api/v1/jobs", json={**BLUE, "prompt": "please draw the blue fox in snow"}).json
    fourth = client.post("/api/v1/jobs", json={**BLUE, "memo": "auto"}).json
    painter.go_on.set()
    assert [job["origin"] for job in (first, second, third, fourth)] == ["near", "joined", "joined", "joined"]
    assert second["near"] == first["near"] and second["recipe"] == first["recipe"]
    pictures = {finished(queue, job["id"]).picture for job in (first, second, third, fourth)}
    assert len(pictures) == 1 and pictures == {finished(queue, first["id"]).picture}


def test_the_initial_picture_is_kept_while_a_near_painting_waits_for_it(
    client: FlaskClient, queue: Queue, source: Picture, painter: QuickPainter, memory: Memory
) -> None:
    painter.go_on.clear()
    job = client.post("/api/v1/jobs", json=BLUE).json
    memory.release_init_image(job["recipe"]["init_image"])
    painter.go_on.set()
    assert finished(queue, job["id"]).state == "done"


def test_the_server_may_start_from_similar_pictures_by_default(
    serve: Serve, client_for: ClientFor, ask: Ask, queue: Queue
) -> None:
    client = client_for(serve(policy="near"), "ada")
    ask(client, **FOX)
    unnamed = {name: value for name, value in BLUE.items() if name != "memo"}
    assert ask(client, **unnamed, memo="auto").origin == "painted"
    green = {**unnamed, "prompt": "a green fox in the snow"}
    headers = {"X-Memo-Policy": "auto"}
    assert client.post("/api/v1/jobs", json=green, headers=headers).json["origin"] == "painted"
    assert ask(client, **{**unnamed, "prompt": "a black fox in the snow"}).origin == "near"
    assert 'value="near" checked' in client.get("/").text


def test_variations_and_retries_of_a_near_start_ask_for_the_same_prompt(
    client: FlaskClient, queue: Queue, ask: Ask, source: Picture
) -> None:
    job = ask(**BLUE)
    variation = client.post(f"/api/v1/jobs/{job.id}/variation").json
    assert (variation["origin"], variation["recipe"]["init_image"]) == ("painted", "")
    assert finished(queue, variation["id"]).picture != job.picture


def test_a_retry_of_a_near_start_may_start_from_a_similar_picture_again(
    client: FlaskClient, queue: Queue, source: Picture, painter: QuickPainter
) -> None:
    painter.go_on.clear()
    job = client.post("/api/v1/jobs", json=BLUE).json
    client.delete(f"/api/v1/jobs/{job['id']}")
    location = client.post(f"/jobs/{job['id']}/retry").location
    painter.go_on.set()
    again = finished(queue, location.rpartition("/")[2])
    assert again.origin == "near" and again.near and again.near.picture == source.key


def test_a_repeated_request_of_a_client_gets_another_picture(
    serve: Serve, client_for: ClientFor, source: Picture, memory: Memory
) -> None:
    client = client_for(serve(policy="near"), "ada", scope="shared")
    body = {"prompt": BLUE["prompt"], "size": "64x64"}
    [first], [second] = (client.post("/v1/images/generations", json=body).json["memo"]["pictures"] for _ in range(2))
    assert (first["origin"], second["origin"]) == ("near", "near") and first["key"] != second["key"]


def test_a_near_start_saves_its_skipped_share(
    app: Flask, ask: Ask, source: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, first = ask(**BLUE), ask(**FOX, memo="off")
    monkeypatch.setattr(Statistics, "mean_cost", lambda *_: (8.0, 80.0))
    with app.test_request_context():
        assert savings(near) == (3.0, 30.0) and savings(first) == (0.0, 0.0)
        assert savings(ask(**FOX)) == (8.0, 80.0)


def test_statistics_and_metrics_count_near_starts(client: FlaskClient, ask: Ask, source: Picture) -> None:
    ask(**BLUE)
    stats = client.get("/api/v1/stats").json
    assert (stats["jobs"], stats["painted"], stats["near"], stats["hit_rate"]) == (2, 1, 1, 0)
    assert client.get("/api/v1/stats/history").json["near"][-2:] in ([0, 1], [1, 0])
    assert 'memoaized_jobs_total{origin="near"} 1.0' in client.get("/metrics").text


def test_the_job_page_shows_where_a_near_picture_starts(
    client: FlaskClient, ask: Ask, source: Picture, memory: Memory
) -> None:
    job = ask(**BLUE)
    page = client.get(f"/jobs/{job.id}").text
    assert 'data-badge="near"' in page and "3 of 8 steps saved" in page
    assert "the prompts share 2.5 of 3, and skips 3 of 8 steps" in page
    assert f'<a href="/pictures/{source.key}"><img src="/api/v1/pictures/{source.key}/thumbnail"' in page
    assert f'action="/jobs/{job.id}/from-scratch"' in page and "Paint it from scratch instead" in page
    memory.forget(source.key)
    page = client.get(f"/jobs/{job.id}").text
    assert "a picture that has been deleted" in page and f"{source.key}/thumbnail" not in page


def test_a_near_picture_can_be_painted_from_scratch_instead(
    client: FlaskClient, queue: Queue, ask: Ask, source: Picture
) -> None:
    job = ask(**BLUE)
    answer = client.post(f"/jobs/{job.id}/from-scratch")
    assert answer.status_code == 303
    new = finished(queue, answer.location.rpartition("/")[2])
    assert (new.origin, new.near, new.recipe.wish) == ("painted", None, job.wish)
    assert "from-scratch" not in client.get(answer.location).text


def test_the_form_offers_near_starts(client: FlaskClient) -> None:
    page = client.get("/").text
    assert "Keep the composition of a similar picture: faster" in page
    assert '<label class="choice">\n              <input type="radio" name="memo" value="near">' in page


def test_a_near_start_is_told_in_the_dialects(client: FlaskClient, source: Picture) -> None:
    body = {"prompt": BLUE["prompt"], "size": "64x64", "response_format": "b64_json", "memo": {"policy": "near"}}
    answer = client.post("/v1/images/generations", json=body)
    assert answer.headers["X-Memo-Origin"] == "near"
    [picture] = answer.json["memo"]["pictures"]
    assert picture["near"]["picture"] == source.key and "skips 3 of 8 steps" in picture["reason"]
