"""A thread of one's own: always the same, for as long as whoever wants it is there."""

import gc
import threading
import weakref

from tests.real import wait_for
from worker.engine.on_demand_thread import OnDemandThread


class Owner:
    def __init__(self):
        self.waiting, self.threads = [], []
        self.thread = OnDemandThread("owned", lambda: self.waiting, self.work)

    def work(self):
        self.threads.append(threading.current_thread())
        self.waiting.pop()

    def ask(self):
        done = len(self.threads) + 1
        with self.thread.changed:
            self.waiting.append(1)
            self.thread.wake()
        assert wait_for(lambda: len(self.threads) == done)


def test_all_is_done_in_one_thread_however_long_nothing_was_wanted(monkeypatch):
    monkeypatch.setattr("worker.engine.on_demand_thread.IDLE", 0.001)
    owner, pause = Owner(), threading.Event()
    for _ in range(3):
        owner.ask()
        pause.wait(0.05)
    assert len(set(owner.threads)) == 1 and owner.threads[0].is_alive()


def test_it_ends_with_its_owner(monkeypatch):
    monkeypatch.setattr("worker.engine.on_demand_thread.IDLE", 0.01)
    owner = Owner()
    owner.ask()
    thread, gone = owner.threads[0], weakref.ref(owner)
    del owner
    assert wait_for(lambda: gc.collect() >= 0 and gone() is None)
    thread.join(5)
    assert not thread.is_alive()
