"""A network that reads both prompts together with the last two layers of MiniLM.

The lower layers read each prompt alone, so their states can be stored. The network averages the scores of both
orders, so swapping the prompts changes nothing. Attribute names are the keys of stored weights: do not rename them.
"""

import torch
from torch import Tensor, nn

from .joint_reader import PAIR_FEATURES, JointReader

JOINED = 2  # row of LAYERS whose states are the input: the fourth of six layers


class CrossingNetwork(JointReader):
    """Scores a pair with one logit. `layers` are the upper layers of MiniLM."""

    def __init__(self, layers: nn.ModuleList, dropout: float = 0.1) -> None:
        super().__init__(layers, JOINED, dropout)
        self.decide = nn.Sequential(nn.Linear(PAIR_FEATURES, 256), nn.GELU(), nn.Dropout(dropout), nn.Linear(256, 1))

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Return the logits (n) of pairs; see `JointReader.read_pairs` for the inputs."""
        if self.training:
            return self.score_in_order(states, real, *((a, b) if torch.rand(()) < 0.5 else (b, a)))
        forwards, backwards = self.score_in_order(states, real, torch.cat([a, b]), torch.cat([b, a])).chunk(2)
        return (forwards + backwards) / 2

    def score_in_order(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Return the logits (n) with `a` first and `b` second."""
        logits: Tensor = self.decide(self.read_pairs(states, real, a, b)).squeeze(-1)
        return logits
