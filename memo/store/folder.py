"""A store in a folder of this machine."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from disk.disk_errors import explain
from disk.durable_files import create_durably, create_folder, sync, write_durably
from memo.errors import Forgotten, Unavailable

from .port import PNG

T = TypeVar("T")


class FolderStore:
    """Keeps objects as files.

    A file is written under a temporary name, synced and then linked into place: atomic, and the first writer wins.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes, content_type: str = PNG) -> bool:
        """See Store."""
        return self.write(name, data, create_durably)

    def replace(self, name: str, data: bytes, content_type: str = PNG) -> None:
        """See Store."""
        self.write(name, data, write_durably)

    def write(self, name: str, data: bytes, write_file: Callable[[Path, bytes], T]) -> T:
        """Create an object's folder and write it with `write_file`; returns what that returns. Raises Unavailable."""
        path = self.path(name)
        try:
            create_folder(path.parent)
            return write_file(path, data)
        except OSError as error:
            raise Unavailable(f"cannot write a picture: {explain(error, path)}") from error

    def get(self, name: str) -> bytes:
        """See Store."""
        return self.tail(name, sys.maxsize)

    def tail(self, name: str, count: int) -> bytes:
        """See Store."""
        try:
            with self.path(name).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - count))
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Forgotten(name) from None
        except OSError as error:
            raise Unavailable(f"cannot read a picture: {explain(error, self.path(name))}") from error

    def exists(self, name: str) -> bool:
        """See Store."""
        try:
            return self.path(name).is_file()
        except OSError as error:
            raise Unavailable(f"cannot read {self.path(name)}: {error}") from error

    def delete(self, name: str) -> None:
        """See Store."""
        try:
            self.path(name).unlink(missing_ok=True)
            if self.path(name).parent.is_dir():
                sync(self.path(name).parent)  # or a power cut would bring the picture back
        except OSError as error:
            raise Unavailable(f"cannot delete a picture: {explain(error, self.path(name))}") from error

    def names(self, prefix: str = "") -> Iterator[str]:
        """See Store."""
        for folder, _, files in os.walk(self.root, onerror=raise_unless_missing):
            for file in files:
                name = Path(folder, file).relative_to(self.root).as_posix()
                if name.startswith(prefix) and not file.startswith("."):
                    yield name

    def link(self, name: str, seconds: int) -> str | None:
        """See Store. None, since the web process serves the files."""
        return None

    def check(self) -> None:
        """See Store."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as file:
                file.write(b"writable")
        except OSError as error:
            raise Unavailable(f"cannot write pictures: {explain(error, self.root)}") from error

    def path(self, name: str) -> Path:
        """The file of an object; raises Forgotten for a name that would lead out of the folder."""
        parts = name.split("/")
        if not name or any(not part or part.startswith(".") or "\0" in part or "\\" in part for part in parts):
            raise Forgotten(name)
        return self.root.joinpath(*parts)


def raise_unless_missing(error: OSError) -> None:
    """Raise Unavailable for a folder that cannot be read, which must not count as empty; a missing one is empty."""
    if not isinstance(error, FileNotFoundError):
        raise Unavailable(f"cannot list pictures: {explain(error, error.filename)}") from error
