"""What the text model made of prompts, kept on disk: token states for the judge, shared by a machine's processes.

A cache and nothing more: it may be deleted at any time, the oldest entries go when it is full, and without it (a
folder that cannot be written) prompts are read anew, a few milliseconds each.
"""

import contextlib
import hashlib
import logging
import threading
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

States = npt.NDArray[np.float32]
NUMBER = 8  # bytes of an entry's number
MEGABYTES = 4096  # 90,000 prompts of 15 tokens; disk is taken as it is needed
TRIES = 4  # room that was made can be used after the next change only
GONE = 0.1  # the share of entries that make room


class Shelf:
    """States by text, float16, in one LMDB environment; `layers` × `width` numbers a token."""

    def __init__(self, folder: Path, layers: int, width: int, megabytes: int = MEGABYTES) -> None:
        self.folder, self.shape, self.megabytes = folder, (-1, layers, width), megabytes
        self.lock = threading.Lock()
        self.opened: Any = None
        self.broken = False

    def get(self, text: str) -> States | None:
        """The states (tokens, layers, width) of a text that was put here."""
        try:
            with self.environment().begin() as read:
                found = read.get(name(text), db=self.by_text)
        except (lmdb.Error, OSError) as error:
            self.give_up(error)
            return None
        if found is None:
            return None
        return np.frombuffer(found, np.float16, offset=NUMBER).reshape(self.shape).astype(np.float32)

    def put(self, text: str, states: States) -> None:
        """Keep the states of a text; the oldest make room when there is none."""
        key, value = name(text), states.astype(np.float16).tobytes()
        try:
            for _ in range(TRIES):
                with contextlib.suppress(lmdb.MapFullError):
                    self.write(key, value)
                    return
                self.make_room()
        except (lmdb.Error, OSError) as error:
            self.give_up(error)

    def write(self, key: bytes, value: bytes) -> None:
        """One entry, behind the last; one that is there stays."""
        with self.environment().begin(write=True) as change:
            if change.get(key, db=self.by_text) is None:
                with change.cursor(self.by_age) as ages:
                    last = int.from_bytes(ages.key(), "big") if ages.last() else 0
                number = (last + 1).to_bytes(NUMBER, "big")
                change.put(number, key, db=self.by_age)
                change.put(key, number + value, db=self.by_text)

    def make_room(self) -> None:
        """Forget the oldest entries."""
        with self.environment().begin(write=True) as change:
            going = max(1, int(GONE * change.stat(self.by_age)["entries"]))
            with change.cursor(self.by_age) as ages:
                oldest = [entry for entry, _ in zip(ages.iternext(), range(going), strict=False)]
            for number, key in oldest:
                change.delete(bytes(number), db=self.by_age)
                change.delete(bytes(key), db=self.by_text)

    def environment(self) -> Any:
        """Opened on first use, so that a process that forks has none open."""
        with self.lock:
            if self.broken:
                raise OSError("given up before")
            if self.opened is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                size = self.megabytes * 1_000_000
                self.opened = lmdb.open(str(self.folder), map_size=size, max_dbs=2, sync=False, metasync=False)
                self.by_text, self.by_age = (self.opened.open_db(part) for part in (b"states", b"ages"))
            return self.opened

    def give_up(self, error: Exception) -> None:
        """Say once that prompts are read anew from now on."""
        if not self.broken:
            log.warning("states are not kept in %s: %s", self.folder, error)
        self.broken = True


def name(text: str) -> bytes:
    """16 bytes for a text."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
