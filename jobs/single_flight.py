"""One call for all threads that ask for the same thing at the same time. Does not know what is read."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True)
class Call(Generic[Value]):
    """The last call under a name, while a thread still needs it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    started: float = -math.inf
    value: Value | None = None


class SingleFlight(Generic[Value]):
    """Calls `read` by name. A call that started after a thread asked serves that thread as well as its own would."""

    def __init__(self, read: Callable[[str], Value]) -> None:
        self.read, self.lock = read, threading.Lock()
        self.calls: dict[str, Call[Value]] = {}

    def __call__(self, name: str) -> Value:
        """What `read` returns; raises what it raises."""
        asked = time.monotonic()
        with self.lock:
            call = self.calls.setdefault(name, Call())
            call.users += 1
        try:
            with call.lock:
                if call.started < asked:
                    started = time.monotonic()
                    call.value = self.read(name)
                    call.started = started
                return call.value  # type: ignore[return-value]  # set by now
        finally:
            with self.lock:
                call.users -= 1
                if not call.users:
                    del self.calls[name]
