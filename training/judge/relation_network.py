"""A network that reads both prompts together with all layers of MiniLM and predicts their relation.

It is more accurate than the other networks, and slower. To save time, it does not read a long prompt completely, but
only the tokens that the other prompt matches worst. The parts that two long prompts share do not tell them apart.
Attribute names are the keys of stored weights: do not rename them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS
from training.pairs.relation_pair import RELATIONS

from .joint_reader import PAIR_FEATURES, JointReader

OUTPUTS = ("logit", "relation", "share")  # names in the exported network
EMBEDDINGS = 0  # row of LAYERS whose states are the input: words with their positions
MAX_READ = 32  # tokens of each prompt
HIDDEN = 256
SHARES = 3  # one logit each for a share of at least 1, 2 and 3
ABOVE_COSINES = 2.0  # sorts padding after all real tokens


class SharedDropout(nn.Dropout):
    """Dropout that sets the same features of all tokens in a text to zero, so that it needs few random numbers."""

    def forward(self, states: Tensor) -> Tensor:
        """Apply it to states (n, tokens, features) in training; otherwise change nothing."""
        if not self.training:
            return states
        kept = torch.rand(len(states), 1, states.shape[-1]) >= self.p
        return states * (kept.to(states.dtype) / (1 - self.p))


class RelationNetwork(JointReader):
    """Predicts the relation of a remembered prompt `a` to a new prompt `b`. `layers` are all layers of MiniLM."""

    def __init__(self, layers: nn.ModuleList, dropout: float = 0.1) -> None:
        super().__init__(layers, EMBEDDINGS, dropout)
        self.decide = nn.Sequential(nn.Linear(PAIR_FEATURES, HIDDEN), nn.GELU(), nn.Dropout(dropout))
        self.relation = nn.Linear(HIDDEN, len(RELATIONS))
        self.share = nn.Linear(HIDDEN, SHARES)

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return three outputs for each pair; see `JointReader.read_pairs` for the inputs.

        These are the log-odds that the prompts ask for the same picture (n), the logits of RELATIONS (n, 4), and the
        logits of a share of at least 1, 2 and 3 (n, 3).
        """
        hidden = self.decide(self.read_pairs(states, real, a, b))
        relation = self.relation(hidden)
        return relation[:, 0] - relation[:, 1:].logsumexp(-1), relation, self.share(hidden)

    def select_tokens(self, tokens: Tensor, real: Tensor, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the tokens that the other prompt matches worst: (n, kept, 384), with their mask (n, kept)."""
        similarity = matches[..., len(LAYERS) - 1].masked_fill(~real, ABOVE_COSINES)
        rows = similarity.topk(count_read(tokens), 1, largest=False, sorted=False).indices
        return tokens.gather(1, rows[..., None].expand(-1, -1, DIMENSION)), real.gather(1, rows)


def count_read(tokens: Tensor) -> Any:
    """Return how many of the tokens (n, tokens, 384) are read: all, but at most MAX_READ.

    During export it returns a tensor, so that the exported network computes the number each time it runs.
    """
    if not torch.onnx.is_in_onnx_export():
        return min(MAX_READ, tokens.shape[1])
    return torch.minimum(torch.tensor(MAX_READ), torch._shape_as_tensor(tokens)[1])
