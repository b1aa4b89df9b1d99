"""The port: objects by name, written once and never changed. Knows names and bytes, nothing of pictures."""

from collections.abc import Iterator
from typing import Protocol

PNG = "image/png"


class Store(Protocol):
    """Objects by name. Every method raises Unavailable when the store cannot be reached or is full."""

    def put(self, name: str, data: bytes, content_type: str = PNG) -> bool:
        """Write all or nothing, durably; False when the name exists already, which then stays as it is."""

    def get(self, name: str) -> bytes:
        """The bytes; raises Forgotten."""

    def exists(self, name: str) -> bool:
        """Whether an object has this name."""

    def delete(self, name: str) -> None:
        """Remove it; a name that does not exist is no error."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """All names that begin with the prefix, in no particular order."""

    def link(self, name: str, seconds: int) -> str | None:
        """A URL that serves the object to anyone for so long, or None when bytes must be passed through."""

    def check(self) -> None:
        """Raise Unavailable unless the store can be written to and read from now."""
