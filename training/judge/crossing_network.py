"""A second kind of comparing network: both texts side by side through the last layers of MiniLM.

The lower layers have read each text alone, so their states can be kept; the upper ones, begun from MiniLM's own
weights, let tokens of both texts look at each other, after MacAvaney et al. 2020 (https://arxiv.org/abs/2004.14255).
What the alignment finds is added to the tokens before. The mean of both orders decides: the texts may change places.
"""

from typing import Any

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS

from .aligning_network import NEVER, jumps

JOINED = 2  # row of LAYERS whose states go in: the fourth of six layers


class Cross(nn.Module):
    """Two texts' states to a logit; `layers` are copied from MiniLM, or made anew from its configuration."""

    def __init__(self, layers: nn.ModuleList, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = layers
        self.side = nn.Parameter(torch.randn(2, DIMENSION) * 0.02)
        self.likeness = nn.Parameter(torch.full((len(LAYERS),), 8.0))
        added = nn.Linear(128, DIMENSION)
        nn.init.zeros_(added.weight)
        self.told = nn.Sequential(nn.Linear(3 * len(LAYERS) + 2, 128), nn.GELU(), added)
        self.drop = nn.Dropout(dropout)
        self.decide = nn.Sequential(nn.Linear(5 * DIMENSION, 256), nn.GELU(), nn.Dropout(dropout), nn.Linear(256, 1))

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """States (texts, tokens, layers, 384) and mask (texts, tokens), rows of both sides (n) each; logits (n)."""
        if self.training:
            return self.one_way(states, real, *((a, b) if torch.rand(()) < 0.5 else (b, a)))
        one, other = self.one_way(states, real, torch.cat([a, b]), torch.cat([b, a])).chunk(2)
        return (one + other) / 2

    def one_way(self, given: Tensor, given_real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """With these sides."""
        sides = [(given[rows], given_real[rows]) for rows in (a, b)]
        tokens = [
            mine[0][:, :, JOINED] + self.side[row] + self.told(self.found(mine, other))
            for row, (mine, other) in enumerate((sides, sides[::-1]))
        ]
        states, real = self.drop(torch.cat(tokens, 1)), torch.cat([part for _, part in sides], 1)
        mask = (~real)[:, None, None].to(states.dtype) * NEVER
        for layer in self.layers:
            states = first(layer(states, mask))
        one, two = (mean(part, kept) for part, (_, kept) in zip(states.chunk(2, 1), sides, strict=True))
        most = states.masked_fill(~real[..., None], NEVER).amax(1)
        logits: Tensor = self.decide(torch.cat([one, two, (one - two).abs(), one * two, most], -1)).squeeze(-1)
        return logits

    def found(self, mine: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        """(n, tokens, 3 × layers + 2): how well each token is found in the other text, and how the places leap."""
        unit, unit2 = (nn.functional.normalize(states, dim=-1) for states, _ in (mine, other))
        real2 = other[1]
        alike = torch.einsum("nild,njld->nijl", unit, unit2)
        align = (alike @ self.likeness).masked_fill(~real2[:, None], NEVER).softmax(-1)
        best = alike.masked_fill(~real2[:, None, :, None], -1).amax(2)
        own = (unit * torch.einsum("nij,njld->nild", align, unit2)).sum(-1)
        return torch.cat([best, (align[..., None] * alike).sum(2), own, jumps(align, mine[1])], -1)


def mean(states: Tensor, real: Tensor) -> Tensor:
    """Over the real tokens."""
    weight = real[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def first(output: Any) -> Tensor:
    """A layer's states, whether it answers with them alone or with more behind."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
