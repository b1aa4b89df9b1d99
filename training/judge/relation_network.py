"""A network that reads two prompts together with all layers of MiniLM and names their relation.

It is the slowest and the most accurate of the comparing networks. Of a long prompt it reads only the tokens that the
other prompt matches worst: what two long prompts have in common does not tell them apart.
Attribute names are the keys of stored weights: do not rename them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS
from training.pairs.relation_pair import RELATIONS

from .crossing_network import CrossingNetwork

EMBEDDINGS = 0  # row of LAYERS whose states are the input: words with their positions
KEPT = 32  # tokens of each prompt that are read
HIDDEN = 256
SHARES = 3  # logits of a share of at least 1, 2 and 3
UNMATCHED = 2.0  # above every cosine, so that padding comes last


class RelationNetwork(CrossingNetwork):
    """States of two texts to three outputs; `layers` are all layers of MiniLM.

    They are the log-odds of "same" (n), the logits of the relations (n, 4) in the order of RELATIONS, and those of
    the share (n, 3). The first text is the remembered one.
    """

    def __init__(self, layers: nn.ModuleList, dropout: float = 0.1) -> None:
        super().__init__(layers, dropout, joined=EMBEDDINGS)
        self.decide = nn.Sequential(nn.Linear(5 * DIMENSION, HIDDEN), nn.GELU(), nn.Dropout(dropout))
        self.relation = nn.Linear(HIDDEN, len(RELATIONS))
        self.share = nn.Linear(HIDDEN, SHARES)

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """States (texts, tokens, layers, 384), mask (texts, tokens), rows of remembered and new texts (n)."""
        hidden = self.decide(self.features(states, real, a, b))
        relation = self.relation(hidden)
        return relation[:, 0] - relation[:, 1:].logsumexp(-1), relation, self.share(hidden)

    def choose(self, tokens: Tensor, real: Tensor, matched: Tensor) -> tuple[Tensor, Tensor]:
        """The KEPT tokens that the other text matches worst, (n, kept, 384), and their mask (n, kept)."""
        worst = matched[..., len(LAYERS) - 1].masked_fill(~real, UNMATCHED)
        rows = worst.topk(at_most(KEPT, worst), 1, largest=False, sorted=False).indices
        return tokens.gather(1, rows[..., None].expand(-1, -1, DIMENSION)), real.gather(1, rows)


def at_most(limit: int, tokens: Tensor) -> Any:
    """The number of tokens (n, tokens), but not more than `limit`; an exported network computes it when it runs."""
    if not torch.onnx.is_in_onnx_export():
        return min(limit, tokens.shape[1])
    return torch.minimum(torch.tensor(limit), torch._shape_as_tensor(tokens)[1])
