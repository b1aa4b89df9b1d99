"""The sheet of retrieved drawings that a picture model looks at while it paints.

Each drawing is encoded once at the few sizes there are, and its latents laid where it is to stand, in channels of
its own for each thing. Exact place and size, colours, light, shadows and all around it are for the model to paint.
This is retrieval-augmented diffusion (Blattmann et al. 2022, https://arxiv.org/abs/2204.11824) with the retrieved
pictures given in place. Knows no prompts.
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

from .layout import CANVASES, GRID, MARGIN, SIZES, THINGS, Layout, Placement

CELL = 8  # px of a cell at the models' native size
GREY = 128  # what drawings are encoded on

Tiles = Mapping[int, NDArray[np.float16]]


def sheet_channels(latent_channels: int) -> int:
    """Channels of a sheet: latents and opacity for each thing."""
    return THINGS * (latent_channels + 1)


@torch.no_grad()
def encode_tiles(vae: Any, drawings: Sequence[NDArray[np.uint8]], patch: int) -> list[Tiles]:
    """For each RGBA drawing: size in cells → (channels + 1, size, size) latents and opacity, float16."""
    by_size = {size: encode_size(vae, drawings, size, patch) for size in SIZES}
    return [{size: rows[row] for size, rows in by_size.items()} for row in range(len(drawings))]


def encode_size(vae: Any, drawings: Sequence[NDArray[np.uint8]], size: int, patch: int) -> NDArray[np.float16]:
    """(n, channels + 1, size, size): every drawing standing in a place of `size` cells."""
    rgba = torch.from_numpy(np.stack([standing(pixels, size) for pixels in drawings])).permute(0, 3, 1, 2) / 255
    alpha = rgba[:, 3:]
    flat = rgba[:, :3] * alpha + GREY / 255 * (1 - alpha)
    latents = encode(vae, flat * 2 - 1, patch)
    opacity = F.avg_pool2d(alpha, CELL)
    inner = torch.cat([latents * (opacity > 0), opacity], dim=1)[:, :, 1:-1, 1:-1]
    return inner.half().numpy()


def standing(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """RGBA with the drawing on the floor of its place, and one empty cell around the place."""
    place = (size + 2) * CELL
    whole = Image.new("RGBA", (place, place))
    drawing = Image.fromarray(pixels)
    scale = (size - 2 * MARGIN) * CELL / max(drawing.size)
    drawing = drawing.resize((max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale))))
    foot = round((1 + size - MARGIN) * CELL)
    whole.paste(drawing, ((place - drawing.width) // 2, foot - drawing.height))
    return np.asarray(whole)


def shown_on(sheets: Tensor) -> Tensor:
    """The latents of all that lies on the sheets, (n, latent channels, 16, 16); zero where nothing does.

    A model that looks at sheets paints what is to be added to these: all that is around the drawings, light, shadow
    and colour on them. So the drawings' own lines stay as sharp as they are.
    """
    things = sheets.reshape(len(sheets), THINGS, -1, *sheets.shape[2:])
    return things[:, :, :-1].sum(1)


def lay_sheet(things: Sequence[Tiles], plan: Sequence[Placement], layout: Layout, latent_channels: int) -> Tensor:
    """(sheet_channels, 16, 16) float16: each thing's tiles in the places the plan gives it, zero elsewhere."""
    sheet = np.zeros((THINGS, latent_channels + 1, GRID, GRID), np.float16)
    for step in plan:
        size = CANVASES[step.canvas].size
        x, y = layout.corners(step.canvas)[step.place]
        sheet[step.thing, :, y : y + size, x : x + size] = things[step.thing][size]
    return torch.from_numpy(sheet.reshape(-1, GRID, GRID))
