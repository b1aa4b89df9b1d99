"""The network that compares two texts token by token: what of one stands for what of the other, and what is left.

Each side looks for its tokens in the other (soft alignment), for what they say (states), where they stand (order) and
what they belong to (relations: attention heads of MiniLM, carried over by the alignment). Symmetric in its two texts.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from memo.minilm import DIMENSION
from memo.minilm import STATE_LAYERS as LAYERS

HEADS = 12
RELATED = (1, 2)  # rows of LAYERS whose next layer's attention tells what belongs to what
NEVER = -1e4


class Relations(nn.Module):
    """Which tokens of a text belong to which, as the attention heads of a layer of MiniLM see it."""

    def __init__(self, weights: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(DIMENSION, DIMENSION), nn.Linear(DIMENSION, DIMENSION)
        if weights is not None:
            self.load_state_dict(dict(weights))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, 384) → (n, heads, tokens, tokens), rows that sum to one, of real tokens."""
        query, key = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query(states), self.key(states))
        )
        scores = query @ key.transpose(-1, -2) / (DIMENSION // HEADS) ** 0.5
        related: Tensor = scores.masked_fill(~real[:, None, None], NEVER).softmax(-1) * real[:, None, :, None]
        return related


class Attention(nn.Module):
    """Tokens of a text look at each other, in four heads; torch's own module cannot be traced for any batch size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, width) both ways."""
        parts = nn.functional.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        query, key, value = (part.reshape(*part.shape[:2], 4, -1).transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None])
        out: Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """One transformer layer, normalised first."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, width) both ways."""
        tokens = tokens + self.drop(self.self_attn(self.norm1(tokens), real))
        wide = self.drop(nn.functional.gelu(self.linear1(self.norm2(tokens))))
        added: Tensor = tokens + self.drop(self.linear2(wide))
        return added


class Context(nn.Module):
    """Two such layers."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width, dropout) for _ in range(2))

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(n, tokens, width) both ways."""
        for layer in self.layers:
            tokens = layer(tokens, real)
        return tokens


class Align(nn.Module):
    """Two texts' states to a logit: is the picture of one right for the other?"""

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
        told = 3 * layers + 2 + 2 * HEADS * len(RELATED)
        self.compare = nn.Sequential(nn.Linear(4 * width + told, width), nn.GELU(), nn.Dropout(dropout))
        self.context = Context(width, dropout)
        self.sum_up = nn.Sequential(nn.Linear(2 * width + 3 * layers, width), nn.GELU(), nn.Dropout(dropout))
        self.decide = nn.Linear(2 * width, 1)
        self.drop = nn.Dropout(0.1)

    def forward(self, states: Tensor, real: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """States (texts, tokens, layers, 384) and mask (texts, tokens), rows of both sides (n) each; logits (n)."""
        texts = self.prepared(states, real)
        mine, other = torch.cat([a, b]), torch.cat([b, a])
        x, y = self.side([part[mine] for part in texts], [part[other] for part in texts]).chunk(2)
        logits: Tensor = self.decide(torch.cat([torch.maximum(x, y), x + y], -1)).squeeze(-1)
        return logits

    def prepared(self, states: Tensor, real: Tensor) -> tuple[Tensor, ...]:
        """Unit states, mask, value and what is asked for (n, tokens, width), relations (n, heads, tokens, tokens)."""
        unit = nn.functional.normalize(states, dim=-1)
        related = [part(states[:, :, row], real) for part, row in zip(self.relations, RELATED, strict=True)]
        flat = unit.flatten(2)
        return unit, real, self.value(flat), self.asked(flat), torch.cat(related, 1)

    def side(self, mine: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """What the tokens of one text find in the other, summed up: (n, width)."""
        unit, real, value, asked, related = mine
        unit2, real2, value2, asked2, related2 = other
        alike = torch.einsum("nild,njld->nijl", unit, unit2)
        scores = alike @ self.likeness + self.learned * asked @ asked2.transpose(1, 2)
        align = scores.masked_fill(~real2[:, None], NEVER).softmax(-1) * real[..., None]
        value, found = self.drop(value), align @ value2
        best = alike.masked_fill(~real2[:, None, :, None], -1).amax(2)
        mean = (align[..., None] * alike).sum(2)
        own = (unit * torch.einsum("nij,njld->nild", align, unit2)).sum(-1)
        told = torch.cat([best, mean, own, jumps(align, real), kept(related, related2, align)], -1)
        tokens = self.compare(torch.cat([value, found, (value - found).abs(), value * found, told], -1))
        tokens = self.context(tokens, real)
        weight = real[..., None].float()
        least = best.masked_fill(~real[..., None], 2)
        summed = [
            (tokens * weight).sum(1) / weight.sum(1),
            tokens.masked_fill(~real[..., None], NEVER).amax(1),
            least.amin(1),
            (best * weight).sum(1) / weight.sum(1),
            (own * weight).sum(1) / weight.sum(1),
        ]
        side: Tensor = self.sum_up(torch.cat(summed, -1))
        return side


def jumps(align: Tensor, real: Tensor) -> Tensor:
    """(n, tokens, 2): how far the places found leap before and behind each real token; another order shows in it."""
    place = align @ torch.arange(align.shape[-1], dtype=align.dtype, device=align.device)
    leap = (place[:, 1:] - place[:, :-1]).clamp(-5, 5) / 5 * real[:, 1:]
    nothing = torch.zeros_like(place[:, :1])
    return torch.stack([torch.cat([nothing, leap], 1), torch.cat([leap, nothing], 1)], -1)


def kept(related: Tensor, related2: Tensor, align: Tensor) -> Tensor:
    """(n, tokens, 2 × heads): how much each token belongs to the same in the other text, from it and to it."""
    carried = align[:, None] @ related2 @ align[:, None].transpose(-1, -2)
    both = related * carried
    agree = [
        both.sum(way) / (related.square().sum(way) * carried.square().sum(way)).clamp(min=1e-12).sqrt()
        for way in (-1, -2)
    ]
    return torch.cat(agree, 1).transpose(1, 2)
