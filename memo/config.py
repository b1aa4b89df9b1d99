"""The settings of memory, and `open_memory`, which wires its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from memo.judge.factory import open_judge
from memo.store import open_store

from .embed import open_embedder
from .errors import BadSetup
from .index import Labels, PendingPaintings, open_index, open_sibling
from .memory import Memory


@dataclass(frozen=True, slots=True)
class MemoConfig:
    """Each field is read from the variable MEMO_<NAME>, or from the file that MEMO_<NAME>_FILE names."""

    index: str = "memory:"
    index_key: str | None = None
    store: str = "file:var/pictures"
    s3_access_key: str | None = None
    s3_secret_key: str | None = None
    embedder: str = "minilm"
    text_folder: str = "var/text"
    embedding_cache: str = "var/embeddings"  # a folder; "" caches nothing on disk
    judge: str = "learned"
    judge_key: str | None = None  # API key for the server of a language model

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "MemoConfig":
        """The settings in the environment; raises BadSetup for an unreadable secret file."""
        return cls(**read_settings(cls, "MEMO_", env))


def read_settings(cls: type, prefix: str, env: Mapping[str, str]) -> dict[str, str]:
    """The fields of a dataclass that `env` sets, in PREFIX<NAME> or in the file whose path is in PREFIX<NAME>_FILE.

    Raises BadSetup for a file that cannot be read.
    """
    values = {}
    for field in fields(cls):
        name = prefix + field.name.upper()
        if name in env:
            values[field.name] = env[name]
        elif name + "_FILE" in env:
            values[field.name] = read_secret(name + "_FILE", env[name + "_FILE"])
    return values


def read_secret(variable: str, path: str) -> str:
    """The content of the file that a variable names, without surrounding white space; raises BadSetup."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetup(f"{variable}={path}: cannot read the secret: {error}") from error


def open_memory(config: MemoConfig) -> Memory:
    """The memory that the settings describe.

    Raises BadSetup for settings that cannot work, and OtherEmbedder if another text model filled the index.
    """
    text_folder = Path(config.text_folder)
    cache = Path(config.embedding_cache) if config.embedding_cache else None
    embedder = open_embedder(config.embedder, text_folder, cache)
    index = open_index(config.index, f"pictures-{embedder.name}", embedder.dimension, api_key=config.index_key)
    store = open_store(config.store, access_key=config.s3_access_key, secret_key=config.s3_secret_key)
    index.check_embedder()
    judge = open_judge(config.judge, text_folder, config.judge_key, cache)
    pending, labels = open_sibling(index, PendingPaintings, "pending"), open_sibling(index, Labels, "labels")
    return Memory(embedder, index, store, judge, pending, labels)
