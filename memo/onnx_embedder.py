"""The text model all-MiniLM-L6-v2 on ONNX Runtime, from weights that `training.text_export` exported; no torch."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .embedding_cache import EmbeddingCache, TextEmbedding
from .errors import BadSetup
from .minilm import DIMENSION, SHA256, STATE_LAYERS
from .picture import SHARED

Floats = npt.NDArray[np.float32]

CACHED_TEXTS = 64  # in memory, up to 1.6 MB each; what the disk cache has is read again in a moment
CACHED_WORDS = 8192  # words whose numbers of tokens are cached
THREADS = 8  # that embed texts in the background
LONGEST_TEXT = 256  # tokens; sentence_bert_config.json of all-MiniLM-L6-v2
ONNX_NAME = f"minilm-q8-{SHA256[:8]}.onnx"  # names the embedder, too, since other weights give other vectors


# Read when ONNX Runtime is imported, which otherwise writes a device id to ~/.cache and reports to Microsoft.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


class OnnxEmbedder:
    """all-MiniLM-L6-v2 with mean pooling and 8-bit weights.

    Its vectors have a cosine above 0.998 with those of sentence-transformers.
    """

    def __init__(self, session: Any, tokenizer: Any, name: str, cache: EmbeddingCache | None = None) -> None:
        self.session, self.tokenizer, self.name = session, tokenizer, name
        self.dimension = DIMENSION
        self.cache = cache
        self.embed = lru_cache(CACHED_TEXTS)(self.embed_or_load)
        self.count_tokens = lru_cache(CACHED_WORDS)(self.count_tokens_uncached)
        self.background = ThreadPoolExecutor(THREADS, "embedder")

    def __call__(self, texts: Sequence[str], scope: str = SHARED) -> Floats:
        """See Embedder."""
        if len(texts) == 1:
            return self.embed(texts[0], scope).vector[None]
        return self.run(texts, "embedding")[0] if texts else np.zeros((0, self.dimension), np.float32)

    def begin(self, text: str, scope: str = SHARED) -> Callable[[], Floats]:
        """See Embedder."""
        embedding = self.background.submit(self.embed, text, scope)
        return lambda: embedding.result().vector

    def forget(self, text: str, scope: str) -> None:
        """See Embedder. Other processes may keep it in memory until they have embedded CACHED_TEXTS more."""
        if self.cache:
            self.cache.forget(text, scope)
        self.embed.cache_clear()  # of all texts, since single ones cannot be dropped

    def states(self, texts: Sequence[str]) -> list[Floats]:
        """The hidden states of STATE_LAYERS of each text (tokens, layers, 384), without the special tokens.

        A text without any token is read as a full stop.
        """
        if not texts:
            return []
        states, mask = self.run(texts, "states")
        return [row if len(row) else self.states(["."])[0] for row in strip_special_tokens(states, mask)]

    def states_of(self, text: str, scope: str = SHARED) -> Floats:
        """The hidden states of one text, which are cached for its scope."""
        return self.embed(text, scope).states

    def embed_or_load(self, text: str, scope: str) -> TextEmbedding:
        """The embedding of a text, from the cache on disk or else computed; `embed` keeps recent ones in memory."""
        embedding = self.cache.get(text, scope) if self.cache else None
        if embedding is None:
            embedding = self.compute(text)
            if self.cache:
                self.cache.put(text, embedding, scope)
        return embedding

    def compute(self, text: str) -> TextEmbedding:
        """The unit vector and the states of a text, in one run of the model."""
        vectors, states, mask = self.run([text], "embedding", "states")
        [stripped] = strip_special_tokens(states, mask)
        return TextEmbedding(vectors[0], stripped if len(stripped) else self.states(["."])[0])

    def count_tokens_uncached(self, word: str) -> int:
        """The number of tokens in a word; `count_tokens` caches it."""
        return len(self.tokenizer.encode(word, add_special_tokens=False).tokens)

    def run(self, texts: Sequence[str], *outputs: str) -> list[Any]:
        """The named outputs of the model, and the mask of real tokens (texts, tokens)."""
        tokens = self.tokenizer.encode_batch(list(texts))
        ids = np.array([row.ids for row in tokens], np.int64)
        mask = np.array([row.attention_mask for row in tokens], np.int64)
        return [*self.session.run(list(outputs), {"input_ids": ids, "attention_mask": mask}), mask]


def strip_special_tokens(states: Floats, mask: npt.NDArray[np.int64]) -> list[Floats]:
    """The states of each text without padding and special tokens."""
    return [row[1 : length - 1] for row, length in zip(states, mask.sum(1), strict=True)]


def open_onnx(folder: Path, embedding_cache: Path | None = None) -> OnnxEmbedder:
    """The exported text model in a folder; raises BadSetup unless it matches the digest written at export."""
    path = folder / ONNX_NAME
    if not is_intact(path):
        raise BadSetup(f"the text model {path} is missing or damaged: run `memoaized prepare --text-folder {folder}`")
    return load_onnx(path, path.with_suffix(".json").read_text(), embedding_cache)


@lru_cache(maxsize=1)
def load_onnx(path: Path, _manifest: str, embedding_cache: Path | None) -> OnnxEmbedder:
    """The model, loaded once per process and shared; a changed manifest loads it again."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # on a busy two-core machine, two threads took 50 times as long as one
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(path.with_suffix(".tokenizer.json")))
    tokenizer.enable_truncation(LONGEST_TEXT)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return OnnxEmbedder(session, tokenizer, path.stem, open_cache(embedding_cache, path.stem))


def open_cache(folder: Path | None, model: str) -> EmbeddingCache | None:
    """The cache of a model's embeddings in a folder; None without a folder."""
    return EmbeddingCache(folder / f"embeddings-{model}", len(STATE_LAYERS), DIMENSION) if folder else None


def digest(data: bytes) -> str:
    """32 hex digits of BLAKE2b, which hashes the 60 MB of the model in a tenth of the time of SHA-256."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def is_intact(path: Path) -> bool:
    """Whether the exported model matches its manifest and was made from the official weights."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        official = manifest["weights"] == SHA256 and tuple(manifest["layers"]) == STATE_LAYERS
        return bool(official and manifest["onnx"] == digest(path.read_bytes()))
    except (OSError, ValueError, KeyError):
        return False
