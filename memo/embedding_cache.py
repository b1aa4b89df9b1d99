"""What the text model made of prompts, kept on disk: vectors for the index and token states for the judge.

A cache that the processes of a machine share, and nothing more: it may be deleted at any time, the oldest entries go
when it is full, and without it (a folder that cannot be written) prompts are read anew, a few milliseconds each.
"""

import contextlib
import hashlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
NUMBER = 8  # bytes of an entry's number
MEGABYTES = 4096  # 90,000 prompts of 15 tokens; disk is taken as it is needed
TRIES = 4  # room that was made can be used after the next change only
PARTS = (b"readings", b"ages")
GONE = 0.1  # the share of entries that make room


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """What a text model makes of a text: unit vector (dimension,) and hidden states (tokens, layers, dimension)."""

    vector: Floats
    states: Floats


class EmbeddingCache:
    """Readings by text, states as float16, in one LMDB environment."""

    def __init__(self, folder: Path, layers: int, dimension: int, megabytes: int = MEGABYTES) -> None:
        self.folder, self.layers, self.dimension, self.megabytes = folder, layers, dimension, megabytes
        self.lock = threading.Lock()
        self.opened: Any = None
        self.broken = False

    def get(self, text: str) -> TextEmbedding | None:
        """The reading of a text that was put here."""
        try:
            with self.environment().begin() as read:
                found = read.get(name(text), db=self.by_text)
        except (lmdb.Error, OSError) as error:
            self.give_up(error)
            return None
        if found is None:
            return None
        vector = np.frombuffer(found, np.float32, self.dimension, offset=NUMBER).copy()
        states = np.frombuffer(found, np.float16, offset=NUMBER + vector.nbytes)
        return TextEmbedding(vector, states.reshape(-1, self.layers, self.dimension).astype(np.float32))

    def put(self, text: str, embedding: TextEmbedding) -> None:
        """Keep the reading of a text; the oldest make room when there is none."""
        key, value = name(text), embedding.vector.tobytes() + embedding.states.astype(np.float16).tobytes()
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
                self.by_text, self.by_age = (self.opened.open_db(part) for part in PARTS)
            return self.opened

    def give_up(self, error: Exception) -> None:
        """Say once that prompts are read anew from now on."""
        if not self.broken:
            log.warning("readings are not kept in %s: %s", self.folder, error)
        self.broken = True


def name(text: str) -> bytes:
    """16 bytes for a text."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
