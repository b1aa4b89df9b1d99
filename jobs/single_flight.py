"""One reading for all who ask for the same at the same time. Does not know what is read."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True)
class Call(Generic[Value]):
    """The last one under a name, while anybody is about to use it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    begun: float = -math.inf
    value: Value | None = None


class SingleFlight(Generic[Value]):
    """`read` by name; a reading that was begun after the call serves it as well as one of its own."""

    def __init__(self, read: Callable[[str], Value]) -> None:
        self.read, self.lock = read, threading.Lock()
        self.calls: dict[str, Call[Value]] = {}

    def __call__(self, name: str) -> Value:
        """What `read` gives; raises what it raises."""
        asked = time.monotonic()
        with self.lock:
            call = self.calls.setdefault(name, Call())
            call.users += 1
        try:
            with call.lock:
                if call.begun < asked:
                    begun = time.monotonic()
                    call.value = self.read(name)
                    call.begun = begun
                return call.value  # type: ignore[return-value]  # it was read
        finally:
            with self.lock:
                call.users -= 1
                if not call.users:
                    del self.calls[name]
