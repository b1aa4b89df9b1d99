"""One reading for all who ask at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.single_flight import SingleFlight
from jobs.store import job_store as job_stores
from memo import Unavailable
from tests.real import wait_for


def test_threads_that_wait_for_a_call_share_the_next_one():
    """Not the one under way: it may have been begun before what they were woken for."""
    begun, go_on, read = threading.Event(), threading.Event(), []

    def slowly(name):
        read.append(name)
        begun.set()
        assert go_on.wait(20)
        return len(read)

    shared = SingleFlight(slowly)
    with ThreadPoolExecutor(30) as pool:
        first = pool.submit(shared, "job")
        assert begun.wait(20)
        others = [pool.submit(shared, "job") for _ in range(20)]
        wait_for(lambda: shared.calls["job"].users == 21)
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
    job_store = job_stores.open_job_store(redis_url)
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(job_store.jobs.find, ["none"] * 400)) == [None] * 400
    job_store.connection.close()
