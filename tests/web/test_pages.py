import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from memo import Memory, Picture, Recipe, Unavailable
from tests.real import QuickPainter, finished
from web.pages import as_body, duration, sentence
from worker.paint import Studio
from worker.queue import Queue

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
    client: FlaskClient, queue: Queue, working: Studio, painter: QuickPainter
) -> None:
    refresh = '<noscript><meta http-equiv="refresh"'
    painter.go_on.clear()
    where = sent(client, prompt=PROMPT, size="64x64")
    assert refresh in client.get(where).text
    painter.go_on.set()
    finished(queue, where.rpartition("/")[2])
    assert refresh not in client.get(where).text


def test_a_painted_picture_is_shown_with_its_badge_and_settings(
    client: FlaskClient, queue: Queue, working: Studio
) -> None:
    where = sent(client, prompt=PROMPT, size="64x64", steps="4")
    job = finished(queue, where.rpartition("/")[2])
    page = client.get(where).text
    assert job.picture
    assert 'data-badge="painted"' in page
    assert f"/api/v1/pictures/{job.picture.key}/image" in tag(page, '<img class="shown"')
    assert f"<dd>{job.picture.recipe.seed}</dd>" in page
    assert f'href="/?picture={job.picture.key}"' in page


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


def test_a_sent_form_is_read_as_the_json_that_a_client_would_send() -> None:
    form = {"prompt": " a fox ", "size": "64x128", "guidance_scale": "2,5", "seed": "", "steps": "x", "other": "1"}
    assert as_body(form) == {"prompt": "a fox", "width": 64, "height": 128, "guidance_scale": 2.5, "steps": "x"}


def test_the_gallery_goes_on_by_its_link(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    keys = [remember(recipe, seed=seed).key for seed in range(26)]
    first = client.get("/").text
    older = re.search(r'data-more href="([^"#]+)', first)
    assert older
    second = client.get(older[1]).text
    assert shown(first) + shown(second) == list(reversed(keys))
    assert "data-more" not in second


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


@pytest.mark.parametrize("cursor", ["nan", "inf", "tomorrow", ""])
def test_a_broken_cursor_shows_the_newest(client: FlaskClient, remembered: Picture, cursor: str) -> None:
    assert shown(client.get(f"/?before={cursor}").text) == [remembered.key]


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


def test_a_failed_job_says_why_and_offers_the_same_again(
    client: FlaskClient, queue: Queue, working: Studio, painter: QuickPainter
) -> None:
    painter.fault = ValueError("no paint left")
    where = sent(client, prompt=PROMPT, size="64x64", steps="4")
    job = finished(queue, where.rpartition("/")[2])
    page = client.get(where).text
    assert "no paint left" in page
    again = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert again["prompt"] == PROMPT and again["steps"] == "4"
    assert again["seed"] == str(job.recipe.seed)
    painter.fault = None
    assert finished(queue, sent(client, **again).rpartition("/")[2]).picture


def test_no_page_has_inline_script_or_style(client: FlaskClient, remembered: Picture) -> None:
    paths = ["/", f"/pictures/{remembered.key}", sent(client, prompt=PROMPT), sent(client, prompt="a cat"), "/x"]
    for path in paths:
        answer = client.get(path)
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", answer.text), path
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_words_are_never_markup(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    picture = remember(replace(recipe, prompt="<script>alert(1)</script>"))
    for path in ("/", f"/pictures/{picture.key}", f"/?picture={picture.key}"):
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
