"""Words to vectors: prompts whose meanings are alike get vectors with a cosine near 1.

Knows nothing of pictures. The default runs on ONNX Runtime from weights that `training.text_export` exported, so
that the web process never loads torch; other models of the hub run on sentence-transformers.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .embedding_cache import EmbeddingCache, TextEmbedding
from .errors import BadSetup
from .minilm import DIMENSION, SHA256, STATE_LAYERS

Vectors = npt.NDArray[np.float32]

KEPT = 512  # texts that are remembered, about 90 KB each
AT_ONCE = 8  # texts that are read beside other work
WORDS = 8192  # of how many pieces these are is remembered
LONGEST = 256  # tokens; sentence_bert_config.json of all-MiniLM-L6-v2
ONNX_NAME = f"minilm-q8-{SHA256[:8]}.onnx"  # vectors of other bits would be another embedder's


class Embedder(Protocol):
    """Text to unit vectors. `name` changes whenever vectors would: it is part of the collection's name."""

    name: str
    dimension: int

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimension)."""

    def begin(self, text: str) -> Callable[[], Vectors]:
        """Start to embed a text in the background; the returned function waits for its unit vector (dimension,)."""


class OnnxEmbedder:
    """all-MiniLM-L6-v2 with mean pooling and weights of eight bits, without torch.

    Vectors have a cosine above 0.998 with those of sentence-transformers.
    """

    def __init__(self, session: Any, tokenizer: Any, name: str, cache: EmbeddingCache | None = None) -> None:
        self.session, self.tokenizer, self.name = session, tokenizer, name
        self.dimension = DIMENSION
        self.cache = cache
        self.read = lru_cache(KEPT)(self.find)
        self.pieces = lru_cache(WORDS)(self.count_pieces)
        self.beside = ThreadPoolExecutor(AT_ONCE, "embedder")

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        if len(texts) == 1:
            return self.read(texts[0]).vector[None]
        return self.run(texts, "embedding")[0] if texts else np.zeros((0, self.dimension), np.float32)

    def begin(self, text: str) -> Callable[[], Vectors]:
        """See Embedder."""
        embedding = self.beside.submit(self.read, text)
        return lambda: embedding.result().vector

    def states(self, texts: Sequence[str]) -> list[Vectors]:
        """Of each text the hidden states (tokens, layers, 384) of STATE_LAYERS, without the special tokens.

        A text without any token is read as a full stop.
        """
        if not texts:
            return []
        states, mask = self.run(texts, "states")
        return [row if len(row) else self.states(["."])[0] for row in inner(states, mask)]

    def states_of(self, text: str) -> Vectors:
        """The same of one text, of which they are remembered."""
        return self.read(text).states

    def find(self, text: str) -> TextEmbedding:
        """What the model makes of one text, from the shelf or anew; `read` remembers the last ones."""
        kept = self.cache.get(text) if self.cache else None
        if kept is None:
            kept = self.read_anew(text)
            if self.cache:
                self.cache.put(text, kept)
        return kept

    def read_anew(self, text: str) -> TextEmbedding:
        """Unit vector and states of one text in one run."""
        vectors, states, mask = self.run([text], "embedding", "states")
        [found] = inner(states, mask)
        return TextEmbedding(vectors[0], found if len(found) else self.states(["."])[0])

    def count_pieces(self, word: str) -> int:
        """Of how many tokens a word is made."""
        return len(self.tokenizer.encode(word, add_special_tokens=False).tokens)

    def run(self, texts: Sequence[str], *outputs: str) -> list[Any]:
        """The outputs of the model, and the mask of real tokens."""
        tokens = self.tokenizer.encode_batch(list(texts))
        ids = np.array([row.ids for row in tokens], np.int64)
        mask = np.array([row.attention_mask for row in tokens], np.int64)
        return [*self.session.run(list(outputs), {"input_ids": ids, "attention_mask": mask}), mask]


def inner(states: Vectors, mask: npt.NDArray[np.int64]) -> list[Vectors]:
    """Without padding and special tokens."""
    return [row[1 : length - 1] for row, length in zip(states, mask.sum(1), strict=True)]


class HubEmbedder:
    """Any sentence-transformers model by its hub id or folder; loads torch."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        self.dimension = int(model.get_embedding_dimension())

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        vectors = self.model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    def begin(self, text: str) -> Callable[[], Vectors]:
        """See Embedder; read when it is asked for, since nothing is remembered and it may not be needed."""
        return lambda: self([text])[0]


def open_embedder(spec: str, folder: Path, states: Path | None = None) -> Embedder:
    """`minilm`, or `st:HUB_ID`; `folder` holds the exported text model, `states` what it made of prompts.

    Raises BadSetup with the remedy.
    """
    if spec == "minilm":
        return open_onnx(folder, states)
    if spec.startswith("st:"):
        return open_hub(spec.removeprefix("st:"))
    raise BadSetup(f"the embedder {spec!r} is neither 'minilm' nor 'st:HUB_ID'")


def open_onnx(folder: Path, states: Path | None = None) -> OnnxEmbedder:
    """The exported text model, checked against the digest written at export."""
    path = folder / ONNX_NAME
    if not intact(path):
        raise BadSetup(f"the text model {path} is missing or damaged: memoaized prepare --text-folder {folder}")
    return load_onnx(path, path.with_suffix(".json").read_text(), states)


@lru_cache(maxsize=1)
def load_onnx(path: Path, _manifest: str, states: Path | None) -> OnnxEmbedder:
    """The model, once in a process for all who read with it, until its manifest changes."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # two threads on a busy two-core machine cost 50 times the time of one
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(path.with_suffix(".tokenizer.json")))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    cache = EmbeddingCache(states / f"readings-{path.stem}", len(STATE_LAYERS), DIMENSION) if states else None
    return OnnxEmbedder(session, tokenizer, path.stem, cache)


def open_hub(hub_id: str) -> HubEmbedder:
    """A model of the hub, or of a local folder."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise BadSetup(f"the embedder 'st:{hub_id}' needs torch: pip install 'memoaized[gpu]'") from error
    try:
        model = SentenceTransformer(hub_id, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadSetup(f"the text model {hub_id!r} cannot be loaded: {error}") from error
    return HubEmbedder(model, "st-" + "".join(c if c.isalnum() else "-" for c in hub_id))


def digest(data: bytes) -> str:
    """BLAKE2b, which hashes the 90 MB of weights in a tenth of the time of SHA-256."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def intact(path: Path) -> bool:
    """Whether the exported model is the one that its manifest describes, made from the official weights."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        known = manifest["weights"] == SHA256 and tuple(manifest["layers"]) == STATE_LAYERS
        return bool(known and manifest["onnx"] == digest(path.read_bytes()))
    except (OSError, ValueError, KeyError):
        return False
