"""A request that arrives more than once is carried out once, even if the first attempt fails or hangs."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, copy_current_request_context
from werkzeug.exceptions import Conflict

from jobs.job import Job
from jobs.store.job_store import JobStore
from memo import Recipe
from web import run_once as module
from web.run_once import NameTaken, run_once


@pytest.fixture(autouse=True)
def request_context(app: Flask) -> Iterator[None]:
    with app.test_request_context(environ_base={"REMOTE_ADDR": "127.0.0.1"}):
        yield


@pytest.fixture
def job(job_store: JobStore, recipe: Recipe) -> Job:
    return job_store.submissions.open_job(recipe, reason="", scope="shared")


def must_not_run() -> list[Job]:
    raise AssertionError("the request is carried out twice")


def test_a_second_request_gets_the_jobs_of_the_first(job: Job) -> None:
    assert run_once("name", lambda: [job]) == ([job], False)
    assert run_once("name", must_not_run) == ([job], True)


def test_of_simultaneous_requests_one_is_carried_out_and_the_others_wait(job: Job) -> None:
    started, created = threading.Event(), []

    def create() -> list[Job]:
        created.append(1)
        assert started.wait(20)
        return [job]

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(copy_current_request_context(lambda: run_once("name", create))) for _ in range(4)]
        started.set()
        results = [future.result() for future in waiting]
    assert len(created) == 1 and sorted(reused for _, reused in results) == [False, True, True, True]


def test_a_request_that_failed_can_be_sent_again(job: Job) -> None:
    with pytest.raises(AssertionError):
        run_once("name", must_not_run)
    assert run_once("name", lambda: [job]) == ([job], False)


def test_a_request_whose_process_died_can_be_sent_again(job_store: JobStore, job: Job) -> None:
    job_store.requests.compare_and_set("name", '{"fingerprint": "", "token": "dead process"}', 0.05)
    assert run_once("name", lambda: [job]) == ([job], False)


def test_a_request_is_refused_while_an_earlier_one_takes_too_long(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    job_store.requests.compare_and_set("name", '{"fingerprint": "", "token": "slow process"}', 60)
    with pytest.raises(Conflict, match="being processed"):
        run_once("name", must_not_run)


def test_a_name_belongs_to_one_request(job: Job) -> None:
    run_once("name", lambda: [job], fingerprint="one")
    with pytest.raises(NameTaken):
        run_once("name", must_not_run, fingerprint="other")


def test_jobs_that_no_longer_answer_are_replaced(job: Job) -> None:
    run_once("name", lambda: [job])
    assert run_once("name", lambda: [job], reuse=lambda ids: None) == ([job], False)
    assert run_once("name", must_not_run) == ([job], True)
