"""A few requests of one user are worked on at once; the others wait, and nobody else waits for them."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobs.queue import Queue
from memo import BadRecipe, Memory
from tests.real import wait_for
from web.limits import concurrency
from web.limits.concurrency import PERMITS, ConcurrencyLimit, UserPermits, without_permit
from web.openai import routes

MAX_WAITING = 40  # fewer than in the product, so that each request of a test gets a thread
Serve, ClientFor = Callable[..., Flask], Callable[..., FlaskClient]
MODELS = "/api/v1/models"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(PERMITS + MAX_WAITING + 1) as pool:
        yield pool


class Work:
    """A view that goes on until it may end, and counts how many of it are running."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.running, self.most, self.lock, self.may_end = 0, 0, threading.Lock(), threading.Event()
        app.view_functions["api.list_models"] = self.run

    def run(self) -> dict[str, object]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.may_end.wait(20)
        with self.lock:
            self.running -= 1
        return {}


@pytest.fixture
def work(serve: Serve, pool: ThreadPoolExecutor) -> Iterator[Work]:
    work = Work(serve())
    yield work
    work.may_end.set()  # even if the test failed, or the pool would never shut down


def get_often(pool: ThreadPoolExecutor, client: FlaskClient, times: int) -> list[Future[int]]:
    """The statuses of as many requests at once."""
    return [pool.submit(lambda: client.get(MODELS).status_code) for _ in range(times)]


def test_a_few_requests_of_one_user_are_worked_on_at_once(
    work: Work, client_for: ClientFor, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "MAX_HOLD_SECONDS", 60.0)
    app = work.app
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    of_ada = get_often(pool, ada, 20)
    wait_for(lambda: work.running == PERMITS and app.extensions["concurrency"].by_user["key ada"].requests == 20)
    of_bob = get_often(pool, bob, 1)
    wait_for(lambda: work.running == PERMITS + 1)  # bob waits for nobody
    assert ada.get("/healthz").status_code in (200, 503) and ada.get("/readyz").status_code == 200
    work.may_end.set()
    assert {answer.result() for answer in of_ada + of_bob} == {200}
    assert work.most == PERMITS + 1 and not app.extensions["concurrency"].by_user


def test_beyond_a_number_that_waits_requests_are_refused(
    work: Work, client_for: ClientFor, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "MAX_WAITING", MAX_WAITING)
    app = work.app
    ada, bob = client_for(app, "ada"), client_for(app, "bob")
    taken = get_often(pool, ada, PERMITS + MAX_WAITING)
    wait_for(lambda: app.extensions["concurrency"].by_user["key ada"].requests == PERMITS + MAX_WAITING)
    refused = ada.get(MODELS)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
    assert bob.get("/api/v1/jobs").status_code == 200
    work.may_end.set()
    assert {answer.result() for answer in taken} == {200}


def test_many_users_together_leave_threads_for_the_others(
    work: Work, client_for: ClientFor, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who have a few requests already are refused; others are let in."""
    monkeypatch.setattr(concurrency, "MAX_TOGETHER", 3 * PERMITS)
    app = work.app
    ada, bob, eve = (client_for(app, name) for name in ("ada", "bob", "eve"))
    taken = get_often(pool, ada, 2 * PERMITS) + get_often(pool, bob, PERMITS)
    users = app.extensions["concurrency"].by_user
    wait_for(lambda: sum(permits.requests for permits in list(users.values())) == 3 * PERMITS)
    assert (ada.get(MODELS).status_code, bob.get(MODELS).status_code) == (429, 429)
    assert eve.get("/api/v1/jobs").status_code == 200
    work.may_end.set()
    assert {answer.result() for answer in taken} == {200}


def test_requests_that_wait_for_pictures_have_no_permit(
    serve: Serve, client_for: ClientFor, pool: ThreadPoolExecutor, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "WAIT_SECONDS", 3.0)
    ada = client_for(serve(), "ada")
    bodies = [{"prompt": prompt, "size": "64x64"} for prompt in ("a red fox", "a castle", "a teapot")]
    waiting = [pool.submit(ada.post, "/v1/images/generations", json=body) for body in bodies]
    wait_for(lambda: len(queue.events.watchers) == PERMITS)
    started = time.monotonic()
    assert ada.get(MODELS).status_code == 200
    assert time.monotonic() - started < 2
    assert {answer.result().status_code for answer in waiting} == {503}


@pytest.mark.parametrize("path", ["/gallery/events", "/api/v1/jobs/JOB/events"])
def test_open_streams_have_no_permit(
    serve: Serve, client_for: ClientFor, pool: ThreadPoolExecutor, queue: Queue, path: str
) -> None:
    ada = client_for(app := serve(), "ada")
    job = ada.post("/api/v1/jobs", json={"prompt": "a red fox", "width": 64, "height": 64}).json["id"]

    def read_some() -> int:
        with ada.get(path.replace("JOB", job)) as stream:
            return len(list(itertools.islice(stream.response, 4)))

    streams = [pool.submit(read_some) for _ in range(PERMITS)]
    wait_for(lambda: len(queue.events.watchers) == 1 and len(*queue.events.watchers.values()) == PERMITS)
    started = time.monotonic()
    assert ada.get(MODELS).status_code == 200
    assert time.monotonic() - started < 2
    queue.events.stop()  # ends the streams
    assert all(stream.result() for stream in streams)
    assert not app.extensions["concurrency"].by_user


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_wait_the_request_has_its_permit_again(
    serve: Serve, client_for: ClientFor, memory: Memory, fails: bool
) -> None:
    ada = client_for(app := serve(), "ada")
    limit: ConcurrencyLimit = app.extensions["concurrency"]
    seen = []

    def view() -> str:
        with without_permit():
            seen.append("key ada" in limit.by_user)
        seen.append("key ada" in limit.by_user)
        if fails:
            raise ValueError
        return ""

    app.view_functions["api.list_models"] = view
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert ada.get(MODELS).status_code == (500 if fails else 200)
    assert seen == [False, True] and not limit.by_user


def test_what_is_waited_for_comes_without_a_permit(serve: Serve, client_for: ClientFor) -> None:
    ada = client_for(app := serve(), "ada")
    limit: ConcurrencyLimit = app.extensions["concurrency"]

    def items() -> Iterator[bool]:
        yield "key ada" in limit.by_user

    def view() -> dict[str, object]:
        return {"items": [(item, "key ada" in limit.by_user) for item in concurrency.wait_without_permit(items())]}

    app.view_functions["api.list_models"] = view
    assert ada.get(MODELS).json == {"items": [[False, True]]}


def test_a_request_behind_others_that_hang_goes_on_soon(
    work: Work, client_for: ClientFor, pool: ThreadPoolExecutor
) -> None:
    ada = client_for(work.app, "ada")
    hanging = get_often(pool, ada, PERMITS)
    wait_for(lambda: work.running == PERMITS)
    assert ada.get("/api/v1/jobs").status_code == 200
    work.may_end.set()
    assert {answer.result() for answer in hanging} == {200}
    assert not work.app.extensions["concurrency"].by_user


def test_a_long_queue_is_not_let_go_all_at_once(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "MAX_HOLD_SECONDS", 0.5)
    limit, running, most, lock = ConcurrencyLimit(), 0, 0, threading.Lock()

    def work_a_little() -> None:
        nonlocal running, most
        with limit.permit("ada"):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.1)
            with lock:
                running -= 1

    for done in [pool.submit(work_a_little) for _ in range(40)]:  # takes 1.3 s
        done.result()
    assert most == PERMITS and not limit.by_user


def test_a_permit_that_was_passed_on_is_not_given_back_twice(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "MAX_HOLD_SECONDS", 0.05)
    permits = UserPermits()
    expired = [permits.take() for _ in range(PERMITS)]
    current = [permits.take() for _ in range(PERMITS)]  # as the first ones expire
    monkeypatch.setattr(concurrency, "MAX_HOLD_SECONDS", 60.0)
    for permit in expired:
        permits.give_back(permit)
    assert list(permits.held) == current


def test_an_upload_needs_no_permit_while_it_is_read(
    work: Work, client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit: ConcurrencyLimit = work.app.extensions["concurrency"]
    seen = []

    def read(data: bytes) -> bytes:
        seen.append(dict(limit.by_user))
        raise BadRecipe("image", "it", "send another one")

    monkeypatch.setattr("web.uploads.read_init_image", read)
    assert client_for(work.app, "ada").post("/api/v1/init-images", data=b"a picture").status_code == 422
    assert seen == [{}]
