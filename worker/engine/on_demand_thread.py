"""A background thread that starts with its first task and does all the work of one object.

A GPU's libraries cache their plans per thread, so a network is best called from one thread only. The thread refers to
its owner only while it works, so a painter that is no longer used can be garbage-collected; the thread then ends.

At the end of the process, each thread finishes what it is doing: a thread that is inside torch while the interpreter
ends would abort the process.
"""

import atexit
import threading
import weakref
from collections.abc import Callable

IDLE_SECONDS = 30.0  # after which an idle thread checks whether its owner still exists
END_SECONDS = 60.0  # the longest wait for a thread at the end of the process
ending = threading.Event()  # set at the end of the process
running: dict[threading.Thread, threading.Condition] = {}  # the threads, and what wakes each


class OnDemandThread:
    """Calls `work` as long as `has_work` returns something true; the thread starts on demand.

    `work` must not raise. The condition `changed` guards the state that `has_work` reads.
    """

    def __init__(self, name: str, has_work: Callable[[], object], work: Callable[[], None]) -> None:
        self.name, self.has_work, self.work = name, has_work, work
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    def wake(self) -> None:
        """Start or notify the thread after new work has arrived; the caller must hold `changed`."""
        self.changed.notify()
        if self.thread is None:
            arguments = weakref.ref(self), self.changed
            self.thread = threading.Thread(target=run, args=arguments, name=self.name, daemon=True)
            running[self.thread] = self.changed
            self.thread.start()


def run(owner_ref: "weakref.ref[OnDemandThread]", changed: threading.Condition) -> None:
    """Work until the owner has been collected or the process ends."""
    try:
        work(owner_ref, changed)
    finally:
        running.pop(threading.current_thread(), None)


def work(owner_ref: "weakref.ref[OnDemandThread]", changed: threading.Condition) -> None:
    """See `run`."""
    while not ending.is_set() and (owner := owner_ref()) is not None:
        with changed:
            if not owner.has_work():
                del owner
                if not ending.is_set():
                    changed.wait(IDLE_SECONDS)
                continue
        owner.work()


@atexit.register
def end_all() -> None:
    """Wait until all threads have finished their current work."""
    ending.set()
    for thread, changed in list(running.items()):
        with changed:
            changed.notify_all()
        thread.join(END_SECONDS)
