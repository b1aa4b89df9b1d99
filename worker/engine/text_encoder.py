"""MiniLM as a text encoder: token states of prompts for the project's own picture model, and sentence embeddings.

`StableDiffusionPipeline` computes the same states with MiniLM's BertModel as its text encoder. Knows no pictures.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel

from memo.errors import shorten
from memo.minilm import DIMENSION, minilm_folder

TOKENS = 24  # states per prompt; longer prompts are cut, shorter ones padded
BATCH_SIZE = 128


class TextEncoder:
    """MiniLM with its tokenizer; safe to use from several threads."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.vocabulary = frozenset(tokenizer.get_vocab())
        self.lock = threading.Lock()  # transformers' tokenizers store their padding between two calls

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """The states (n, 24, 384) of n prompts, float32; the empty prompt is the unconditional one."""
        states = [states for states, _ in self.encode(prompts, padding="max_length")]
        return torch.cat([torch.zeros(0, TOKENS, DIMENSION), *states])

    def embed(self, texts: Sequence[str]) -> Tensor:
        """The embeddings (n, 384) of n texts, float32 of length 1; inner products are cosine similarities."""
        means = [(states * mask).sum(1) / mask.sum(1) for states, mask in self.encode(texts, padding="longest")]
        return F.normalize(torch.cat([torch.zeros(0, DIMENSION), *means]))

    def unread(self, prompt: str) -> str:
        """The rest of a prompt that is longer than 24 tokens; "" if there is none."""
        with self.lock:
            return find_unread(self.tokenizer, prompt, TOKENS)

    def is_word(self, word: str) -> bool:
        """Whether the vocabulary has a lower-case word as a single token, as it has the 20,000 most frequent ones."""
        return word in self.vocabulary

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, padding: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the states (n, tokens, 384) and the mask (n, tokens, 1) of one batch of texts after another."""
        for start in range(0, len(texts), BATCH_SIZE):
            batch = list(texts[start : start + BATCH_SIZE])
            with self.lock:
                tokens = self.tokenizer(
                    batch, padding=padding, truncation=True, max_length=TOKENS, return_tensors="pt"
                )
            states = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            yield states.last_hidden_state.float(), tokens["attention_mask"][..., None].float()


def find_unread(tokenizer: Any, prompt: str, tokens: int) -> str:
    """The part of a prompt that a text encoder of `tokens` tokens, two of them for start and end, does not read."""
    ids = tokenizer(prompt, truncation=False)["input_ids"]
    return (
        str(tokenizer.decode(ids[tokens - 1 : -1], skip_special_tokens=True)).strip(" ,.;")
        if len(ids) > tokens
        else ""
    )


def explain_unread(unread: str, tokens: int) -> tuple[str, ...]:
    """A note for users on the part of a prompt that the text encoder did not read; empty if it read all."""
    return (
        (f"the model reads only the first {tokens} tokens of a prompt, so not {shorten(unread)}",) if unread else ()
    )


def open_text_encoder() -> TextEncoder:
    """The packaged MiniLM; raises BadSetup if it is missing or altered."""
    folder = minilm_folder()
    return TextEncoder(AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval())
