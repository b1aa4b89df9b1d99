"""Threads that make the same call at the same time share its result."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.single_flight import SingleFlight
from jobs.store.job_store import open_job_store
from memo import Unavailable
from tests.real import wait_for


def test_threads_that_wait_for_a_call_share_the_next_one():
    """They cannot share the call under way: it may have started before the change that woke them."""
    started, go_on, calls = threading.Event(), threading.Event(), []

    def slowly(name):
        calls.append(name)
        started.set()
        assert go_on.wait(20)
        return len(calls)

    shared = SingleFlight(slowly)
    with ThreadPoolExecutor(30) as pool:
        first = pool.submit(shared, "job")
        assert started.wait(20)
        others = [pool.submit(shared, "job") for _ in range(20)]
        try:
            wait_for(lambda: shared.calls["job"].threads == 21)
        finally:
            go_on.set()
        assert first.result() == 1 and {other.result() for other in others} == {2}
    assert shared("job") == 3 and not shared.calls


def test_a_call_under_another_name_does_not_wait():
    go_on = threading.Event()
    shared = SingleFlight(lambda name: name if name == "quick" else go_on.wait(20))
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(shared, "slow")
        assert shared("quick") == "quick" and not slow.done()
        go_on.set()


def test_an_error_is_not_shared_with_later_calls():
    answers = iter([Unavailable("no"), "yes"])

    def read(name):
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    shared = SingleFlight(read)
    with pytest.raises(Unavailable):
        shared("job")
    assert shared("job") == "yes" and not shared.calls


def test_threads_wait_when_all_connections_are_in_use(redis_url, monkeypatch):
    monkeypatch.setattr("jobs.store.connection.MAX_CONNECTIONS", 2)
    job_store = open_job_store(redis_url)
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(job_store.jobs.find, ["none"] * 400)) == [None] * 400
    job_store.connection.close()
