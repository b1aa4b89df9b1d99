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
from tests.web.conftest import Enter, Serve
from web.api.init_images import ROOM
from web.pages import jobs_pages
from web.pages.jobs_pages import as_body, duration, energy, offered, sentence
from worker.paint import PaintingRunner

PROMPT = "a red fox in the snow"
Remember = Callable[..., Picture]


@pytest.fixture
def remembered(app: Flask, remember: Remember) -> Picture:
    """A picture painted with the model's own defaults."""
    return remember(app.extensions["catalogue"].recipe({"prompt": PROMPT}), seed=7)


def sent(client: FlaskClient, **form: str) -> str:
    """Send the form; where it leads."""
    answer = client.post("/", data=form)
    assert answer.status_code == 303, answer.text
    return answer.location


def tag(html: str, start: str) -> str:
    """The first tag that begins so."""
    found = re.search(re.escape(start) + "[^>]*>", html)
    assert found, f"there is no {start}"
    return found[0]


def test_the_form_stands_at_the_models_defaults(client: FlaskClient) -> None:
    page = client.get("/").text
    assert 'value="8"' in tag(page, '<input id="steps"')
    assert 'value="3"' in tag(page, '<input id="guidance_scale"')
    assert '<option value="256x256" selected>256 × 256</option>' in page
    assert '<option value="64x64">64 × 64</option>' in page


def test_a_sent_form_leads_to_its_job(client: FlaskClient) -> None:
    page = client.get(sent(client, prompt=PROMPT, size="64x64", steps="4"))
    assert page.status_code == 200
    assert PROMPT in page.text and 'data-state="queued"' in page.text


def test_a_job_page_refreshes_itself_without_javascript_until_it_is_final(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    refresh = '<noscript><meta http-equiv="refresh"'
    painter.go_on.clear()
    where = sent(client, prompt=PROMPT, size="64x64")
    assert refresh in client.get(where).text
    painter.go_on.set()
    finished(queue, where.rpartition("/")[2])
    assert refresh not in client.get(where).text


def test_a_painted_picture_is_shown_with_its_badge_and_settings(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    where = sent(client, prompt=PROMPT, size="64x64", steps="4")
    job = finished(queue, where.rpartition("/")[2])
    page = client.get(where).text
    assert job.picture
    assert 'data-badge="painted"' in page
    assert f"/api/v1/pictures/{job.picture.key}/image" in tag(page, '<img class="shown"')
    assert f"<dd>{job.picture.recipe.seed}</dd>" in page
    assert f'href="/?picture={job.picture.key}"' in page
    assert "data-spent" in page


def test_an_answer_from_memory_tells_why_and_what_was_saved(client: FlaskClient, remembered: Picture) -> None:
    page = client.get(sent(client, prompt="A red fox in the snow.")).text
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
def test_a_bad_field_is_marked_where_it_stands(client: FlaskClient, field: str, value: str, control: str) -> None:
    answer = client.post("/", data={"prompt": PROMPT, field: value})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in tag(answer.text, control)
    assert answer.text.count('aria-invalid="true"') == 1


def test_what_was_typed_is_still_there_after_a_mistake(client: FlaskClient) -> None:
    typed = {"prompt": "a <b> & 'c'", "steps": "many", "seed": "12", "size": "64x64", "memo": "refresh"}
    page = client.post("/", data=typed).text
    assert "a &lt;b&gt; &amp; &#39;c&#39;</textarea>" in page
    assert 'value="many"' in tag(page, '<input id="steps"')
    assert 'value="12"' in tag(page, '<input id="seed"')
    assert '<option value="64x64" selected>' in page
    assert "checked" in tag(page, '<input type="radio" name="memo" value="refresh"')
    assert "It must be a whole number from 1 to 150." in page


def test_a_fault_that_no_field_shows_stands_above_the_form(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("the queue does not answer")

    monkeypatch.setattr(Queue, "submit", away)
    answer = client.post("/", data={"prompt": PROMPT})
    assert answer.status_code == 503
    assert "The queue does not answer." in answer.text
    assert f"{PROMPT}</textarea>" in answer.text


def test_whoever_may_ask_for_no_more_keeps_the_form_and_is_told(serve: Serve, enter: Enter) -> None:
    ada = enter(serve(daily="1"), "ada")
    sent(ada, prompt=PROMPT)
    answer = ada.post("/", data={"prompt": "a <b>", "seed": "12"})
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    assert "No more than 1 per 1 day may be asked for." in answer.text
    assert "a &lt;b&gt;</textarea>" in answer.text and 'value="12"' in tag(answer.text, '<input id="seed"')


def test_a_picture_that_is_too_large_is_told_at_its_field(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_pages, "LARGEST_UPLOAD", 10)
    answer = client.post("/", data={"prompt": PROMPT, "seed": "12", "image": (io.BytesIO(b"x" * 11), "x.png")})
    assert answer.status_code == 422 and 'aria-invalid="true"' in tag(answer.text, '<input id="image"')
    assert "16 MB at most" in answer.text and 'value="12"' in tag(answer.text, '<input id="seed"')


def test_a_form_too_large_to_be_read_is_shown_anew_with_the_reason(client: FlaskClient) -> None:
    form = b"x" * (ROOM["pages.ask"] + 1)
    answer = client.post("/", data=form, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413 and "16 MB at most" in answer.text and '<textarea id="prompt"' in answer.text


def test_a_fault_of_what_a_model_cannot_do_is_not_hidden(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = app.extensions["catalogue"]
    without = [{**model, "image_to_image": False} for model in catalogue.describe()]
    monkeypatch.setattr(catalogue, "describe", lambda: without)
    page = app.test_client().post("/", data={"prompt": PROMPT, "strength": "much"}).text
    assert "hidden" in tag(app.test_client().get("/").text, '<div class="field wide init-image"')
    assert "hidden" not in tag(page, '<div class="field wide init-image"') and 'aria-invalid="true"' in page


def test_a_sent_form_is_read_as_the_json_that_a_client_would_send() -> None:
    form = {"prompt": " a fox ", "size": "64x128", "guidance_scale": "2,5", "seed": "", "steps": "x", "other": "1"}
    assert as_body(form) == {"prompt": "a fox", "width": 64, "height": 128, "guidance_scale": 2.5, "steps": "x"}


@pytest.mark.parametrize("path", ["/", "/gallery", "/gallery?q=fox"])
def test_a_gallery_shows_what_is_remembered(client: FlaskClient, remembered: Picture, path: str) -> None:
    assert shown(client.get(path).text) == [remembered.key]


def shown(page: str) -> list[str]:
    """The keys of the gallery's pictures, in order."""
    return re.findall(r'<li class="tile" data-key="(\w+)"', page)


def test_the_form_is_there_while_memory_is_away(
    client: FlaskClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: object) -> None:
        raise Unavailable("no index")

    monkeypatch.setattr(memory, "newest", away)
    page = client.get("/")
    assert page.status_code == 200
    assert "Memory does not answer at the moment." in page.text


def test_a_picture_has_a_page_with_its_recipe(client: FlaskClient, remembered: Picture) -> None:
    page = client.get(f"/pictures/{remembered.key}").text
    assert PROMPT in page and "<dd>7</dd>" in page and "memo1." in page
    assert f'data-forget="/api/v1/pictures/{remembered.key}"' in page


def test_the_form_takes_the_settings_of_a_picture(client: FlaskClient, app: Flask, remember: Remember) -> None:
    recipe = app.extensions["catalogue"].recipe({"prompt": PROMPT, "width": 128, "height": 128, "sampler": "euler"})
    page = client.get(f"/?picture={remember(recipe, seed=99).key}").text
    assert f"{PROMPT}</textarea>" in page
    assert '<option value="128x128" selected>' in page and "<option selected>euler</option>" in page
    assert 'value="99"' in tag(page, '<input id="seed"')


def test_the_form_takes_settings_from_the_query(client: FlaskClient) -> None:
    page = client.get("/?prompt=a+cat&steps=5&picture=unknown").text
    assert "a cat</textarea>" in page
    assert 'value="5"' in tag(page, '<input id="steps"')


@pytest.mark.parametrize("path", ["/jobs/nobody", "/jobs/nobody/card", f"/pictures/{'0' * 32}", "/pictures/x", "/x"])
def test_what_is_unknown_is_said_in_the_sites_look(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Not here." in answer.text and "style.css" in answer.text


def test_a_job_is_cancelled_without_javascript(client: FlaskClient) -> None:
    where = sent(client, prompt=PROMPT)
    assert client.post(f"{where}/cancel").location == where
    page = client.get(where).text
    assert 'data-state="cancelled"' in page and "Try again" in page


def test_cancelling_an_unknown_job_is_a_404(client: FlaskClient) -> None:
    assert client.post("/jobs/nobody/cancel").status_code == 404


def failed(client: FlaskClient, queue: Queue, painter: QuickPainter, **form: str) -> Job:
    """A job whose painting fails."""
    painter.fault = BadSetup("there is no paint left")
    job = finished(queue, sent(client, **form).rpartition("/")[2])
    painter.fault = None
    return job


def tried_again(client: FlaskClient, queue: Queue, job: Job) -> Job:
    """What the button leads to, when it has ended."""
    where = client.post(f"/jobs/{job.id}/again").location
    return finished(queue, where.rpartition("/")[2])


def test_a_failed_job_says_why_and_offers_the_same_again(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    job = failed(client, queue, painter, prompt=PROMPT, size="64x64", steps="4")
    page = client.get(f"/jobs/{job.id}").text
    assert "no paint left" in page and f'action="/jobs/{job.id}/again"' in page
    again = tried_again(client, queue, job)
    assert again.picture and again.recipe.wish == job.recipe.wish


def test_trying_again_keeps_a_seed_that_was_given_and_no_other(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter
) -> None:
    drawn = failed(client, queue, painter, prompt=PROMPT, size="64x64", steps="4")
    given = failed(client, queue, painter, prompt=PROMPT, size="64x64", steps="4", seed="77")
    assert tried_again(client, queue, given).recipe.seed == 77
    assert tried_again(client, queue, drawn).recipe.seed not in (drawn.recipe.seed, 77)


def test_trying_again_paints_afresh_what_was_to_be_fresh(
    client: FlaskClient, queue: Queue, working: PaintingRunner, painter: QuickPainter, remembered: Picture
) -> None:
    job = failed(client, queue, painter, prompt=PROMPT, memo="refresh")
    assert tried_again(client, queue, job).origin == "painted"


def test_several_pictures_share_a_page(client: FlaskClient) -> None:
    where = sent(client, prompt=PROMPT, count="3")
    page = client.get(where).text
    assert re.fullmatch(r"/jobs\?id=\w+&id=\w+&id=\w+", where)
    assert len(re.findall("data-job=", page)) == 3 and '<noscript><meta http-equiv="refresh"' in page


def test_a_page_of_no_jobs_leads_to_the_form(client: FlaskClient) -> None:
    assert client.get("/jobs").location == "/"
    assert client.get("/jobs?id=nobody").status_code == 404


def test_a_wrong_reuse_is_painted_anew_at_once(client: FlaskClient, remembered: Picture, queue: Queue) -> None:
    where = sent(client, prompt="A red fox in the snow.")
    job = queue.job_store.jobs.find(client.post(f"{where}/wrong").location.rpartition("/")[2])
    assert job and job.origin == "painted" and job.recipe.prompt == "A red fox in the snow."
    client.post(f"/jobs/{job.id}/cancel")
    assert 'data-origin="painted"' in client.get(sent(client, prompt="A red fox in the snow.")).text


def test_a_card_says_who_else_waits(client: FlaskClient) -> None:
    first = sent(client, prompt=PROMPT)
    assert "One other waits" not in client.get(first).text
    sent(client, prompt="a green apple")
    second = client.get(sent(client, prompt=PROMPT)).text
    assert "2 pictures wait for this model." in second and "One other waits for this very picture." in second


def test_a_picture_is_offered_as_png_and_webp(client: FlaskClient, remembered: Picture) -> None:
    image = f"/api/v1/pictures/{remembered.key}/image"
    page = client.get(f"/pictures/{remembered.key}").text
    assert f'href="{image}" download' in page and f'href="{image}?format=webp" download' in page


def test_the_form_goes_on_from_a_picture(client: FlaskClient, remembered: Picture) -> None:
    page = client.get(f"/?init_image={remembered.key}&prompt=a+cat").text
    assert "checked" in tag(page, f'<input type="checkbox" name="init_image" value="{remembered.key}"')
    assert '<input id="strength"' in page
    plain = client.get("/").text
    assert 'name="init_image"' not in plain and '<input id="image"' in plain


def test_a_model_of_free_sizes_offers_usual_shapes() -> None:
    model = {"sizes": [512], "size_range": [256, 1024, 8], "defaults": {"width": 512}}
    assert offered(model) == ["512x512", "624x416", "416x624", "680x384", "384x680"]
    assert offered({**model, "size_range": None}) == ["512x512"]


def test_no_page_has_inline_script_or_style(client: FlaskClient, remembered: Picture) -> None:
    fixed = ["/", "/gallery", "/queue", f"/pictures/{remembered.key}"]
    paths = [*fixed, sent(client, prompt=PROMPT), sent(client, prompt="a cat"), "/x"]
    for path in paths:
        answer = client.get(path)
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", answer.text), path
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_words_are_never_markup(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    picture = remember(replace(recipe, prompt="<script>alert(1)</script>"))
    for path in ("/", "/gallery", f"/pictures/{picture.key}", f"/?picture={picture.key}"):
        assert "<script>alert" not in client.get(path).text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0004, "0 ms"), (0.04, "40 ms"), (0.9996, "1.0 s"), (3.25, "3.2 s"), (75, "75 s"), (240, "4 min")],
)
def test_a_length_of_time_is_said_in_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("text", "said"), [("", ""), ("so it is", "So it is."), ("Is it?", "Is it?")])
def test_a_remark_becomes_a_sentence(text: str, said: str) -> None:
    assert sentence(text) == said


@pytest.mark.parametrize(("joules", "words"), [(0, "0 Wh"), (12, "0.0033 Wh"), (9000, "2.5 Wh"), (9e7, "25,000 Wh")])
def test_energy_is_told_in_watt_hours(joules: float, words: str) -> None:
    assert energy(joules) == words
