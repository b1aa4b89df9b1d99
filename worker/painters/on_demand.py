"""A thread that is there while there is something to do: it owns what one thread only may use.

It ends when nothing came for a while, so that a painter that nobody needs any more is not kept alive by it.
"""

import threading
from collections.abc import Callable

IDLE = 30.0  # seconds


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
            self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
            self.thread.start()

    def run(self) -> None:
        """Until nothing was wanted for a while."""
        while True:
            with self.changed:
                if not self.changed.wait_for(self.wanted, IDLE):
                    self.thread = None
                    return
            self.work()
