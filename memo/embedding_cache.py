"""A cache of embeddings on disk: prompts' vectors for the index and token states for the judge.

All processes of a machine share it. It may be deleted at any time, and drops its oldest entries when it is full. If
its folder cannot be written, prompts are embedded without it, which takes a few milliseconds each.

LMDB maps its file into memory: a damaged one can kill the process that reads it. Writes are not synced one by one, so
a power cut can damage it. Therefore the cache is thrown away when its last use did not end well, or when the file is
shorter than its header says, and an entry counts only if its checksum is right and its vector has unit length.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import lmdb
import numpy as np
import numpy.typing as npt

from disk.disk_errors import explain
from disk.last_use import LastUse

from .picture import SHARED

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
NUMBER_BYTES = 8  # of the serial number that each entry gets, so that the oldest can be found
CHECKSUM_BYTES = 4  # CRC-32 of the text's key and the values
UNIT_LENGTH = 0.99, 1.01  # the bounds of a whole vector's length
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
    """Embeddings by scope and text in one LMDB environment; states are stored as float16."""

    def __init__(self, folder: Path, layers: int, dimension: int, megabytes: int = MEGABYTES) -> None:
        self.folder, self.layers, self.dimension, self.megabytes = folder, layers, dimension, megabytes
        self.lock = threading.Lock()
        self.lmdb: Any = None
        self.broken = False
        self.use = LastUse(folder.with_name(f"{folder.name}.lock"))

    def get(self, text: str, scope: str = SHARED) -> TextEmbedding | None:
        """The cached embedding of a text; None if there is none, or if the cache failed."""
        key = text_key(text, scope)
        try:
            with self.environment().begin() as transaction:
                entry = transaction.get(key, db=self.by_text)
        except (lmdb.Error, OSError) as error:
            self.give_up(error)
            return None
        values = self.check_entry(key, entry) if entry is not None else None
        return self.read_values(values) if values else None

    def check_entry(self, key: bytes, entry: bytes) -> bytes | None:
        """The values of an entry; None if it is damaged."""
        checksum, values = entry[NUMBER_BYTES:][:CHECKSUM_BYTES], entry[NUMBER_BYTES + CHECKSUM_BYTES :]
        if checksum_of(key, values) == checksum:
            return values
        log.warning("an entry of the cache in %s is damaged, and is replaced", self.folder)
        return None

    def read_values(self, values: bytes) -> TextEmbedding | None:
        """The embedding in the values of an entry; None unless its vector has unit length."""
        vector = np.frombuffer(values, np.float32, self.dimension)
        states = np.frombuffer(values, np.float16, offset=vector.nbytes)
        shortest, longest = UNIT_LENGTH
        if not shortest < np.linalg.norm(vector) < longest:
            return None
        return TextEmbedding(vector.copy(), states.reshape(-1, self.layers, self.dimension).astype(np.float32))

    def put(self, text: str, embedding: TextEmbedding, scope: str = SHARED) -> None:
        """Cache the embedding of a text; the oldest entries are dropped if the cache is full."""
        values = embedding.vector.tobytes() + embedding.states.astype(np.float16).tobytes()
        key = text_key(text, scope)
        value = checksum_of(key, values) + values
        try:
            for _ in range(TRIES):
                with contextlib.suppress(lmdb.MapFullError):
                    self.write(key, value)
                    return
                self.evict_oldest()
        except (lmdb.Error, OSError) as error:
            self.give_up(error)

    def write(self, key: bytes, value: bytes) -> None:
        """Append an entry, unless the text has the same one already."""
        with self.environment().begin(write=True) as transaction:
            kept = transaction.get(key, db=self.by_text)
            if kept is None or self.check_entry(key, kept) is None:
                with transaction.cursor(self.by_age) as ages:
                    last = int.from_bytes(ages.key(), "big") if ages.last() else 0
                number = (last + 1).to_bytes(NUMBER_BYTES, "big")
                transaction.put(number, key, db=self.by_age)
                transaction.put(key, number + value, db=self.by_text)

    def forget(self, text: str, scope: str) -> None:
        """Drop the embedding of a text."""
        try:
            with self.environment().begin(write=True) as transaction:
                if entry := transaction.pop(text_key(text, scope), db=self.by_text):
                    transaction.delete(entry[:NUMBER_BYTES], db=self.by_age)
        except (lmdb.Error, OSError) as error:
            self.give_up(error)

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
                self.lmdb = self.open()
            return self.lmdb

    def open(self) -> Any:
        """Open the LMDB environment, and throw it away before if its last use did not end well."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.use.begin() as first:
            if first and not (self.use.ended_well and self.is_whole()):
                throw_away(self.folder)
            self.folder.mkdir(exist_ok=True)
            environment = self.open_environment()
        self.by_text, self.by_age = (environment.open_db(part) for part in DATABASES)
        weakref.finalize(self, end_use, environment, self.use)  # also at the end of the process
        return environment

    def is_whole(self) -> bool:
        """Whether the file has a header and all pages that it names; reading others would kill this process."""
        try:
            with self.open_environment() as environment:
                pages = environment.info()["last_pgno"] + 1
                return bool(os.path.getsize(self.folder / "data.mdb") >= pages * environment.stat()["psize"])
        except (lmdb.Error, OSError):
            return False

    def open_environment(self) -> Any:
        """Open the LMDB environment, which reads no more than its header."""
        size = self.megabytes * 1_000_000
        return lmdb.open(str(self.folder), map_size=size, max_dbs=2, sync=False, metasync=False)

    def give_up(self, error: Exception) -> None:
        """Stop using the cache, and log that once."""
        if not self.broken:
            log.warning("cannot cache embeddings: %s", explain(error, self.folder))
        self.broken = True
        self.use.failed = True  # so that the next start throws it away


def checksum_of(key: bytes, values: bytes) -> bytes:
    """The checksum of an entry; with the key, so that no text gets the entry of another one."""
    return crc32(values, crc32(key)).to_bytes(CHECKSUM_BYTES, "big")


def throw_away(folder: Path) -> None:
    """Delete the cache's files, which may be damaged."""
    if folder.exists():
        log.warning("the last use of the cache in %s did not end well, so it begins anew", folder)
        shutil.rmtree(folder)


def end_use(environment: Any, use: LastUse) -> None:
    """Sync and close the environment, and note that this use ended well if it was the last one."""
    with contextlib.suppress(lmdb.Error):
        environment.sync(True)
        environment.close()
        use.end()


def text_key(text: str, scope: str = SHARED) -> bytes:
    """16 bytes that identify a text in a scope. Scopes share no entries, so timing reveals nothing about others."""
    scope_key = hashlib.blake2b(scope.encode(), digest_size=32).digest()
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16, key=scope_key).digest()
