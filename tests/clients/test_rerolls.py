"""Repeated requests of unmodified clients: a user who received the picture gets another one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest
import webuiapi

from jobs import events
from jobs.job import Job, Origin, State
from jobs.store.received import make_receipt
from memo import Picture, Unavailable
from tests.real import free_port, serving, wait_for
from web.main import open_server
from web.rerolls import record_received

FOX = {"prompt": "a red fox in the snow", "size": "64x64"}
A1111_FOX = {"prompt": "a red fox in the snow", "width": 64, "height": 64, "steps": 4}
HORDE_FOX = {"prompt": "a red fox in the snow", "params": {"width": 64, "height": 64, "n": 1}, "r2": False}


@pytest.fixture
def url(app, monkeypatch):
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)
    with serving(app) as url:
        yield url


@pytest.fixture
def shipped_server(app):
    """The web server that users have, which notices when a client is gone."""
    port = free_port()
    server = open_server(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.serve, args=(lambda: None, 5.0))
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()
    thread.join(10)


@pytest.fixture
def ai(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def memory_knows(memory):
    """Waits until a picture is in the index."""
    return lambda key: wait_for(lambda: memory.index.get(key))


def ask_openai(ai, memory_knows, **options):
    """Request the fox once, and return the key of its picture."""
    [picture] = ai.images.generate(**FOX, **options).memo["pictures"]
    memory_knows(picture["key"])
    return picture["key"]


def ask_a1111(url, memory_knows, headers=None):
    api = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1")
    api.session.headers.update(headers or {})
    seed = api.txt2img(**A1111_FOX).info["seed"]
    api.session.close()
    return seed


def ask_horde(url, memory_knows, headers=None):
    with httpx.Client(base_url=f"{url}/api/v2", timeout=30, headers=headers) as horde:
        name = horde.post("/generate/async", json=HORDE_FOX).json()["id"]
        wait_for(lambda: horde.get(f"/generate/check/{name}").json()["done"])
        [generation] = horde.get(f"/generate/status/{name}").json()["generations"]
    return generation["seed"]


def test_three_times_the_same_request_gives_three_pictures(ai, memory_knows, working):
    assert len({ask_openai(ai, memory_knows) for _ in range(3)}) == 3


@pytest.mark.parametrize("ask", [ask_a1111, ask_horde])
def test_a_repetition_gives_another_picture_in_the_other_dialects(url, memory_knows, working, ask):
    assert len({ask(url, memory_knows) for _ in range(3)}) == 3


@pytest.mark.parametrize("ask", [ask_a1111, ask_horde])
def test_a_policy_in_the_header_gives_the_same_picture_again(url, memory_knows, working, ask):
    assert len({ask(url, memory_knows, {"X-Memo-Policy": "auto"}) for _ in range(3)}) == 1


def test_openai_takes_the_policy_from_the_body_or_the_header(ai, memory_knows, working):
    first = ask_openai(ai, memory_knows)
    assert ask_openai(ai, memory_knows, extra_body={"memo": {"policy": "auto"}}) == first
    assert ask_openai(ai, memory_knows, extra_headers={"X-Memo-Policy": "auto"}) == first


def test_another_client_gets_the_remembered_picture(ai, memory_knows, working):
    first = ask_openai(ai, memory_knows)
    assert ask_openai(ai, memory_knows, extra_headers={"User-Agent": "somebody else"}) == first
    assert ask_openai(ai, memory_knows, user="a third") == first


def test_a_picture_that_somebody_else_painted_comes_before_a_new_painting(ai, memory_knows, working):
    first = ask_openai(ai, memory_knows)
    second = ask_openai(ai, memory_knows)
    others = {"extra_headers": {"User-Agent": "somebody else"}}
    assert [ask_openai(ai, memory_knows, **others) for _ in range(2)] == [second, first]


def test_a_given_seed_gives_the_same_picture_again(ai, memory_knows, working):
    assert ask_openai(ai, memory_knows, extra_body={"seed": 5}) == ask_openai(
        ai, memory_knows, extra_body={"seed": 5}
    )


def test_a_stream_counts_as_received_at_its_end(ai, memory_knows, working):
    *_, completed = ai.images.generate(**FOX, stream=True)
    memory_knows(completed.memo["key"])
    assert ask_openai(ai, memory_knows) != completed.memo["key"]


def test_after_a_while_a_repetition_gets_the_remembered_picture(ai, job_store, memory_knows, working):
    first = ask_openai(ai, memory_knows)
    [name] = job_store.connection.redis.keys("*received:*")
    for member in job_store.connection.redis.zrange(name, 0, -1):
        job_store.connection.redis.zincrby(name, -30 * 60, member)
    assert ask_openai(ai, memory_knows) == first


def test_a_picture_that_was_joined_by_meaning_counts_for_the_words_of_the_request(
    ai, queue, painter, memory_knows, working
):
    painter.go_on.clear()
    other = {"prompt": "a red fox in snow", "size": "64x64"}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ai.images.generate, **FOX, extra_headers={"User-Agent": "somebody else"})
        wait_for(lambda: queue.job_store.jobs.recent(1))
        second = pool.submit(ai.images.generate, **other)
        wait_for(lambda: len(queue.job_store.jobs.recent(2)) == 2)
        painter.go_on.set()
        keys = {answer.result().memo["pictures"][0]["key"] for answer in (first, second)}
    assert len(keys) == 1
    memory_knows(*keys)
    assert ai.images.generate(**other).memo["pictures"][0]["key"] not in keys


def test_two_users_of_one_program_are_told_apart(ai, memory_knows, working):
    first = ask_openai(ai, memory_knows, user="ann")
    assert ask_openai(ai, memory_knows, user="bob") == first
    assert ask_openai(ai, memory_knows, user="ann") != first


def test_a_picture_whose_answer_failed_is_sent_again(ai, memory_knows, working, monkeypatch):
    def fail(key):
        monkeypatch.undo()
        raise Unavailable("the store does not answer")

    monkeypatch.setattr("web.openai.routes.read_image", fail)
    with pytest.raises(openai.InternalServerError):
        ai.images.generate(**FOX, response_format="b64_json")
    first = ask_openai(ai, memory_knows)
    assert ask_openai(ai, memory_knows) != first


def test_a_policy_in_the_header_is_part_of_the_request(url, memory_knows, working):
    task = {**A1111_FOX, "force_task_id": "mine"}
    with httpx.Client(base_url=f"{url}/sdapi/v1", timeout=30) as http:
        first, same, other = (
            http.post("txt2img", json=task, headers=headers).json()["images"]
            for headers in ({}, {}, {"X-Memo-Policy": "refresh"})
        )
    assert first == same != other


def test_the_setting_switches_it_off(app, ai, memory_knows, working):
    app.extensions["config"] = replace(app.extensions["config"], reroll_minutes="0")
    assert ask_openai(ai, memory_knows) == ask_openai(ai, memory_knows)


def test_an_answer_that_never_arrived_is_sent_again(shipped_server, queue, painter, memory_knows, working):
    painter.go_on.clear()
    with openai.OpenAI(base_url=f"{shipped_server}/v1", api_key="any", max_retries=0) as ai:
        with pytest.raises(openai.APITimeoutError):
            ai.with_options(timeout=1).images.generate(**FOX)
        painter.go_on.set()
        [job] = queue.job_store.jobs.recent(10)
        memory_knows(job.key)
        assert ask_openai(ai, memory_knows) == job.key
        assert ask_openai(ai, memory_knows) != job.key


@pytest.mark.parametrize(("is_gone", "count"), [(False, 1), (True, 0)])
def test_nothing_is_recorded_for_a_client_that_is_gone(app, recipe, job_store, is_gone, count):
    picture = Picture(recipe=replace(recipe, seed=1), created=0.0, seconds=1.0)
    job = Job(id="1", painting=None, state=State.DONE, origin=Origin.MEMORY, reason="", recipe=recipe, created=0.0)
    job = replace(job, picture=picture, receipt=make_receipt("ann", recipe.key))
    with app.test_request_context(environ_overrides={"waitress.client_disconnected": lambda: is_gone}):
        record_received([job])
    assert len(job_store.received.find(job.receipt, 60)) == count


def test_a_request_with_another_policy_in_its_header_does_not_join_the_first(ai, queue, painter, working):
    painter.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ai.images.generate, **FOX)]
        wait_for(lambda: queue.job_store.jobs.recent(1))
        answers.append(pool.submit(ai.images.generate, **FOX, extra_headers={"X-Memo-Policy": "refresh"}))
        wait_for(lambda: len(queue.job_store.jobs.recent(2)) == 2)
        painter.go_on.set()
        assert len({answer.result().memo["pictures"][0]["key"] for answer in answers}) == 2
