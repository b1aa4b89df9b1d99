"""A background thread that does all the work of its owner and ends with it."""

import gc
import subprocess
import sys
import threading
import weakref

import pytest

from tests.real import ROOT, wait_for
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


EXIT_WHILE_WORKING = """
import threading, torch
from worker.engine.on_demand_thread import OnDemandThread

began = threading.Event()

def work():
    began.set()
    for _ in range(20):
        torch.randn(300, 300) @ torch.randn(300, 300)
    print("finished", flush=True)

thread = OnDemandThread("step loop", lambda: not began.is_set() or {more}, work)
with thread.changed:
    thread.wake()
began.wait()
"""


@pytest.mark.parametrize("more", [True, False])
def test_a_process_that_ends_while_a_thread_is_inside_torch_waits_for_it(more):
    """Otherwise it aborts now and then with `terminate called without an active exception`."""
    for _ in range(3):
        command = [sys.executable, "-c", EXIT_WHILE_WORKING.format(more=more)]
        completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (completed.returncode, completed.stderr) == (0, "") and "finished" in completed.stdout
