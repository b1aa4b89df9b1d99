"""The sheet of retrieved drawings that conditions a picture model.

Each drawing is encoded once at each of a few sizes. Its latents are laid at its place, and each thing has channels of
its own. The model then paints the exact place and size, colours, light, shadows and everything around the drawing.
This is retrieval-augmented diffusion (Blattmann et al. 2022, https://arxiv.org/abs/2204.11824) with the retrieved
pictures already in place. Knows no prompts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from worker.engine.latents import encode

from .layout import CANVASES, GRID, MARGIN, MAX_THINGS, SIZES, Layout, Placement

CELL = 8  # px along a side of a cell at the models' native size
GREY = 128  # the background that drawings are encoded on

Tiles = Mapping[int, NDArray[np.float16]]


def sheet_channels(latent_channels: int) -> int:
    """The number of a sheet's channels: latents and opacity for each thing."""
    return MAX_THINGS * (latent_channels + 1)


@torch.no_grad()
def encode_tiles(vae: Any, drawings: Sequence[NDArray[np.uint8]], patch: int) -> list[Tiles]:
    """For each RGBA drawing, its latents and opacity by size in cells: (channels + 1, size, size), float16.

    `patch` as in `worker.engine.latents`.
    """
    by_size = {size: encode_size(vae, drawings, size, patch) for size in SIZES}
    return [{size: rows[row] for size, rows in by_size.items()} for row in range(len(drawings))]


def encode_size(vae: Any, drawings: Sequence[NDArray[np.uint8]], size: int, patch: int) -> NDArray[np.float16]:
    """Latents and opacity of every drawing in a place of `size` cells: (n, channels + 1, size, size)."""
    rgba = torch.from_numpy(np.stack([draw_in_place(pixels, size) for pixels in drawings])).permute(0, 3, 1, 2) / 255
    alpha = rgba[:, 3:]
    flat = rgba[:, :3] * alpha + GREY / 255 * (1 - alpha)
    latents = encode(vae, flat * 2 - 1, patch)
    opacity = F.avg_pool2d(alpha, CELL)
    inner = torch.cat([latents * (opacity > 0), opacity], dim=1)[:, :, 1:-1, 1:-1]
    return inner.half().numpy()


def draw_in_place(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """An RGBA picture of the drawing at the bottom of its place, with one empty cell around the place."""
    place = (size + 2) * CELL
    whole = Image.new("RGBA", (place, place))
    drawing = Image.fromarray(pixels)
    scale = (size - 2 * MARGIN) * CELL / max(drawing.size)
    drawing = drawing.resize((max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale))))
    foot = round((1 + size - MARGIN) * CELL)
    whole.paste(drawing, ((place - drawing.width) // 2, foot - drawing.height))
    return np.asarray(whole)


def sheet_latents(sheets: Tensor) -> Tensor:
    """The latents of all drawings on the sheets, (n, latent channels, 16, 16); zero where there is no drawing.

    A model with sheets predicts the difference from these latents: what is around the drawings, and light, shadow and
    colour on them. So the drawings' own lines stay sharp.
    """
    things = sheets.reshape(len(sheets), MAX_THINGS, -1, *sheets.shape[2:])
    return things[:, :, :-1].sum(1)


def lay_sheet(things: Sequence[Tiles], plan: Sequence[Placement], layout: Layout, latent_channels: int) -> Tensor:
    """A sheet (sheet_channels, 16, 16), float16: each thing's tiles at the planned places, zero elsewhere."""
    sheet = np.zeros((MAX_THINGS, latent_channels + 1, GRID, GRID), np.float16)
    for placement in plan:
        size = CANVASES[placement.canvas].size
        x, y = layout.corners(placement.canvas)[placement.place]
        sheet[placement.thing, :, y : y + size, x : x + size] = things[placement.thing][size]
    return torch.from_numpy(sheet.reshape(-1, GRID, GRID))
