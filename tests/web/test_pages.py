"""The pages of the form, of jobs and of pictures, without JavaScript."""

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobs.job import Job
from jobs.queue import Queue
from memo import BadSetup, Memory, Picture, Recipe, Unavailable
from tests.real import QuickPainter, finished
from tests.web.conftest import ClientFor, Serve
from web.api.init_images import LARGEST_BODIES
from web.pages import create_page
from web.pages.create_page import form_sizes, to_body
from web.pages.template_filters import duration, energy, sentence
from worker.paint import PaintingRunner

PROMPT = "a red fox in the snow"
Remember = Callable[..., Picture]


@pytest.fixture
def remembered(app: Flask, remember: Remember) -> Picture:
    """A picture painted with the model's own defaults."""
    return remember(app.extensions["catalogue"].recipe({"prompt": PROMPT}), seed=7)


def submit(client: FlaskClient, **form: str) -> str:
    """Submit the form; returns the address that it leads to."""
    answer = client.post("/", data=form)
    assert answer.status_code == 303, answer.text
    return answer.location


def tag(html: str, start: str) -> str:
    """The first tag that starts with this text."""
    match = re.search(re.escape(start) + "[^>]*>", html)
    assert match, f"there is no {start}"
    return match[0]


def test_the_form_shows_the_models_defaults(client: FlaskClient) -> None:
    page = client.get("/").text
    assert 'value="8"' in tag(page, '<input id="steps"')
    assert 'value="3"' in tag(page, '<input id="guidance_scale"')
    assert '<option value="256x256" selected>256 × 256</option>' in page
    assert '<option value="64x64">64 × 64</option>' in page


def test_a_submitted_form_leads_to_its_job(client: FlaskClient) -> None:
    page = client.get(submit(client, prompt=PROMPT, size="64x64", steps="4"))
    assert page.status_code == 200
    assert PROMPT in page.text and 'data-state="queued"' in page.text


def test_a_job_page_refreshes_itself_without_javascript_until_it_is_final(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    refresh = '<noscript><meta http-equiv="refresh"'
    painter.go_on.clear()
    location = submit(client, prompt=PROMPT, size="64x64")
    assert refresh in client.get(location).text
    painter.go_on.set()
    finished(queue, location.rpartition("/")[2])
    assert refresh not in client.get(location).text


def test_a_painted_picture_is_shown_with_its_origin_and_settings(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    location = submit(client, prompt=PROMPT, size="64x64", steps="4")
    job = finished(queue, location.rpartition("/")[2])
    page = client.get(location).text
    assert job.picture
    assert 'data-badge="painted"' in page
    assert f"/api/v1/pictures/{job.picture.key}/image" in tag(page, '<img class="image"')
    assert f"<dd>{job.picture.recipe.seed}</dd>" in page
    assert f'href="/?picture={job.picture.key}"' in page
    assert "data-spent" in page


def test_an_answer_from_memory_shows_its_reason_and_what_it_saved(client: FlaskClient, remembered: Picture) -> None:
    page = client.get(submit(client, prompt="A red fox in the snow.")).text
    assert 'data-badge="memory"' in page
    assert "Saved about 1.0 s of painting." in page
    assert f"data-remembered>{PROMPT}</dd>" in page
    assert re.search(r"<dd data-score>0\.9\d\d</dd>", page)
    assert "data-why" in page


@pytest.mark.parametrize(
    ("field", "value", "control"),
    [
        ("size", "250x250", '<select id="size"'),
        ("width", "250", '<select id="size"'),
        ("steps", "0", '<input id="steps"'),
        ("steps", "many", '<input id="steps"'),
        ("guidance_scale", "99", '<input id="guidance_scale"'),
        ("seed", "-1", '<input id="seed"'),
        ("seed", "9" * 30, '<input id="seed"'),
        ("model", "nobody", '<select id="model"'),
        ("prompt", "", '<textarea id="prompt"'),
        ("negative_prompt", "a\x00b", '<textarea id="negative_prompt"'),
    ],
)
def test_only_the_invalid_field_is_marked(client: FlaskClient, field: str, value: str, control: str) -> None:
    answer = client.post("/", data={"prompt": PROMPT, field: value})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in tag(answer.text, control)
    assert answer.text.count('aria-invalid="true"') == 1


def test_a_mistake_loses_nothing_that_was_typed(client: FlaskClient) -> None:
    typed = {"prompt": "a <b> & 'c'", "steps": "many", "seed": "12", "size": "64x64", "memo": "refresh"}
    page = client.post("/", data=typed).text
    assert "a &lt;b&gt; &amp; &#39;c&#39;</textarea>" in page
    assert 'value="many"' in tag(page, '<input id="steps"')
    assert 'value="12"' in tag(page, '<input id="seed"')
    assert '<option value="64x64" selected>' in page
    assert "checked" in tag(page, '<input type="radio" name="memo" value="refresh"')
    assert "It must be a whole number from 1 to 150." in page


def test_an_error_that_concerns_no_field_is_shown_above_the_form(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Unavailable("the queue does not answer")

    monkeypatch.setattr(Queue, "submit", fail)
    answer = client.post("/", data={"prompt": PROMPT})
    assert answer.status_code == 503
    assert "The queue does not answer." in answer.text
    assert f"{PROMPT}</textarea>" in answer.text


def test_a_user_over_their_limit_keeps_the_form_and_is_told_why(serve: Serve, client_for: ClientFor) -> None:
    ada = client_for(serve(daily="1"), "ada")
    submit(ada, prompt=PROMPT)
    answer = ada.post("/", data={"prompt": "a <b>", "seed": "12"})
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    assert "The limit of 1 per 1 day is used up: try again later." in answer.text
    assert "a &lt;b&gt;</textarea>" in answer.text and 'value="12"' in tag(answer.text, '<input id="seed"')


def test_a_picture_that_is_too_large_is_reported_at_its_field(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_page, "LARGEST_UPLOAD", 10)
    answer = client.post("/", data={"prompt": PROMPT, "seed": "12", "image": (io.BytesIO(b"x" * 11), "x.png")})
    assert answer.status_code == 422 and 'aria-invalid="true"' in tag(answer.text, '<input id="image"')
    assert "at most 16 MiB" in answer.text and 'value="12"' in tag(answer.text, '<input id="seed"')


def test_a_form_too_large_to_be_read_is_shown_again_with_the_reason(client: FlaskClient) -> None:
    form = b"x" * (LARGEST_BODIES["create.submit"] + 1)
    answer = client.post("/", data=form, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413 and "at most 16 MiB" in answer.text and '<textarea id="prompt"' in answer.text


def test_a_hidden_field_is_shown_if_it_is_invalid(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = app.extensions["catalogue"]
    models = [{**model, "image_to_image": False} for model in catalogue.to_dicts()]
    monkeypatch.setattr(catalogue, "to_dicts", lambda: models)
    page = app.test_client().post("/", data={"prompt": PROMPT, "strength": "much"}).text
    assert "hidden" in tag(app.test_client().get("/").text, '<div class="field wide init-image"')
    assert "hidden" not in tag(page, '<div class="field wide init-image"') and 'aria-invalid="true"' in page


def test_a_form_becomes_the_json_body_that_a_client_would_send() -> None:
    form = {"prompt": " a fox ", "size": "64x128", "guidance_scale": "2,5", "seed": "", "steps": "x", "other": "1"}
    assert to_body(form) == {"prompt": "a fox", "width": 64, "height": 128, "guidance_scale": 2.5, "steps": "x"}


@pytest.mark.parametrize("path", ["/", "/gallery", "/gallery?q=fox"])
def test_a_gallery_shows_the_remembered_pictures(client: FlaskClient, remembered: Picture, path: str) -> None:
    assert shown_keys(client.get(path).text) == [remembered.key]


def shown_keys(page: str) -> list[str]:
    """The keys of the gallery's pictures, in order."""
    return re.findall(r'<li class="tile" data-key="(\w+)"', page)


def test_the_form_works_while_memory_does_not_respond(
    client: FlaskClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise Unavailable("no index")

    monkeypatch.setattr(memory, "newest", fail)
    page = client.get("/")
    assert page.status_code == 200
    assert "Memory does not respond at the moment." in page.text


def test_a_picture_has_a_page_with_its_recipe(client: FlaskClient, remembered: Picture) -> None:
    page = client.get(f"/pictures/{remembered.key}").text
    assert PROMPT in page and "<dd>7</dd>" in page and "memo1." in page
    assert f'data-delete="/api/v1/pictures/{remembered.key}"' in page


def test_the_form_can_be_filled_from_a_picture(client: FlaskClient, app: Flask, remember: Remember) -> None:
    recipe = app.extensions["catalogue"].recipe({"prompt": PROMPT, "width": 128, "height": 128, "sampler": "euler"})
    page = client.get(f"/?picture={remember(recipe, seed=99).key}").text
    assert f"{PROMPT}</textarea>" in page
    assert '<option value="128x128" selected>' in page and "<option selected>euler</option>" in page
    assert 'value="99"' in tag(page, '<input id="seed"')


def test_the_form_can_be_filled_from_the_query_string(client: FlaskClient) -> None:
    page = client.get("/?prompt=a+cat&steps=5&picture=unknown").text
    assert "a cat</textarea>" in page
    assert 'value="5"' in tag(page, '<input id="steps"')


@pytest.mark.parametrize("path", ["/jobs/nobody", "/jobs/nobody/card", f"/pictures/{'0' * 32}", "/pictures/x", "/x"])
def test_an_unknown_address_shows_an_error_page(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Page not found." in answer.text and "style.css" in answer.text


def test_a_job_can_be_cancelled_without_javascript(client: FlaskClient) -> None:
    location = submit(client, prompt=PROMPT)
    assert client.post(f"{location}/cancel").location == location
    page = client.get(location).text
    assert 'data-state="cancelled"' in page and "Try again" in page


def test_cancelling_an_unknown_job_is_a_404(client: FlaskClient) -> None:
    assert client.post("/jobs/nobody/cancel").status_code == 404


def fail_job(client: FlaskClient, queue: Queue, painter: QuickPainter, **form: str) -> Job:
    """Submit the form and let its painting fail; returns the job."""
    painter.fault = BadSetup("there is no paint left")
    job = finished(queue, submit(client, **form).rpartition("/")[2])
    painter.fault = None
    return job


def retry(client: FlaskClient, queue: Queue, job: Job) -> Job:
    """Press "Try again"; returns the new job once it is final."""
    location = client.post(f"/jobs/{job.id}/retry").location
    return finished(queue, location.rpartition("/")[2])


def test_a_failed_job_shows_its_error_and_can_be_retried(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    job = fail_job(client, queue, painter, prompt=PROMPT, size="64x64", steps="4")
    page = client.get(f"/jobs/{job.id}").text
    assert "no paint left" in page and f'action="/jobs/{job.id}/retry"' in page
    again = retry(client, queue, job)
    assert again.picture and again.recipe.wish == job.recipe.wish


def test_a_retry_keeps_a_requested_seed_but_draws_a_new_random_one(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    random = fail_job(client, queue, painter, prompt=PROMPT, size="64x64", steps="4")
    requested = fail_job(client, queue, painter, prompt=PROMPT, size="64x64", steps="4", seed="77")
    assert retry(client, queue, requested).recipe.seed == 77
    assert retry(client, queue, random).recipe.seed not in (random.recipe.seed, 77)


def test_a_retry_of_a_refresh_is_painted_again(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter, remembered: Picture
) -> None:
    job = fail_job(client, queue, painter, prompt=PROMPT, memo="refresh")
    assert retry(client, queue, job).origin == "painted"


def test_several_pictures_of_one_request_share_a_page(client: FlaskClient) -> None:
    location = submit(client, prompt=PROMPT, count="3")
    page = client.get(location).text
    assert re.fullmatch(r"/jobs\?id=\w+&id=\w+&id=\w+", location)
    assert len(re.findall("data-job=", page)) == 3 and '<noscript><meta http-equiv="refresh"' in page


def test_the_page_of_several_jobs_without_ids_leads_to_the_form(client: FlaskClient) -> None:
    assert client.get("/jobs").location == "/"
    assert client.get("/jobs?id=nobody").status_code == 404


def test_a_picture_reported_wrong_is_painted_again_at_once(
    client: FlaskClient, remembered: Picture, queue: Queue
) -> None:
    location = submit(client, prompt="A red fox in the snow.")
    job = queue.job_store.jobs.find(client.post(f"{location}/wrong").location.rpartition("/")[2])
    assert job and job.origin == "painted" and job.recipe.prompt == "A red fox in the snow."
    client.post(f"/jobs/{job.id}/cancel")
    assert 'data-origin="painted"' in client.get(submit(client, prompt="A red fox in the snow.")).text


def test_a_job_card_says_how_many_others_are_waiting(client: FlaskClient) -> None:
    first = submit(client, prompt=PROMPT)
    assert "One other request" not in client.get(first).text
    submit(client, prompt="a green apple")
    second = client.get(submit(client, prompt=PROMPT)).text
    assert "2 pictures are waiting for this model." in second
    assert "One other request is waiting for this same picture." in second


def test_a_picture_can_be_downloaded_as_png_and_webp(client: FlaskClient, remembered: Picture) -> None:
    image = f"/api/v1/pictures/{remembered.key}/image"
    page = client.get(f"/pictures/{remembered.key}").text
    assert f'href="{image}" download' in page and f'href="{image}?format=webp" download' in page


def test_the_form_can_start_from_a_picture(client: FlaskClient, remembered: Picture) -> None:
    page = client.get(f"/?init_image={remembered.key}&prompt=a+cat").text
    assert "checked" in tag(page, f'<input type="checkbox" name="init_image" value="{remembered.key}"')
    assert '<input id="strength"' in page
    plain = client.get("/").text
    assert 'name="init_image"' not in plain and '<input id="image"' in plain


def test_a_model_that_paints_any_size_offers_common_aspect_ratios() -> None:
    model = {"sizes": [512], "size_range": [256, 1024, 8], "defaults": {"width": 512}}
    assert form_sizes(model) == ["512x512", "624x416", "416x624", "680x384", "384x680"]
    assert form_sizes({**model, "size_range": None}) == ["512x512"]


def test_no_page_has_inline_script_or_style(client: FlaskClient, remembered: Picture) -> None:
    fixed = ["/", "/gallery", "/queue", f"/pictures/{remembered.key}"]
    paths = [*fixed, submit(client, prompt=PROMPT), submit(client, prompt="a cat"), "/x"]
    for path in paths:
        answer = client.get(path)
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", answer.text), path
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_prompts_are_escaped(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    picture = remember(replace(recipe, prompt="<script>alert(1)</script>"))
    for path in ("/", "/gallery", f"/pictures/{picture.key}", f"/?picture={picture.key}"):
        assert "<script>alert" not in client.get(path).text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0004, "0 ms"), (0.04, "40 ms"), (0.9996, "1.0 s"), (3.25, "3.2 s"), (75, "75 s"), (240, "4 min")],
)
def test_durations_are_abbreviated(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("text", "result"), [("", ""), ("it fits", "It fits."), ("Is it?", "Is it?")])
def test_a_message_becomes_a_sentence(text: str, result: str) -> None:
    assert sentence(text) == result


@pytest.mark.parametrize(("joules", "words"), [(0, "0 Wh"), (12, "0.0033 Wh"), (9000, "2.5 Wh"), (9e7, "25,000 Wh")])
def test_energy_is_written_in_watt_hours(joules: float, words: str) -> None:
    assert energy(joules) == words
