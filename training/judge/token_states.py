"""Hidden states of MiniLM for every token of every text, computed once and kept on disk."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from disk.durable_files import move_durably
from memo.judge.labelled_pairs import Pair
from memo.judge.learned import network_inputs
from memo.minilm import DIMENSION, minilm_folder
from memo.minilm import STATE_LAYERS as LAYERS
from training.pairs.relation_pair import RelationPair
from training.text_export import load_bert

log = logging.getLogger(__name__)

MAX_TOKENS = 128  # tokens, special ones included
BATCH = 64


class TokenStateReader:
    """MiniLM and its tokenizer, frozen."""

    def __init__(self) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(minilm_folder())
        self.bert = load_bert().eval()

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> list[NDArray[np.float16]]:
        """States of each text, (tokens, layers, 384), without the special tokens; an empty text counts as "."."""
        tokens = self.tokenizer(
            [text or "." for text in texts], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        hidden = self.bert(**tokens, output_hidden_states=True).hidden_states
        states = torch.stack([hidden[layer] for layer in LAYERS], 2)
        lengths = tokens["attention_mask"].sum(1).tolist()
        return [row[1 : length - 1].numpy().astype(np.float16) for row, length in zip(states, lengths, strict=True)]


class TokenStateStore:
    """States of many texts in one memory-mapped file."""

    def __init__(self, states: NDArray[np.float16], spans: dict[str, tuple[int, int]]) -> None:
        self.states, self.spans = states, spans

    def length(self, text: str) -> int:
        """Number of tokens of a text."""
        begin, end = self.spans[text]
        return end - begin

    def longer_length(self, pair: Pair) -> int:
        """Number of tokens of the longer text of a pair."""
        return max(self.length(pair.a), self.length(pair.b))

    def states_of(self, text: str) -> NDArray[np.float16]:
        """States of a text, (tokens, layers, 384)."""
        begin, end = self.spans[text]
        return self.states[begin:end]

    def batch(self, pairs: Sequence[Pair] | Sequence[RelationPair]) -> list[Tensor]:
        """Inputs of a network for these pairs: states, mask, and the rows of both sides."""
        return [
            torch.from_numpy(part)
            for part in network_inputs([(pair.a, pair.b) for pair in pairs], self.states_of).values()
        ]


def open_token_states(path: Path, texts: Sequence[str], reader: TokenStateReader) -> TokenStateStore:
    """The store at `path` with all these texts; missing ones are read, in order of length, and appended."""
    index = path.with_suffix(".pt")
    spans: dict[str, tuple[int, int]] = torch.load(index, weights_only=True) if index.exists() else {}
    size = max((end for _, end in spans.values()), default=0)
    new = sorted(set(texts) - spans.keys(), key=lambda text: (len(text), text))
    if new:
        log.info("reading %d texts", len(new))
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(size * len(LAYERS) * DIMENSION * 2)
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            for text, states in zip(batch, reader.read(batch), strict=True):
                states.tofile(file)
                spans[text] = (size, size + len(states))
                size += len(states)
    if new:
        torch.save(spans, new_index := index.with_suffix(".new"))
        move_durably(new_index, index)
    return TokenStateStore(np.memmap(path, np.float16, "r", shape=(size, len(LAYERS), DIMENSION)), spans)
