"""The common part of the networks that read both prompts together with layers of MiniLM.

The layers start with MiniLM's own weights and attend across both prompts, after MacAvaney et al. 2020
(https://arxiv.org/abs/2004.14255). Before that, each token is told how well the other prompt matches it.
Attribute names are the keys of stored weights: do not rename them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS

from .aligning_network import MASKED, position_jumps

MATCH_FEATURES = 3 * len(LAYERS) + 2  # numbers that describe how well a token is matched
PAIR_FEATURES = 5 * DIMENSION  # numbers that describe a pair


class JointReader(nn.Module):
    """Runs layers of MiniLM over both prompts of a pair.

    `layers` are the layers to run. `joined` is the row of LAYERS whose states are their input.
    """

    def __init__(self, layers: nn.ModuleList, joined: int, dropout: float) -> None:
        super().__init__()
        self.layers, self.joined = layers, joined
        self.side = nn.Parameter(torch.randn(2, DIMENSION) * 0.02)
        self.likeness = nn.Parameter(torch.full((len(LAYERS),), 8.0))
        added = nn.Linear(128, DIMENSION)
        nn.init.zeros_(added.weight)
        self.told = nn.Sequential(nn.Linear(MATCH_FEATURES, 128), nn.GELU(), added)
        self.drop = nn.Dropout(dropout)

    def read_pairs(self, text_states: Tensor, text_real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Compute PAIR_FEATURES numbers for each pair. `a` is the first prompt and `b` the second.

        `text_states` (texts, tokens, layers, 384) and `text_real` (texts, tokens) hold each text once. `a` and `b`
        (n) are rows of them.
        """
        texts = [(text_states[rows], text_real[rows]) for rows in (a, b)]
        sides = []
        for row, (text, other) in enumerate((texts, texts[::-1])):
            with torch.autocast("cpu", enabled=False):  # 16 bits are too coarse for similarities
                matches = self.match_tokens(text, other)
            tokens = text[0][:, :, self.joined] + self.side[row] + self.told(matches)
            sides.append(self.select_tokens(tokens, text[1], matches))
        states = self.drop(torch.cat([tokens for tokens, _ in sides], 1))
        real = torch.cat([side_real for _, side_real in sides], 1)
        mask = (~real)[:, None, None].to(states.dtype) * MASKED
        for layer in self.layers:
            states = hidden_states(layer(states, mask))
        first, second = (mean(part, side[1]) for part, side in zip(states.chunk(2, 1), sides, strict=True))
        largest = states.masked_fill(~real[..., None], MASKED).amax(1)
        return torch.cat([first, second, (first - second).abs(), first * second, largest], -1)

    def select_tokens(self, tokens: Tensor, real: Tensor, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Choose tokens (n, tokens, 384) for the layers to read, and return them with their mask. Default: all."""
        return tokens, real

    def match_tokens(self, text: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        """Describe how well the other text matches each token: (n, tokens, MATCH_FEATURES).

        For each of LAYERS, this is the similarity of the most similar token, the mean similarity of the aligned
        tokens, and the similarity to their mean. Two more numbers say how the aligned position jumps, which shows the
        word order.
        """
        unit, unit2 = (nn.functional.normalize(states, dim=-1) for states, _ in (text, other))
        real2 = other[1]
        similarity = torch.einsum("nild,njld->nijl", unit, unit2)
        align = (similarity * self.likeness).sum(-1).masked_fill(~real2[:, None], MASKED).softmax(-1)
        best = similarity.masked_fill(~real2[:, None, :, None], -1).amax(2)
        own = (unit * torch.einsum("nij,njld->nild", align, unit2)).sum(-1)
        return torch.cat([best, (align[..., None] * similarity).sum(2), own, position_jumps(align, text[1])], -1)


def mean(states: Tensor, real: Tensor) -> Tensor:
    """Average states (n, tokens, 384) over all tokens except padding: (n, 384)."""
    weight = real[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def hidden_states(output: Any) -> Tensor:
    """Get the states from a layer's output: some versions of transformers return them as the first of a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
