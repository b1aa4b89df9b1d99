"""A small classifier of pictures, and the boxes in which it looks for each of two things.

A residual network (He et al. 2015, https://arxiv.org/abs/1512.03385) on 64 px with one head each for the thing, its
number, the place and the colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from training.scenes.places import COLOURS, PLACES
from worker.stickers.plan import RELATIONS

from .prompts import NUMBERS

Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions of the side
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

INPUT = 64  # px
WHOLE: Box = (0, 0, 1, 1)
HALVES: dict[str, tuple[Box, Box]] = {
    # boxes of the first and of the second of two things
    "sides": ((0, 4 / 16, 9 / 16, 13 / 16), (7 / 16, 4 / 16, 1, 13 / 16)),
    "stack": ((4 / 16, 0, 13 / 16, 9 / 16), (4 / 16, 7 / 16, 13 / 16, 1)),
}
NOWHERE = len(PLACES)  # the label of pictures with a plain or coloured background


@dataclass(frozen=True)
class Scores:
    """Logits, one row per picture, of the things, the numbers from one, the places and NOWHERE, and the colours."""

    thing: Floats
    count: Floats
    place: Floats
    colour: Floats


HEADS = ("thing", "count", "place", "colour")


class PictureJudge(Protocol):
    """Scores what pictures show."""

    def score_boxes(self, pictures: Sequence[Image.Image], boxes: Sequence[Box]) -> Scores:
        """Scores for the content of one box of each picture."""


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(in_channels, out_channels, 3, stride)
        self.second = conv_norm(out_channels, out_channels, 3, 1)
        self.past = conv_norm(in_channels, out_channels, 1, stride)  # the way past both; a key of stored weights

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, h / stride, w / stride)."""
        return torch.relu(self.past(x) + self.second(torch.relu(self.first(x))))


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Classifier(nn.Module):
    """The network, with about a million weights; implements PictureJudge."""

    def __init__(self, things: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(3, 32, 5, 2), nn.ReLU(), Block(32, 64, 2), Block(64, 128, 2), Block(128, 192, 2)
        )
        self.where = nn.Sequential(nn.Conv2d(192, 32, 1), nn.ReLU(), nn.Flatten())
        self.thing = nn.Linear(192, things)
        flat = 32 * (INPUT // 16) ** 2
        self.count, self.place, self.colour = (
            nn.Linear(flat, choices) for choices in (len(NUMBERS), len(PLACES) + 1, len(COLOURS))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of the four heads for (n, 3, 64, 64) in -1..1."""
        features = self.body(x)
        where = self.where(features)
        return self.thing(features.mean((2, 3))), self.count(where), self.place(where), self.colour(where)

    @torch.inference_mode()
    def score_boxes(self, pictures: Sequence[Image.Image], boxes: Sequence[Box]) -> Scores:
        """See PictureJudge."""
        self.eval()
        crops = [cut_out(picture, box) for picture, box in zip(pictures, boxes, strict=True)]
        parts = [self(part) for part in batches(np.array(crops, np.uint8).reshape(-1, INPUT, INPUT, 3))]
        return Scores(*(torch.cat(head).numpy() for head in zip(*parts, strict=True)))


def cut_out(picture: Image.Image, box: Box) -> Bytes:
    """A box of an RGB picture, resized to (64, 64, 3)."""
    left, top, right, bottom = (part * picture.width for part in box)
    return np.asarray(picture.resize((INPUT, INPUT), Image.Resampling.BILINEAR, (left, top, right, bottom)))


def to_tensor(pixels: Bytes) -> Tensor:
    """(n, 64, 64, 3) bytes to (n, 3, 64, 64) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def batches(pixels: Bytes) -> tuple[Tensor, ...]:
    """Pictures (n, 64, 64, 3) as tensors of up to 64 rows."""
    parts: tuple[Tensor, ...] = torch.split(to_tensor(pixels), 64)
    return parts


def boxes_of(relation: str) -> tuple[Box, Box]:
    """The boxes of the first and of the second thing of a relation."""
    canvas, first, second = RELATIONS[relation]
    return HALVES[canvas][first], HALVES[canvas][second]
