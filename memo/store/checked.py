"""A store that wraps another one and treats a truncated or damaged picture as missing."""

import logging
from collections.abc import Iterable, Iterator
from zlib import crc32

from memo.errors import BadPicture, Forgotten, Unavailable
from memo.image_files.containers import split_png
from memo.image_files.kinds import describe_file

from .port import PNG, Store

log = logging.getLogger(__name__)

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
REMEMBERED = 100_000  # names of objects that were read whole, about 10 MB


class CheckedStore:
    """A broken object counts as lost: it is logged, is not returned, and may be written again.

    Full disks, crashes and proxies leave empty files, halves of pictures and error pages under valid names.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read_whole: dict[str, None] = {}  # names of objects that were read whole, the oldest first

    def put(self, name: str, data: bytes, content_type: str = PNG) -> bool:
        """See Store. Replaces a broken object. Raises Unavailable if the end of the data was not stored."""
        if self.store.put(name, data, content_type):
            self.check_end(name, data)
            return True
        if self.is_whole(name):
            return False
        log.warning("replacing %s in the picture store, which was not a whole picture", name)
        self.replace(name, data, content_type)
        return True

    def replace(self, name: str, data: bytes, content_type: str = PNG) -> None:
        """See Store. Raises Unavailable if the end of the data was not stored."""
        self.store.replace(name, data, content_type)
        self.check_end(name, data)

    def check_end(self, name: str, data: bytes) -> None:
        """Raise Unavailable unless the store returns the end of what it says it has stored."""
        try:
            stored = self.store.tail(name, len(PNG_END))
        except Forgotten:
            stored = b""
        if stored != data[-len(PNG_END) :]:
            raise Unavailable(f"the picture store did not keep all {len(data)} bytes of {name}")

    def get(self, name: str) -> bytes:
        """See Store. Raises Forgotten for a broken object too."""
        data = self.store.get(name)
        if not is_whole(name, data):
            self.read_whole.pop(name, None)
            what = f"{describe_file(data)}, {len(data)} bytes"
            log.error("%s in the picture store is not a whole picture and counts as lost (%s)", name, what)
            raise Forgotten(name)
        self.remember(name)
        return data

    def exists(self, name: str) -> bool:
        """Whether there is a whole object of this name.

        The first call reads it all. Later calls look at its end, which is as fast as asking for its size.
        """
        if name not in self.read_whole:
            return self.is_whole(name)
        try:
            return self.store.tail(name, len(PNG_END)) == PNG_END or self.is_whole(name)
        except Forgotten:
            return False

    def is_whole(self, name: str) -> bool:
        """Whether the whole object can be read."""
        try:
            self.get(name)
        except Forgotten:
            return False
        return True

    def remember(self, name: str) -> None:
        """Note that an object was read whole; the oldest notes are dropped."""
        self.read_whole[name] = None
        while len(self.read_whole) > REMEMBERED:
            self.read_whole.pop(next(iter(self.read_whole)), None)

    def tail(self, name: str, count: int) -> bytes:
        """See Store."""
        return self.store.tail(name, count)

    def delete(self, name: str) -> None:
        """See Store."""
        self.store.delete(name)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See Store. Broken objects are listed too."""
        return self.store.names(prefix)

    def link(self, name: str, seconds: int) -> str | None:
        """See Store. None for a broken object, so that nobody is sent to it."""
        return self.store.link(name, seconds) if self.exists(name) else None

    def check(self) -> None:
        """See Store."""
        self.store.check()


def is_whole(name: str, data: bytes) -> bool:
    """Whether these bytes are a whole picture of the format that the name's ending promises."""
    return is_whole_webp(data) if name.endswith(".webp") else is_whole_png(data)


def is_whole_png(data: bytes) -> bool:
    """Whether a PNG has all its chunks, each with the right checksum, and nothing after the last."""
    try:
        chunks = [place for _, place in split_png(data)]
    except BadPicture:
        return False
    return data.endswith(PNG_END) and bool(chunks) and chunks[-1].stop == len(data) and all_intact(data, chunks)


def all_intact(data: bytes, chunks: Iterable[slice]) -> bool:
    """Whether the checksum of each PNG chunk is right."""
    view = memoryview(data)
    return all(
        crc32(view[place.start + 4 : place.stop - 4]) == int.from_bytes(view[place.stop - 4 : place.stop], "big")
        for place in chunks
    )


def is_whole_webp(data: bytes) -> bool:
    """Whether a WebP has the length that its header names."""
    length = int.from_bytes(data[4:8], "little") + 8
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and length == len(data)
