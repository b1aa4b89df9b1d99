"""Prompts as MiniLM token states, what the project's own picture model listens to, and names as points of meaning.

The same states come from `StableDiffusionPipeline` when MiniLM's BertModel is its text encoder. Knows no pictures.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel

from memo.minilm import DIMENSION, minilm_folder

TOKENS = 24  # states per prompt; longer prompts are cut, shorter ones padded
BATCH = 128


class TextEncoder:
    """MiniLM with its tokenizer, for several threads."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.lock = threading.Lock()  # a tokenizer of transformers is set to its padding, then called

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """n prompts to (n, 24, 384) float32 states; the empty prompt is the unconditional one."""
        states = [states for states, _ in self.batches(prompts, padding="max_length")]
        return torch.cat([torch.zeros(0, TOKENS, DIMENSION), *states])

    def pooled(self, texts: Sequence[str]) -> Tensor:
        """n texts to (n, 384) float32 of length 1, whose inner products are likenesses of meaning."""
        means = [(states * mask).sum(1) / mask.sum(1) for states, mask in self.batches(texts, padding="longest")]
        return F.normalize(torch.cat([torch.zeros(0, DIMENSION), *means]))

    @torch.no_grad()
    def batches(self, texts: Sequence[str], *, padding: str) -> Iterator[tuple[Tensor, Tensor]]:
        """(states (n, tokens, 384), mask (n, tokens, 1)) of some of the texts at a time."""
        for start in range(0, len(texts), BATCH):
            some = list(texts[start : start + BATCH])
            with self.lock:
                tokens = self.tokenizer(
                    some, padding=padding, truncation=True, max_length=TOKENS, return_tensors="pt"
                )
            states = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            yield states.last_hidden_state.float(), tokens["attention_mask"][..., None].float()


def open_text_encoder() -> TextEncoder:
    """The packaged MiniLM; raises BadSetup when it is absent or altered."""
    folder = minilm_folder()
    return TextEncoder(AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval())
