"""A background thread that does all the work of its owner and ends with it."""

import gc
import threading
import weakref

from tests.real import wait_for
from worker.engine.on_demand_thread import OnDemandThread


class Owner:
    def __init__(self):
        self.waiting, self.threads = [], []
        self.thread = OnDemandThread("test", lambda: self.waiting, self.work)

    def work(self):
        self.threads.append(threading.current_thread())
        self.waiting.pop()

    def do_work(self):
        expected = len(self.threads) + 1
        with self.thread.changed:
            self.waiting.append(1)
            self.thread.wake()
        assert wait_for(lambda: len(self.threads) == expected)


def test_all_work_is_done_in_one_thread_however_long_the_pauses(monkeypatch):
    monkeypatch.setattr("worker.engine.on_demand_thread.IDLE_SECONDS", 0.001)
    owner, pause = Owner(), threading.Event()
    for _ in range(3):
        owner.do_work()
        pause.wait(0.05)
    assert len(set(owner.threads)) == 1 and owner.threads[0].is_alive()


def test_the_thread_ends_with_its_owner(monkeypatch):
    monkeypatch.setattr("worker.engine.on_demand_thread.IDLE_SECONDS", 0.01)
    owner = Owner()
    owner.do_work()
    thread, owner_ref = owner.threads[0], weakref.ref(owner)
    del owner
    assert wait_for(lambda: gc.collect() >= 0 and owner_ref() is None)
    thread.join(5)
    assert not thread.is_alive()
