"""The gallery page, its search and filters, and its streams of new pictures."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from jobs.queue import Queue
from jobs.store.job_store import JobStore
from memo import SHARED, Memory, Picture, Recipe, Unavailable
from tests.real import finished
from tests.web.conftest import ClientFor, Serve
from tests.web.test_pages import shown_keys
from web.auth import VISITOR
from web.pages import gallery
from worker.paint import PaintingRunner

Remember = Callable[..., Picture]
SMALL = {"width": 64, "height": 64, "steps": 2}


def paint(client: FlaskClient, queue: Queue, prompt: str) -> str:
    """Paint a picture; returns its key."""
    job = client.post("/api/v1/jobs", json={"prompt": prompt, **SMALL}).json
    picture = finished(queue, job["id"]).picture
    assert picture
    return picture.key


def new_pictures_url(client: FlaskClient, path: str = "/gallery", kind: str = "new-pictures") -> str:
    """The URL from which a page gets new pictures."""
    link = re.search(rf'data-{kind}="([^"]+)"', client.get(path).text)
    assert link
    return link[1].replace("&amp;", "&")


def test_the_gallery_links_to_older_pictures(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    keys = [remember(recipe, seed=seed).key for seed in range(26)]
    first = client.get("/gallery").text
    older = re.search(r'data-more href="([^"]+)"', first)
    assert older
    second = client.get(older[1]).text
    assert shown_keys(first) + shown_keys(second) == list(reversed(keys))
    assert "data-more" not in second and "data-events" not in second


@pytest.mark.parametrize("cursor", ["nan", "inf", "tomorrow", ""])
def test_an_invalid_cursor_shows_the_newest_pictures(
    client: FlaskClient, remember: Remember, recipe: Recipe, cursor: str
) -> None:
    key = remember(recipe).key
    assert shown_keys(client.get(f"/gallery?before={cursor}").text) == [key]


def test_a_search_lists_the_nearest_in_meaning_first(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    prompts = ("a red fox in the snow", "a fox", "a slice of pizza", "a lighthouse at night")
    keys = [remember(replace(recipe, prompt=prompt)).key for prompt in prompts]
    page = client.get("/gallery?q=the+animal+fox").text
    assert shown_keys(page) == [keys[1], keys[0]]
    assert 'value="the animal fox"' in page


def test_a_search_for_another_subject_finds_nothing(client: FlaskClient, remember: Remember, recipe: Recipe) -> None:
    remember(recipe)
    page = client.get("/gallery?q=tax+law").text
    assert shown_keys(page) == [] and "No picture matches." in page


@pytest.mark.parametrize("query", ["", "&q=fox"])
def test_the_gallery_can_be_limited_to_one_model(
    client: FlaskClient, remember: Remember, recipe: Recipe, query: str
) -> None:
    stickers = remember(recipe).key
    slow = remember(replace(recipe, model="slow")).key
    assert shown_keys(client.get(f"/gallery?model=slow{query}").text) == [slow]
    assert set(shown_keys(client.get(f"/gallery?model={query}").text)) == {stickers, slow}


def test_mine_only_shows_the_pictures_that_this_browser_received(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    client.get("/")  # sets the visitor cookie
    mine = paint(client, queue, "a red fox in the snow")
    paint(client.application.test_client(), queue, "a lighthouse at night")
    assert shown_keys(client.get("/gallery?mine=1").text) == [mine]
    assert shown_keys(client.get("/gallery?mine=1&q=lighthouse").text) == []
    assert shown_keys(client.application.test_client().get("/gallery?mine=1").text) == []


def test_pictures_of_another_scope_are_neither_shown_nor_found(
    client: FlaskClient, remember: Remember, recipe: Recipe
) -> None:
    remember(recipe, scope="alice")
    for path in ("/", "/gallery", "/gallery?q=a+red+fox+in+the+snow"):
        assert shown_keys(client.get(path).text) == []


def test_new_pictures_are_those_finished_since_the_page_was_loaded(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    paint(client, queue, "a lighthouse at night")
    news = new_pictures_url(client)
    assert shown_keys(client.get(news).json["tiles"]) == []
    keys = [paint(client, queue, "a green apple"), paint(client, queue, "a blue boat")]
    answer = client.get(news).json
    assert shown_keys(answer["tiles"]) == keys[::-1]
    assert shown_keys(client.get(answer["next"]).json["tiles"]) == []


def test_a_finished_picture_arrives_as_an_event(client: FlaskClient, queue: Queue, working: PaintingRunner) -> None:
    events = new_pictures_url(client, "/", "events")
    key = paint(client, queue, "a green apple")
    answer = client.get(events)
    assert answer.mimetype == "text/event-stream"
    chunks = iter(answer.response)
    assert next(chunks) == b"retry: 1000\nevent: ready\ndata: true\n\n"
    name, event, data, *_ = next(chunks).decode().split("\n")
    answer.close()
    assert event == "event: picture" and shown_keys(json.loads(data.removeprefix("data: "))) == [key]
    assert name.removeprefix("id: ") == queue.job_store.jobs.finished_pictures("0-0")[0][0]


def test_a_client_that_reconnects_gets_the_events_it_missed(
    client: FlaskClient, queue: Queue, working: PaintingRunner
) -> None:
    paint(client, queue, "a green apple")
    last = queue.job_store.jobs.finished_pictures("0-0")[0][0]
    key = paint(client, queue, "a blue boat")
    answer = client.get("/gallery/events?since=0-0", headers={"Last-Event-ID": last})
    chunks = iter(answer.response)
    next(chunks)
    assert key in next(chunks).decode()
    answer.close()


@pytest.mark.parametrize("since", ["", "x", "1-x", "9" * 30, "1-1-1"])
def test_an_invalid_event_id_starts_the_stream_at_its_beginning(
    client: FlaskClient, queue: Queue, working: PaintingRunner, since: str
) -> None:
    key = paint(client, queue, "a green apple")
    assert shown_keys(client.get(f"/gallery/new?since={since}").json["tiles"]) == [key]


def test_new_pictures_of_another_scope_are_not_shown(
    client: FlaskClient, job_store: JobStore, recipe: Recipe
) -> None:
    news = new_pictures_url(client)
    finish(job_store, recipe, scope="alice")
    assert shown_keys(client.get(news).json["tiles"]) == []


def finish(job_store: JobStore, recipe: Recipe, *, scope: str = SHARED, user: str = "") -> str:
    """Complete a job without a worker; returns the key of its picture."""
    job_store.submissions.open_job(recipe, reason="", scope=scope, user=user, joinable=False)
    claim = job_store.claims.claim("stickers")
    assert claim
    picture = Picture(recipe=claim.recipe, created=1.0, seconds=1.0, scope=scope)
    assert job_store.progress.complete(claim, picture)
    return picture.key


def test_nothing_that_a_gallery_gets_tells_when_a_picture_of_another_scope_is_finished(
    client: FlaskClient, job_store: JobStore, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither comments, which come by the clock alone, nor the addresses of the stream and of the next pictures."""
    monkeypatch.setattr(gallery, "HEARTBEAT_SECONDS", 0.3)
    answer, started = client.get("/gallery/events?since=0-0"), time.monotonic()
    next(answer.response)
    for _ in range(5):
        finish(job_store, recipe, scope="alice")
    [entry] = job_store.connection.redis.xrevrange(job_store.connection.prefix + "finished", count=1)
    comments = [next(answer.response) for _ in range(2)]
    answer.close()
    assert comments == [b": still here\n\n"] * 2 and 0.6 <= time.monotonic() - started < 5
    assert client.get("/gallery/new?since=0-0").json["next"] == "/gallery/new?since=0-0"
    assert entry[0] not in client.get("/gallery").text + client.get("/").text


def test_a_new_picture_is_sent_at_once_between_two_comments(
    client: FlaskClient, job_store: JobStore, recipe: Recipe
) -> None:
    finish(job_store, recipe, scope="alice")
    key, started = finish(job_store, recipe), time.monotonic()
    answer = client.get("/gallery/events?since=0-0")
    _, event = (next(answer.response) for _ in range(2))
    answer.close()
    assert key in event.decode() and time.monotonic() - started < gallery.HEARTBEAT_SECONDS / 2


def test_the_users_jobs_are_read_once_for_many_new_pictures_and_none_is_missed(
    client: FlaskClient, queue: Queue, job_store: JobStore, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "OWN_SECONDS", 0.5)
    reads = count_calls(monkeypatch, queue.job_store.jobs, "of_user")
    client.get("/")  # sets the visitor cookie
    visitor = client.get_cookie(VISITOR)
    assert visitor
    keys = [finish(job_store, recipe, user=user) for user in ("", "", visitor.value, "", "", visitor.value, "")]
    answer = client.get("/gallery/events?mine=1&since=0-0")
    text = ""
    while keys[5] not in text:
        text += next(answer.response).decode()
    answer.close()
    assert shown_keys(text.replace('\\"', '"')) == [keys[2], keys[5]] and len(reads) <= 2
    assert shown_keys(client.get("/gallery/new?mine=1&since=0-0").json["tiles"]) == [keys[5], keys[2]]
    assert len(reads) <= 3


def test_a_search_of_my_pictures_reads_my_jobs_once(
    client: FlaskClient, queue: Queue, remember: Remember, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        remember(recipe, seed=seed)
    client.get("/")  # sets the visitor cookie
    reads = count_calls(monkeypatch, queue.job_store.jobs, "of_user")
    assert shown_keys(client.get("/gallery?mine=1&q=fox").text) == [] and len(reads) == 1


def count_calls(monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> list[object]:
    """A list that grows with every call of a method."""
    calls: list[object] = []
    method = getattr(target, name)
    monkeypatch.setattr(target, name, lambda *args: calls.append(args) or method(*args))
    return calls


def test_the_limit_on_open_streams_counts_all_kinds_together(serve: Serve, client_for: ClientFor) -> None:
    app = serve(long_requests="3")
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    job = ada.post("/api/v1/jobs", json={"prompt": "a red fox", **SMALL}).json["links"]["events"]
    streams = [ada.get(path) for path in ("/gallery/events", "/gallery/events", job)]
    for path in ("/gallery/events", job):
        refused = ada.get(path)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
        assert "at most 3 may stream or wait at once" in refused.text
    assert ada.head("/gallery/events").status_code == 429
    bobs_stream = bob.get("/gallery/events")
    assert bobs_stream.status_code == 200
    for answer in (bobs_stream, bobs_stream, *reversed(streams)):  # in reverse order: one thread opened them all
        answer.close()
    with ada.head(job) as answer:  # a HEAD request, which opens a stream and sends nothing
        assert answer.status_code == 200
    assert not app.extensions["long_requests"].by_user


def test_without_keys_streams_are_counted_per_address(serve: Serve) -> None:
    client = serve(keys="off", long_requests="1").test_client()
    stream = client.get("/gallery/events", environ_overrides={"REMOTE_ADDR": "10.0.0.7"})
    for address, status in (("10.0.0.7", 429), ("10.0.0.8", 200)):
        answer = client.get("/gallery/events", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == status
        answer.close()
    stream.close()


def test_the_gallery_says_when_memory_does_not_respond(
    client: FlaskClient, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Unavailable("no index")

    monkeypatch.setattr(memory, "newest", fail)
    monkeypatch.setattr(memory, "search", fail)
    for path in ("/gallery", "/gallery?q=fox"):
        answer = client.get(path)
        assert answer.status_code == 200 and "Memory does not respond at the moment." in answer.text
