"""A second kind of comparing network, which reads both texts together with the last layers of MiniLM.

The lower layers read each text alone, so their states can be stored. The upper layers start from MiniLM's own weights
and attend across both texts, after MacAvaney et al. 2020 (https://arxiv.org/abs/2004.14255). Features of the
alignment are added to the tokens first. The score is the mean of both orders, so the texts may be swapped.
Attribute names are the keys of stored weights: do not rename them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS

from .aligning_network import MASKED, position_jumps

JOINED = 2  # row of LAYERS whose states are the input: the fourth of six layers
FEATURES = 3 * len(LAYERS) + 2  # of the alignment, for each token


class CrossingNetwork(nn.Module):
    """States of two texts to one logit; `layers` are the upper layers of MiniLM."""

    def __init__(self, layers: nn.ModuleList, dropout: float = 0.1, joined: int = JOINED) -> None:
        super().__init__()
        self.layers, self.joined = layers, joined
        self.side = nn.Parameter(torch.randn(2, DIMENSION) * 0.02)
        self.likeness = nn.Parameter(torch.full((len(LAYERS),), 8.0))
        added = nn.Linear(128, DIMENSION)
        nn.init.zeros_(added.weight)
        self.told = nn.Sequential(nn.Linear(FEATURES, 128), nn.GELU(), added)
        self.drop = nn.Dropout(dropout)
        self.decide = nn.Sequential(nn.Linear(5 * DIMENSION, 256), nn.GELU(), nn.Dropout(dropout), nn.Linear(256, 1))

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """States (texts, tokens, layers, 384), mask (texts, tokens), rows of both sides (n) → logits (n)."""
        if self.training:
            return self.score_in_order(states, real, *((a, b) if torch.rand(()) < 0.5 else (b, a)))
        forwards, backwards = self.score_in_order(states, real, torch.cat([a, b]), torch.cat([b, a])).chunk(2)
        return (forwards + backwards) / 2

    def score_in_order(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Logits (n) with `a` first and `b` second."""
        logits: Tensor = self.decide(self.features(states, real, a, b)).squeeze(-1)
        return logits

    def features(self, text_states: Tensor, text_real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """What the layers found out about each pair, (n, 5 × 384), with `a` first and `b` second."""
        sides = [(text_states[rows], text_real[rows]) for rows in (a, b)]
        chosen = []
        for row, (text, other) in enumerate((sides, sides[::-1])):
            matched = self.alignment_features(text, other)
            tokens = text[0][:, :, self.joined] + self.side[row] + self.told(matched)
            chosen.append(self.choose(tokens, text[1], matched))
        states, real = self.drop(torch.cat([tokens for tokens, _ in chosen], 1)), torch.cat([r for _, r in chosen], 1)
        mask = (~real)[:, None, None].to(states.dtype) * MASKED
        for layer in self.layers:
            states = hidden_states(layer(states, mask))
        first, second = (mean(part, side[1]) for part, side in zip(states.chunk(2, 1), chosen, strict=True))
        largest = states.masked_fill(~real[..., None], MASKED).amax(1)
        return torch.cat([first, second, (first - second).abs(), first * second, largest], -1)

    def choose(self, tokens: Tensor, real: Tensor, matched: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens (n, tokens, 384) that the layers read, and their mask; here all of them."""
        return tokens, real

    def alignment_features(self, text: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        """(n, tokens, FEATURES): how well each token is matched in the other text, and its position jumps."""
        unit, unit2 = (nn.functional.normalize(states, dim=-1) for states, _ in (text, other))
        real2 = other[1]
        similarity = torch.einsum("nild,njld->nijl", unit, unit2)
        align = (similarity * self.likeness).sum(-1).masked_fill(~real2[:, None], MASKED).softmax(-1)
        best = similarity.masked_fill(~real2[:, None, :, None], -1).amax(2)
        own = (unit * torch.einsum("nij,njld->nild", align, unit2)).sum(-1)
        return torch.cat([best, (align[..., None] * similarity).sum(2), own, position_jumps(align, text[1])], -1)


def mean(states: Tensor, real: Tensor) -> Tensor:
    """Mean of states (n, tokens, 384) over the tokens that are not padding: (n, 384)."""
    weight = real[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def hidden_states(output: Any) -> Tensor:
    """The states that a layer returns, alone or as the first of a tuple, depending on the version of transformers."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
