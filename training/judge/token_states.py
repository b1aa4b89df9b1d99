"""What MiniLM makes of texts, token by token, kept on disk: hidden states of some layers, frozen."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from memo.judge.labelled_pairs import Pair
from memo.judge.learned import network_inputs
from memo.minilm import DIMENSION, minilm_folder
from memo.minilm import STATE_LAYERS as LAYERS
from training.text_export import load_bert

log = logging.getLogger(__name__)

LONGEST = 128  # tokens, special ones included
BATCH = 64


class Reader:
    """MiniLM with its tokenizer."""

    def __init__(self) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(minilm_folder())
        self.bert = load_bert().eval()

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> list[NDArray[np.float16]]:
        """Of each text (tokens, layers, 384) without the special tokens; an empty text has one token."""
        tokens = self.tokenizer(
            [text or "." for text in texts], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        found = self.bert(**tokens, output_hidden_states=True).hidden_states
        states = torch.stack([found[layer] for layer in LAYERS], 2)
        lengths = tokens["attention_mask"].sum(1).tolist()
        return [row[1 : length - 1].numpy().astype(np.float16) for row, length in zip(states, lengths, strict=True)]


class TokenStateStore:
    """States of many texts in one file, read as they are needed."""

    def __init__(self, states: NDArray[np.float16], spans: dict[str, tuple[int, int]]) -> None:
        self.states, self.spans = states, spans

    def length(self, text: str) -> int:
        """Tokens of a text."""
        begin, end = self.spans[text]
        return end - begin

    def longer(self, pair: Pair) -> int:
        """Tokens of the longer text of a pair."""
        return max(self.length(pair.a), self.length(pair.b))

    def of(self, text: str) -> NDArray[np.float16]:
        """A text's states (tokens, layers, 384)."""
        begin, end = self.spans[text]
        return self.states[begin:end]

    def batch(self, pairs: Sequence[Pair]) -> list[Tensor]:
        """What a network takes of some pairs, as `memo.judge.learned.network_inputs` has it."""
        return [
            torch.from_numpy(part) for part in network_inputs([(one.a, one.b) for one in pairs], self.of).values()
        ]


def open_token_states(path: Path, texts: Sequence[str], reader: Reader) -> TokenStateStore:
    """A shelf that has all these texts; those that the file lacks are read, in order of length, and put behind."""
    index = path.with_suffix(".pt")
    spans: dict[str, tuple[int, int]] = torch.load(index, weights_only=True) if index.exists() else {}
    at = max((end for _, end in spans.values()), default=0)
    new = sorted(set(texts) - spans.keys(), key=lambda text: (len(text), text))
    if new:
        log.info("reading %d texts", len(new))
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(at * len(LAYERS) * DIMENSION * 2)
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            for text, states in zip(some, reader.read(some), strict=True):
                states.tofile(file)
                spans[text] = (at, at + len(states))
                at += len(states)
    torch.save(spans, index)
    return TokenStateStore(np.memmap(path, np.float16, "r", shape=(at, len(LAYERS), DIMENSION)), spans)
