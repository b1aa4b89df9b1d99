"""A thread that owns what one thread only may use: a GPU's libraries keep for each thread what they planned for it.

It begins with the first thing to do and lasts as long as its owner. It holds the owner only while it works, so that a
painter that nobody needs any more is not kept alive by it.
"""

import threading
import weakref
from collections.abc import Callable

IDLE = 30.0  # seconds after which it looks whether its owner is still there


class OnDemandThread:
    """Calls `work`, which raises nothing, while `wanted` says so; `changed` guards what `wanted` looks at."""

    def __init__(self, name: str, wanted: Callable[[], object], work: Callable[[], None]) -> None:
        self.name, self.wanted, self.work = name, wanted, work
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to do now; for whoever holds `changed`."""
        self.changed.notify()
        if self.thread is None:
            told = weakref.ref(self), self.changed
            self.thread = threading.Thread(target=run, args=told, name=self.name, daemon=True)
            self.thread.start()


def run(owner: "weakref.ref[OnDemandThread]", changed: threading.Condition) -> None:
    """Until the owner is gone."""
    while (found := owner()) is not None:
        with changed:
            if not found.wanted():
                del found
                changed.wait(IDLE)
                continue
        found.work()
