"""A network that compares two texts token by token, by soft alignment in both directions.

For each token of one text it measures how well the other text matches its meaning (hidden states of MiniLM), its
position (word order) and its relations to other tokens (attention heads of MiniLM, mapped through the alignment).
The network is symmetric in its two texts. Attribute names are the keys of stored weights: do not rename them.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS

HEADS = 12
RELATED = (1, 2)  # rows of LAYERS; the attention of the layer after each of them shows which tokens belong together
MASKED = -1e4  # logit of padding


class Relations(nn.Module):
    """Which tokens of a text belong together, as the attention heads of one MiniLM layer see it."""

    def __init__(self, weights: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(DIMENSION, DIMENSION), nn.Linear(DIMENSION, DIMENSION)
        if weights is not None:
            self.load_state_dict(dict(weights))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, 384) → (n, heads, tokens, tokens); rows of real tokens sum to one, rows of padding to zero."""
        query, key = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query(states), self.key(states))
        )
        scores = query @ key.transpose(-1, -2) / (DIMENSION // HEADS) ** 0.5
        related: Tensor = scores.masked_fill(~real[:, None, None], MASKED).softmax(-1) * real[:, None, :, None]
        return related


class Attention(nn.Module):
    """Self-attention with four heads; torch's own module cannot be traced with a dynamic batch size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, width) → (n, tokens, width)."""
        parts = nn.functional.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        query, key, value = (part.reshape(*part.shape[:2], 4, -1).transpose(1, 2) for part in parts)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None])
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, width) → (n, tokens, width)."""
        tokens = tokens + self.drop(self.self_attn(self.norm1(tokens), real))
        wide = self.drop(nn.functional.gelu(self.linear1(self.norm2(tokens))))
        out: Tensor = tokens + self.drop(self.linear2(wide))
        return out


class Context(nn.Module):
    """Two transformer layers."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width, dropout) for _ in range(2))

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, width) → (n, tokens, width)."""
        for layer in self.layers:
            tokens = layer(tokens, real)
        return tokens


class AligningNetwork(nn.Module):
    """States of two texts to one logit: does the picture of one text fit the other?"""

    def __init__(
        self, width: int = 160, weights: Sequence[Mapping[str, Tensor]] | None = None, dropout: float = 0.15
    ) -> None:
        super().__init__()
        layers = len(LAYERS)
        self.relations = nn.ModuleList(Relations(weights[row] if weights else None) for row in range(len(RELATED)))
        self.value = nn.Linear(DIMENSION * layers, width)
        self.asked = nn.Linear(DIMENSION * layers, width, bias=False)
        self.likeness = nn.Parameter(torch.full((layers,), 8.0))
        self.learned = nn.Parameter(torch.zeros(()))
        features = 3 * layers + 2 + 2 * HEADS * len(RELATED)
        self.compare = nn.Sequential(nn.Linear(4 * width + features, width), nn.GELU(), nn.Dropout(dropout))
        self.context = Context(width, dropout)
        self.sum_up = nn.Sequential(nn.Linear(2 * width + 3 * layers, width), nn.GELU(), nn.Dropout(dropout))
        self.decide = nn.Linear(2 * width, 1)
        self.drop = nn.Dropout(0.1)

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """States (texts, tokens, layers, 384), mask (texts, tokens), rows of both sides (n) → logits (n)."""
        texts = self.project(states, real)
        rows, other_rows = torch.cat([a, b]), torch.cat([b, a])
        x, y = self.compare_texts([part[rows] for part in texts], [part[other_rows] for part in texts]).chunk(2)
        logits: Tensor = self.decide(torch.cat([torch.maximum(x, y), x + y], -1)).squeeze(-1)
        return logits

    def project(self, states: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        """Unit states, mask, values and queries (n, tokens, width), relations (n, heads, tokens, tokens)."""
        unit = nn.functional.normalize(states, dim=-1)
        related = [part(states[:, :, row], real) for part, row in zip(self.relations, RELATED, strict=True)]
        flat = unit.flatten(2)
        return unit, real, self.value(flat), self.asked(flat), torch.cat(related, 1)

    def compare_texts(self, text: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """How well the tokens of one text are matched in the other, pooled over the tokens: (n, width)."""
        unit, real, value, query, related = text
        unit2, real2, value2, query2, related2 = other
        similarity = torch.einsum("nild,njld->nijl", unit, unit2)
        scores = similarity @ self.likeness + self.learned * query @ query2.transpose(1, 2)
        align = scores.masked_fill(~real2[:, None], MASKED).softmax(-1) * real[..., None]
        value, matched = self.drop(value), align @ value2
        best = similarity.masked_fill(~real2[:, None, :, None], -1).amax(2)
        mean = (align[..., None] * similarity).sum(2)
        own = (unit * torch.einsum("nij,njld->nild", align, unit2)).sum(-1)
        agreement = relation_agreement(related, related2, align)
        features = torch.cat([best, mean, own, position_jumps(align, real), agreement], -1)
        tokens = self.compare(torch.cat([value, matched, (value - matched).abs(), value * matched, features], -1))
        tokens = self.context(tokens, real)
        weight = real[..., None].float()
        worst = best.masked_fill(~real[..., None], 2)
        pooled = [
            (tokens * weight).sum(1) / weight.sum(1),
            tokens.masked_fill(~real[..., None], MASKED).amax(1),
            worst.amin(1),
            (best * weight).sum(1) / weight.sum(1),
            (own * weight).sum(1) / weight.sum(1),
        ]
        summary: Tensor = self.sum_up(torch.cat(pooled, -1))
        return summary


def position_jumps(align: Tensor, real: Tensor) -> Tensor:
    """(n, tokens, 2): change of the aligned position before and after each real token; it shows the word order."""
    position = align @ torch.arange(align.shape[-1], dtype=align.dtype, device=align.device)
    jump = (position[:, 1:] - position[:, :-1]).clamp(-5, 5) / 5 * real[:, 1:]
    zero = torch.zeros_like(position[:, :1])
    return torch.stack([torch.cat([zero, jump], 1), torch.cat([jump, zero], 1)], -1)


def relation_agreement(related: Tensor, related2: Tensor, align: Tensor) -> Tensor:
    """(n, tokens, 2 × heads): cosine between a token's relations and those of the other text, from it and to it."""
    aligned = align[:, None] @ related2 @ align[:, None].transpose(-1, -2)
    product = related * aligned
    cosines = [
        product.sum(axis) / (related.square().sum(axis) * aligned.square().sum(axis)).clamp(min=1e-12).sqrt()
        for axis in (-1, -2)
    ]
    return torch.cat(cosines, 1).transpose(1, 2)
