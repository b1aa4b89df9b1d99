"""Requests that hold a thread for long count together, whatever dialect they speak, and end with their client."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.exceptions import TooManyRequests

from memo import Unavailable
from tests.real import wait_for
from web import main
from web.a1111 import tasks
from web.config import WebConfig
from web.limits.long_requests import MAX_LONG, LongRequests
from web.openai import routes

FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64}
IMAGES = {"prompt": FOX["prompt"], "size": "64x64"}
Serve, ClientFor = Callable[..., Flask], Callable[..., FlaskClient]
Request = tuple[str, dict[str, Any]]


def edit() -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    return {"data": {**IMAGES, "image": (io.BytesIO(file.getvalue()), "a.png")}}


def test_by_default_one_user_can_take_a_quarter_of_the_threads_for_long_requests_at_most() -> None:
    assert 0 < int(WebConfig().long_requests) <= MAX_LONG / 4


WAITING: dict[str, Callable[[], Request]] = {
    "OpenAI": lambda: ("/v1/images/generations", {"json": IMAGES}),
    "OpenAI edits": lambda: ("/v1/images/edits", edit()),
    "OpenAI streams": lambda: ("/v1/images/generations", {"json": {**IMAGES, "stream": True}}),
    "AUTOMATIC1111": lambda: ("/sdapi/v1/txt2img", {"json": FOX}),
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests that nobody answers end after two seconds."""
    monkeypatch.setattr(routes, "WAIT_SECONDS", 2.0)
    monkeypatch.setattr(tasks, "WAIT_SECONDS", 2.0)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def begin(pool: ThreadPoolExecutor, client: FlaskClient, request: Request) -> Future[Any]:
    path, options = request
    return pool.submit(client.post, path, **options)


@pytest.mark.parametrize("dialect", ["OpenAI", "OpenAI edits", "AUTOMATIC1111"])
def test_a_request_that_waits_for_its_picture_counts_like_a_stream(
    serve: Serve, client_for: ClientFor, pool: ThreadPoolExecutor, dialect: str
) -> None:
    app = serve(long_requests="1")
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    waiting = begin(pool, ada, WAITING[dialect]())
    wait_for(lambda: app.extensions["long_requests"].by_user)
    for path, options in (make() for make in WAITING.values()):
        refused = ada.post(path, **options)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert ada.get("/gallery/events").status_code == 429
    with bob.get("/gallery/events") as answer:
        assert answer.status_code == 200
    waiting.result()
    assert not app.extensions["long_requests"].by_user


def test_a_stream_of_the_images_api_counts_until_it_is_closed(serve: Serve, client_for: ClientFor) -> None:
    ada = client_for(app := serve(long_requests="1"), "ada")
    path, options = WAITING["OpenAI streams"]()
    with ada.post(path, **options) as stream:
        assert stream.status_code == 200 and ada.post(path, **options).status_code == 429
    assert not app.extensions["long_requests"].by_user


def test_a_repeated_request_that_joins_its_first_attempt_counts_towards_the_rate(
    serve: Serve, client_for: ClientFor
) -> None:
    ada = client_for(serve(rate="3/hour"), "ada")
    path, options = WAITING["OpenAI streams"]()
    statuses = []
    for _ in range(4):
        with ada.post(path, **options) as answer:
            statuses.append(answer.status_code)
    assert statuses == [200, 200, 200, 429]


def test_a_request_ends_when_its_client_is_gone(client: FlaskClient) -> None:
    gone = threading.Event()
    client.environ_base["waitress.client_disconnected"] = gone.is_set
    for name in ("OpenAI", "AUTOMATIC1111"):
        gone.set()
        path, options = WAITING[name]()
        started = time.monotonic()
        assert client.post(path, **options).status_code in (503, 504)
        assert time.monotonic() - started < 1.5


def test_clients_that_go_away_free_their_user_but_not_without_end() -> None:
    requests = LongRequests(limit=2, most=10)
    for _ in range(4):
        requests.acquire("ada", lambda: True)
    with pytest.raises(TooManyRequests):
        requests.acquire("ada", lambda: False)


def test_threads_are_kept_for_short_requests_whoever_waits() -> None:
    requests = LongRequests(limit=None, most=3)
    for name in ("ada", "bob", "carol"):
        requests.acquire(name, lambda: False)
    with pytest.raises(Unavailable, match="3 requests are streaming or waiting"):
        requests.acquire("dan", lambda: False)
    assert main.THREADS - MAX_LONG >= 100
