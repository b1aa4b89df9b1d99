"""A cache of embeddings on disk: prompts' vectors for the index and token states for the judge.

All processes of a machine share it. It may be deleted at any time, and drops its oldest entries when it is full. If
its folder cannot be written, prompts are embedded without it, which takes a few milliseconds each.
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
NUMBER_BYTES = 8  # of the serial number that each entry gets, so that the oldest can be found
MEGABYTES = 4096  # the size limit, enough for 90,000 prompts of 15 tokens; the file grows as needed
TRIES = 4  # of a write while the cache is full: LMDB reuses freed pages only after the next transaction
DATABASES = (b"readings", b"ages")  # entries by text, and texts by age
EVICTED_SHARE = 0.1  # of the entries, when the cache is full


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """A text's unit vector (dimension,) and hidden states (tokens, layers, dimension)."""

    vector: Floats
    states: Floats


class EmbeddingCache:
    """Embeddings by text in one LMDB environment; states are stored as float16."""

    def __init__(self, folder: Path, layers: int, dimension: int, megabytes: int = MEGABYTES) -> None:
        self.folder, self.layers, self.dimension, self.megabytes = folder, layers, dimension, megabytes
        self.lock = threading.Lock()
        self.lmdb: Any = None
        self.broken = False

    def get(self, text: str) -> TextEmbedding | None:
        """The cached embedding of a text; None if there is none, or if the cache failed."""
        try:
            with self.environment().begin() as transaction:
                entry = transaction.get(text_key(text), db=self.by_text)
        except (lmdb.Error, OSError) as error:
            self.give_up(error)
            return None
        if entry is None:
            return None
        vector = np.frombuffer(entry, np.float32, self.dimension, offset=NUMBER_BYTES).copy()
        states = np.frombuffer(entry, np.float16, offset=NUMBER_BYTES + vector.nbytes)
        return TextEmbedding(vector, states.reshape(-1, self.layers, self.dimension).astype(np.float32))

    def put(self, text: str, embedding: TextEmbedding) -> None:
        """Cache the embedding of a text; the oldest entries are dropped if the cache is full."""
        key, value = text_key(text), embedding.vector.tobytes() + embedding.states.astype(np.float16).tobytes()
        try:
            for _ in range(TRIES):
                with contextlib.suppress(lmdb.MapFullError):
                    self.write(key, value)
                    return
                self.evict_oldest()
        except (lmdb.Error, OSError) as error:
            self.give_up(error)

    def write(self, key: bytes, value: bytes) -> None:
        """Append an entry, unless the text has one already."""
        with self.environment().begin(write=True) as transaction:
            if transaction.get(key, db=self.by_text) is None:
                with transaction.cursor(self.by_age) as ages:
                    last = int.from_bytes(ages.key(), "big") if ages.last() else 0
                number = (last + 1).to_bytes(NUMBER_BYTES, "big")
                transaction.put(number, key, db=self.by_age)
                transaction.put(key, number + value, db=self.by_text)

    def evict_oldest(self) -> None:
        """Drop the oldest EVICTED_SHARE of the entries, at least one."""
        with self.environment().begin(write=True) as transaction:
            count = max(1, int(EVICTED_SHARE * transaction.stat(self.by_age)["entries"]))
            with transaction.cursor(self.by_age) as ages:
                oldest = [entry for entry, _ in zip(ages.iternext(), range(count), strict=False)]
            for number, key in oldest:
                transaction.delete(bytes(number), db=self.by_age)
                transaction.delete(bytes(key), db=self.by_text)

    def environment(self) -> Any:
        """The LMDB environment, opened on first use, since it must not be open when a process forks."""
        with self.lock:
            if self.broken:
                raise OSError("the cache failed before")
            if self.lmdb is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                size = self.megabytes * 1_000_000
                self.lmdb = lmdb.open(str(self.folder), map_size=size, max_dbs=2, sync=False, metasync=False)
                self.by_text, self.by_age = (self.lmdb.open_db(part) for part in DATABASES)
            return self.lmdb

    def give_up(self, error: Exception) -> None:
        """Stop using the cache, and log that once."""
        if not self.broken:
            log.warning("cannot cache embeddings in %s: %s", self.folder, error)
        self.broken = True


def text_key(text: str) -> bytes:
    """16 bytes that identify a text."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
