"""A few strings say where memory lives."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from memo.judge.factory import open_judge
from memo.store import open_store

from .embed import open_embedder
from .errors import BadSetup
from .index import Labels, Pending, beside, open_index
from .memory import Memory


@dataclass(frozen=True, slots=True)
class MemoConfig:
    """Each field is the variable MEMO_<NAME>; secrets may come as MEMO_<NAME>_FILE."""

    index: str = "memory:"
    index_key: str | None = None
    store: str = "file:var/pictures"
    s3_access_key: str | None = None
    s3_secret_key: str | None = None
    embedder: str = "minilm"
    text_folder: str = "var/text"
    states: str = "var/states"  # what the text model made of prompts; "" keeps nothing
    judge: str = "learned"
    judge_key: str | None = None  # of a language model's server

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "MemoConfig":
        """The fields that the environment sets; raises BadSetup for an unreadable secret file."""
        return cls(**from_env(cls, "MEMO_", env))


def from_env(cls: type, prefix: str, env: Mapping[str, str]) -> dict[str, str]:
    """Values for a dataclass's fields from PREFIX<NAME> or the file that PREFIX<NAME>_FILE names."""
    values = {}
    for field in fields(cls):
        name = prefix + field.name.upper()
        if name in env:
            values[field.name] = env[name]
        elif name + "_FILE" in env:
            values[field.name] = read_secret(name + "_FILE", env[name + "_FILE"])
    return values


def read_secret(variable: str, path: str) -> str:
    """The content of a secret file, without its final newline."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetup(f"{variable}={path}: cannot read the secret: {error}") from error


def open_memory(config: MemoConfig) -> Memory:
    """Join the parts; raises OtherEmbedder if the index answers and was filled by another text model."""
    text, states = Path(config.text_folder), Path(config.states) if config.states else None
    embedder = open_embedder(config.embedder, text, states)
    index = open_index(config.index, f"pictures-{embedder.name}", embedder.dimension, api_key=config.index_key)
    store = open_store(config.store, access_key=config.s3_access_key, secret_key=config.s3_secret_key)
    index.check_embedder()
    judge = open_judge(config.judge, text, config.judge_key, states)
    return Memory(embedder, index, store, judge, beside(index, Pending, "pending"), beside(index, Labels, "labels"))
