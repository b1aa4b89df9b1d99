"""Turns prompts into vectors: prompts with similar meanings get vectors with a cosine near 1.

The default model runs on ONNX Runtime, so that the web process never loads torch (`onnx_embedder`). Other models of
the Hugging Face hub run on sentence-transformers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import BadSetup
from .onnx_embedder import open_onnx
from .picture import SHARED

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into unit vectors. `name` identifies the vectors: it is part of the collection's name."""

    name: str
    dimension: int

    def __call__(self, texts: Sequence[str], scope: str = SHARED) -> Vectors:
        """Unit vectors, shape (len(texts), dimension).

        Embedding a text again is faster only within its own scope. So timing does not reveal what other users wrote.
        """

    def begin(self, text: str, scope: str = SHARED) -> Callable[[], Vectors]:
        """Start embedding a text in the background; the returned function waits for its unit vector (dimension,)."""

    def forget(self, text: str, scope: str) -> None:
        """Drop what is cached of a text in a scope."""


class HubEmbedder:
    """Any sentence-transformers model; loads torch."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        self.dimension = int(model.get_embedding_dimension())

    def __call__(self, texts: Sequence[str], scope: str = SHARED) -> Vectors:
        """See Embedder."""
        vectors = self.model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    def begin(self, text: str, scope: str = SHARED) -> Callable[[], Vectors]:
        """See Embedder. Embeds only when the returned function is called, since nothing caches an unused vector."""
        return lambda: self([text])[0]

    def forget(self, text: str, scope: str) -> None:
        """See Embedder. Nothing is cached."""


def open_embedder(spec: str, folder: Path, embedding_cache: Path | None = None) -> Embedder:
    """The embedder `minilm`, or `st:HUB_ID` from the hub; raises BadSetup with the remedy.

    `minilm` reads the exported text model from `folder`, and caches its embeddings in the folder `embedding_cache`.
    """
    if spec == "minilm":
        return open_onnx(folder, embedding_cache)
    if spec.startswith("st:"):
        return open_hub(spec.removeprefix("st:"))
    raise BadSetup(f"the embedder {spec!r} is neither 'minilm' nor 'st:HUB_ID'")


def open_hub(hub_id: str) -> HubEmbedder:
    """A sentence-transformers model from the Hugging Face hub or a local folder; raises BadSetup."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise BadSetup(f"the embedder 'st:{hub_id}' needs torch: pip install 'memoaized[gpu]'") from error
    try:
        model = SentenceTransformer(hub_id, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadSetup(f"the text model {hub_id!r} cannot be loaded: {error}") from error
    return HubEmbedder(model, "st-" + "".join(c if c.isalnum() else "-" for c in hub_id))
