"""The port: a store keeps objects by name, each written once and never changed."""

from collections.abc import Iterator
from typing import Protocol

PNG = "image/png"


class Store(Protocol):
    """Keeps objects by name. Every method raises Unavailable if the store cannot be reached or is full."""

    def put(self, name: str, data: bytes, content_type: str = PNG) -> bool:
        """Write an object durably and atomically; returns False and changes nothing if the name exists."""

    def replace(self, name: str, data: bytes, content_type: str = PNG) -> None:
        """Write an object durably and atomically in place of one that is broken."""

    def get(self, name: str) -> bytes:
        """The bytes of an object; raises Forgotten."""

    def tail(self, name: str, count: int) -> bytes:
        """The last bytes of an object, all of them if it has no more than `count`; raises Forgotten."""

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with a prefix, in no particular order."""

    def link(self, name: str, seconds: int) -> str | None:
        """A URL that serves an object to anyone for some seconds; None if the store cannot serve it itself."""

    def check(self) -> None:
        """Raise Unavailable unless the store can be read and written now."""
