import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from jobs.queue import Queue
from jobs.store.job_store import JobStore
from memo import SHARED, Memory, Picture, Recipe, Unavailable
from tests.real import finished
from tests.web.conftest import Enter, Serve
from tests.web.test_pages import shown
from web.auth import VISITOR
from web.pages import gallery
from worker.paint import PaintingRunner

Remember = Callable[..., Picture]
SMALL = {"width": 64, "height": 64, "steps": 2}


def painted(client: FlaskClient, queue: Queue, prompt: str) -> str:
    """The key of a picture that is painted now."""
    job = client.post("/api/v1/jobs", json={"prompt": prompt, **SMALL}).json
    picture = finished(queue, job["id"]).picture
    assert picture
    return picture.key


def live(client: FlaskClient, path: str = "/gallery", what: str = "news") -> str:
    """Where the page looks for new pictures."""
    found = re.search(rf'data-{what}="([^"]+)"', client.get(path).text)
    assert found
    return found[1].replace("&amp;", "&")


def test_the_gallery_goes_on_by_its_link(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    keys = [remember(recipe, seed=seed).key for seed in range(26)]
    first = client.get("/gallery").text
    older = re.search(r'data-more href="([^"]+)"', first)
    assert older
    second = client.get(older[1]).text
    assert shown(first) + shown(second) == list(reversed(keys))
    assert "data-more" not in second and "data-events" not in second


@pytest.mark.parametrize("cursor", ["nan", "inf", "tomorrow", ""])
def test_a_broken_cursor_shows_the_newest(
    client: FlaskClient, remember: Remember, recipe: Recipe, cursor: str
) -> None:
    key = remember(recipe).key
    assert shown(client.get(f"/gallery?before={cursor}").text) == [key]


def test_a_search_finds_by_meaning_nearest_first(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    prompts = ("a red fox in the snow", "a fox", "a slice of pizza", "a lighthouse at night")
    keys = [remember(replace(recipe, prompt=prompt)).key for prompt in prompts]
    page = client.get("/gallery?q=the+animal+fox").text
    assert shown(page) == [keys[1], keys[0]]
    assert 'value="the animal fox"' in page


def test_a_search_for_something_else_finds_nothing(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    remember(recipe)
    page = client.get("/gallery?q=tax+law").text
    assert shown(page) == [] and "No picture shows anything like it." in page


@pytest.mark.parametrize("query", ["", "&q=fox"])
def test_the_gallery_shows_one_model_or_all(
    client: FlaskClient, remember: Remember, recipe: Recipe, query: str
) -> None:
    one = remember(recipe).key
    other = remember(replace(recipe, model="slow")).key
    assert shown(client.get(f"/gallery?model=slow{query}").text) == [other]
    assert set(shown(client.get(f"/gallery?model={query}").text)) == {one, other}


def test_mine_are_the_pictures_that_i_was_given(client: FlaskClient, queue: Queue, working: PaintingRunner) -> None:
    client.get("/")  # which names this browser
    mine = painted(client, queue, "a red fox in the snow")
    painted(client.application.test_client(), queue, "a lighthouse at night")
    assert shown(client.get("/gallery?mine=1").text) == [mine]
    assert shown(client.get("/gallery?mine=1&q=lighthouse").text) == []
    assert shown(client.application.test_client().get("/gallery?mine=1").text) == []


def test_another_scope_is_neither_shown_nor_found(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    remember(recipe, scope="alice")
    for path in ("/", "/gallery", "/gallery?q=a+red+fox+in+the+snow"):
        assert shown(client.get(path).text) == []


def test_news_are_what_was_finished_since_the_page(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    painted(client, queue, "a lighthouse at night")
    news = live(client)
    assert shown(client.get(news).json["tiles"]) == []
    keys = [painted(client, queue, "a green apple"), painted(client, queue, "a blue boat")]
    answer = client.get(news).json
    assert shown(answer["tiles"]) == keys[::-1]
    assert shown(client.get(answer["next"]).json["tiles"]) == []


def test_a_finished_picture_comes_as_an_event(client: FlaskClient, queue: Queue, working: PaintingRunner) -> None:
    events = live(client, "/", "events")
    key = painted(client, queue, "a green apple")
    answer = client.get(events)
    assert answer.mimetype == "text/event-stream"
    told = iter(answer.response)
    assert next(told) == b"retry: 1000\n\n"
    name, event, data, *_ = next(told).decode().split("\n")
    answer.close()
    assert event == "event: picture" and shown(json.loads(data.removeprefix("data: "))) == [key]
    assert name.removeprefix("id: ") == queue.job_store.jobs.finished_pictures()[0][0]


def test_whoever_comes_back_is_told_what_it_missed(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    painted(client, queue, "a green apple")
    last = queue.job_store.jobs.finished_pictures()[0][0]
    key = painted(client, queue, "a blue boat")
    answer = client.get("/gallery/events?since=0-0", headers={"Last-Event-ID": last})
    told = iter(answer.response)
    next(told)
    assert key in next(told).decode()
    answer.close()


@pytest.mark.parametrize("since", ["", "x", "1-x", "9" * 30, "1-1-1"])
def test_a_broken_place_in_the_stream_means_its_beginning(
    client: FlaskClient, queue: Queue, working: PaintingRunner, since: str
) -> None:
    key = painted(client, queue, "a green apple")
    assert shown(client.get(f"/gallery/new?since={since}").json["tiles"]) == [key]


def test_another_scopes_pictures_are_no_news(client: FlaskClient, job_store: JobStore, recipe: Recipe) -> None:
    news = live(client)
    finish(job_store, recipe, scope="alice")
    assert shown(client.get(news).json["tiles"]) == []


def finish(job_store: JobStore, recipe: Recipe, *, scope: str = SHARED, user: str = "") -> str:
    """A job that is painted at once, by nobody; the key of its picture."""
    job_store.submissions.open_job(recipe, reason="", scope=scope, user=user, joinable=False)
    claim = job_store.claims.claim("stickers")
    assert claim
    picture = Picture(recipe=claim.recipe, created=1.0, seconds=1.0, scope=scope)
    assert job_store.progress.complete(claim, picture)
    return picture.key


def test_whoever_holds_a_stream_is_written_to_at_pictures_that_are_not_shown(
    client: FlaskClient, job_store: JobStore, recipe: Recipe
) -> None:
    """Only then is it noticed that a window was closed."""
    finish(job_store, recipe, scope="alice")
    key = finish(job_store, recipe)
    answer = client.get("/gallery/events?since=0-0")
    _, comment, event = (next(answer.response) for _ in range(3))
    answer.close()
    assert comment == b": still here\n\n" and key in event.decode()


def test_what_is_mine_is_read_once_for_many_pictures_and_none_is_missed(
    client: FlaskClient, queue: Queue, job_store: JobStore, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "OWN_SECONDS", 0.5)
    read = count_calls(monkeypatch, queue.job_store.jobs, "of_user")
    client.get("/")  # which names this browser
    visitor = client.get_cookie(VISITOR)
    assert visitor
    keys = [finish(job_store, recipe, user=user) for user in ("", "", visitor.value, "", "", visitor.value, "")]
    answer = client.get("/gallery/events?mine=1&since=0-0")
    told = ""
    while keys[5] not in told:
        told += next(answer.response).decode()
    answer.close()
    assert shown(told.replace('\\"', '"')) == [keys[2], keys[5]] and len(read) <= 2
    assert shown(client.get("/gallery/new?mine=1&since=0-0").json["tiles"]) == [keys[5], keys[2]]
    assert len(read) <= 3


def test_a_search_of_mine_reads_what_is_mine_once(
    client: FlaskClient, queue: Queue, remember: Remember, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        remember(recipe, seed=seed)
    client.get("/")  # which names this browser
    read = count_calls(monkeypatch, queue.job_store.jobs, "of_user")
    assert shown(client.get("/gallery?mine=1&q=fox").text) == [] and len(read) == 1


def count_calls(monkeypatch: pytest.MonkeyPatch, whose: object, name: str) -> list[object]:
    """Grows with every call of a method."""
    calls: list[object] = []
    method = getattr(whose, name)
    monkeypatch.setattr(whose, name, lambda *given: calls.append(given) or method(*given))
    return calls


def test_a_caller_holds_so_many_streams_of_every_kind_and_no_more(serve: Serve, enter: Enter) -> None:
    app = serve(streams="3")
    ada, bob = enter(app, "ada"), enter(app, "bob")
    job = ada.post("/api/v1/jobs", json={"prompt": "a red fox", **SMALL}).json["links"]["events"]
    held = [ada.get(path) for path in ("/gallery/events", "/gallery/events", job)]
    for path in ("/gallery/events", job):
        refused = ada.get(path)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
        assert "3 event streams" in refused.text
    assert ada.head("/gallery/events").status_code == 429
    beside = bob.get("/gallery/events")
    assert beside.status_code == 200
    for answer in (beside, beside, *reversed(held)):  # the last first, for one thread holds them all
        answer.close()
    with ada.head(job) as answer:  # of which nothing is ever sent
        assert answer.status_code == 200
    assert not app.extensions["streams"].open


def test_without_keys_streams_are_counted_by_address(serve: Serve) -> None:
    client = serve(keys="off", streams="1").test_client()
    held = client.get("/gallery/events", environ_overrides={"REMOTE_ADDR": "10.0.0.7"})
    for address, status in (("10.0.0.7", 429), ("10.0.0.8", 200)):
        answer = client.get("/gallery/events", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == status
        answer.close()
    held.close()


def test_the_gallery_says_when_memory_is_away(
    client: FlaskClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("no index")

    monkeypatch.setattr(memory, "newest", away)
    monkeypatch.setattr(memory, "search", away)
    for path in ("/gallery", "/gallery?q=fox"):
        answer = client.get(path)
        assert answer.status_code == 200 and "Memory does not answer at the moment." in answer.text
