"""Writes files that survive a power cut: beside their place, synced, renamed into it, and their folder synced.

A file written in place may be empty or half written after a power cut, and so may one that was renamed before its
bytes were synced. A new name is lost if its folder is not synced.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600  # the mode of a file that only its owner may read
PART = ".part-"  # prefix of files that are being written; a power cut may leave some behind


def write_durably(path: Path, data: bytes | str, *, mode: int = PRIVATE) -> None:
    """Create or replace a file in one step. Raises OSError."""
    with written_beside(path, data, mode=mode) as part:
        os.replace(part, path)
    sync(path.parent)


def create_durably(path: Path, data: bytes | str, *, mode: int = PRIVATE) -> bool:
    """Create a file in one step; False, and no change, if the path exists. Raises OSError."""
    if path.exists():
        return False
    try:
        with written_beside(path, data, mode=mode) as part:
            os.link(part, path)
    except FileExistsError:
        return False
    sync(path.parent)
    return True


@contextmanager
def written_beside(path: Path, data: bytes | str, *, mode: int) -> Iterator[Path]:
    """Yield a temporary file in the same folder with the data synced to disk; it is deleted afterwards."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(mode)
        yield part
    finally:
        part.unlink(missing_ok=True)


def create_folder(path: Path, *, mode: int = 0o700) -> None:
    """Create a folder and the missing ones above it, so that they survive a power cut. Raises OSError."""
    if path.is_dir():
        return
    create_folder(path.parent, mode=mode)
    path.mkdir(mode=mode, exist_ok=True)
    sync(path.parent)


def move_durably(source: Path, target: Path) -> None:
    """Give a finished file or folder its name, after everything in it has been synced. Raises OSError."""
    sync_tree(source)
    os.replace(source, target)
    sync(target.parent)


def sync_tree(path: Path) -> None:
    """Sync a file, or a folder with everything in it."""
    for entry in (*path.rglob("*"), path) if path.is_dir() else (path,):
        sync(entry)


def sync(path: Path) -> None:
    """Sync a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
