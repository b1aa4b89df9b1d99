"""Lets one call serve all threads that ask for the same value at the same time (after Go's x/sync/singleflight)."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True)
class Call(Generic[Value]):
    """The last call with a name, kept while a thread needs it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0  # that need it
    started: float = -math.inf  # by time.monotonic
    value: Value | None = None


class SingleFlight(Generic[Value]):
    """Calls `read(name)` for several threads.

    A thread takes the value of any call that started after it asked: its own call could return nothing newer.
    """

    def __init__(self, read: Callable[[str], Value]) -> None:
        self.read, self.lock = read, threading.Lock()
        self.calls: dict[str, Call[Value]] = {}

    def __call__(self, name: str) -> Value:
        """The value of `read(name)`; raises what `read` raises."""
        arrived = time.monotonic()
        with self.lock:
            call = self.calls.setdefault(name, Call())
            call.threads += 1
        try:
            with call.lock:
                if call.started < arrived:
                    started = time.monotonic()
                    call.value = self.read(name)
                    call.started = started
                return call.value  # type: ignore[return-value]  # set by now
        finally:
            with self.lock:
                call.threads -= 1
                if not call.threads:
                    del self.calls[name]
