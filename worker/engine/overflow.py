"""Finds numbers that overflowed in what networks compute, so that no picture is made of them.

Weights that are NaN, adapters that are far too strong, and half precision lead to infinite values or NaN, which then
become black pixels. Knows tensors and autoencoders; neither prompts nor queues.
"""

import logging
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from memo import MemoError

log = logging.getLogger(__name__)

LARGEST = 1e6  # magnitude of a sound latent; the noisiest schedules begin with some thousands


class Overflow(MemoError):
    """The numbers of a painting overflowed; `when` says where, for example "at step 3"."""

    def __init__(self, when: str, remedy: str = "") -> None:
        self.when = when
        super().__init__(f"the numbers overflowed {when}{remedy and ': '}{remedy}")


def sound_rows(numbers: Tensor) -> list[bool]:
    """For each row of (n, …), whether all its numbers are finite and below LARGEST."""
    largest = numbers.detach().abs().flatten(1).amax(1).float()
    sound: list[bool] = (largest < LARGEST).tolist()  # False for NaN, too
    return sound


def all_finite(numbers: Tensor) -> bool:
    """Whether no number is infinite or NaN."""
    return bool(torch.isfinite(numbers).all())


class OverflowWatch:
    """Notes which rows of a network's output overflow, for pipelines, which call the network on their own."""

    def __init__(self, network: Any) -> None:
        self.bad_rows: set[int] = set()
        if network is not None:
            network.register_forward_hook(self.note_rows)

    def note_rows(self, _network: Any, _arguments: Any, output: Any) -> None:
        """Note the rows of one call that overflowed."""
        self.bad_rows |= {number for number, sound in enumerate(sound_rows(output[0])) if not sound}

    def take(self, count: int) -> set[int]:
        """Which of `count` paintings, numbered from 0, have rows that overflowed since the last call.

        With guidance, the rows of all negative prompts come before those of all prompts.
        """
        numbers = {row % count for row in self.bad_rows}
        self.bad_rows = set()
        return numbers


def repeat_in_float32(vae: Any) -> None:
    """Make an autoencoder in half precision decode once more in float32 when its numbers overflow.

    Stable Diffusion's own autoencoders overflow in float16 for some pictures. The copy is made when first needed.
    """
    decode = vae.decode
    copies: list[Any] = []

    def decode_safely(latents: Tensor, *arguments: Any, **options: Any) -> Any:
        decoded = decode(latents, *arguments, **options)
        if latents.dtype == torch.float32 or all_finite(decoded[0]) or not all_finite(latents):
            return decoded
        log.warning("the autoencoder overflowed in %s and decodes again in float32", latents.dtype)
        if not copies:
            copies.append(deepcopy(vae).float())
        return type(vae).decode(copies[0], latents.float(), *arguments, **options)

    vae.decode = decode_safely
