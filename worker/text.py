"""Prompts as MiniLM token states, what the project's own picture model listens to. Knows no pictures.

The same numbers come from `StableDiffusionPipeline` when MiniLM's BertModel is its text encoder.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import AutoTokenizer, BertModel

from memo.minilm import minilm_folder

TOKENS = 24  # states per prompt; longer prompts are cut, shorter ones padded
BATCH = 128

TextEncoder = Callable[[Sequence[str]], Tensor]


def open_text_encoder() -> TextEncoder:
    """A function from n prompts to (n, 24, 384) float32 states; the empty prompt is the unconditional one.

    Raises BadSetup when the packaged text model is absent or altered.
    """
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def encode(prompts: Sequence[str]) -> Tensor:
        parts = [torch.zeros(0, TOKENS, model.config.hidden_size)]
        for start in range(0, len(prompts), BATCH):
            tokens = tokenizer(
                list(prompts[start : start + BATCH]),
                padding="max_length",
                truncation=True,
                max_length=TOKENS,
                return_tensors="pt",
            )
            states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            parts.append(states.last_hidden_state.float())
        return torch.cat(parts)

    return encode
