"""The data set of a diffusion run, encoded once: latents, text states or labels, and sheets of drawings."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memo.errors import BadSetup
from training.captioned_pictures import CaptionedPictures
from worker.engine.denoiser import Conditioning
from worker.engine.latents import encode as latents_of
from worker.engine.text_encoder import TextEncoder
from worker.stickers.layout import CANVASES, GRID, MAX_THINGS
from worker.stickers.sheet import encode_tiles
from worker.stickers.sprites import Bank, open_bank

from .train_vae import to_tensor

SHEETS = "sheets.npz"
BATCH_SIZE = 64  # pictures that the autoencoder encodes at once


@dataclass(frozen=True)
class SpriteSheets:
    """The drawings on the sheet of each picture, and their positions.

    `things` (pictures, 4) holds the drawing of each thing, as a row of `tiles`, or -1. `plans` (pictures, 4, 3) holds
    for each drawing the numbers of its thing, its canvas and its place there, or -1. `shifts` (pictures, canvases, 2)
    is in cells. `tiles` maps a size in cells to latents and opacity, (drawings, channels + 1, size, size) float16.
    """

    things: Tensor
    plans: Tensor
    shifts: Tensor
    tiles: dict[int, Tensor]

    @property
    def channels(self) -> int:
        """Number of channels of a sheet."""
        return MAX_THINGS * next(iter(self.tiles.values())).shape[1]

    def to(self, device: str) -> "SpriteSheets":
        """A copy for a device; plans and shifts, which are read row by row, stay where they are."""
        tiles = {size: tile.to(device) for size, tile in self.tiles.items()}
        return SpriteSheets(self.things.to(device), self.plans, self.shifts, tiles)

    def lay_out(self, rows: Tensor) -> Tensor:
        """The sheets of these pictures, (n, channels, 16, 16) float16."""
        first = next(iter(self.tiles.values()))
        sheets = torch.zeros(
            len(rows), MAX_THINGS, first.shape[1], GRID, GRID, dtype=first.dtype, device=first.device
        )
        for number, (row, plan) in enumerate(zip(rows.tolist(), self.plans[rows].tolist(), strict=True)):
            for thing, canvas, place in plan:
                if thing >= 0:
                    size, (x, y) = self.locate(row, canvas, place)
                    tile = self.tiles[size][self.things[row, thing]]
                    sheets[number, thing, :, y : y + size, x : x + size] = tile
        return sheets.flatten(1, 2)

    def locate(self, row: int, canvas: int, place: int) -> tuple[int, tuple[int, int]]:
        """Size and upper left corner, in cells, of a place in the layout of a picture."""
        grid = tuple(CANVASES.values())[canvas]
        across, down = self.shifts[row, canvas].tolist()
        x, y = grid.corners[place]
        return grid.size, (x + across, y + down)


@dataclass(frozen=True)
class PictureDataset:
    """The encoded pictures; `latents` are (pictures, channels, h, w) float16.

    `caption_rows` (pictures) are rows of `states`, or numbers of labels. `states` is (captions, 24, 384);
    `unconditional` (24, 384) holds the states of the empty prompt. `labels` names the
    classes; it is empty for a data set with captions.
    """

    latents: Tensor
    caption_rows: Tensor
    states: Tensor | None
    unconditional: Tensor | None
    labels: tuple[str, ...]
    sheets: SpriteSheets | None

    def to(self, device: str) -> "PictureDataset":
        """A copy on a device, except for the parts of sheets that stay where they are."""
        return PictureDataset(
            self.latents.to(device),
            self.caption_rows.to(device),
            None if self.states is None else self.states.to(device),
            None if self.unconditional is None else self.unconditional.to(device),
            self.labels,
            None if self.sheets is None else self.sheets.to(device),
        )

    def conditioning(self, rows: Tensor, drop_captions: Tensor, drop_sheets: Tensor) -> Conditioning:
        """The conditioning of these rows; captions and sheets are left out where the masks are true."""
        captions = self.caption_rows[rows]
        sheets = None
        if self.sheets is not None:
            sheets = self.sheets.lay_out(rows).float()
            sheets[drop_sheets] = 0
        if self.states is None or self.unconditional is None:
            return Conditioning(labels=captions.masked_fill(drop_captions, len(self.labels)), sheets=sheets)
        states = self.states[captions].float()
        states[drop_captions] = self.unconditional.float()
        return Conditioning(states, sheets=sheets)


def open_dataset(
    path: Path, pairs: CaptionedPictures, vae: Any, open_encoder: Callable[[], TextEncoder], source: Path, patch: int
) -> PictureDataset:
    """Open the data set at `path`, encoding it first if there is none; the folder `source` may hold sheets."""
    if not path.exists():
        torch.save(asdict(make_dataset(pairs, vae, open_encoder(), source, patch)), path)
    parts = torch.load(path, weights_only=True)
    sheets = parts.pop("sheets")
    return PictureDataset(**parts, sheets=None if sheets is None else SpriteSheets(**sheets))


@torch.no_grad()
def make_dataset(pairs: CaptionedPictures, vae: Any, encode: TextEncoder, source: Path, patch: int) -> PictureDataset:
    """Encode every picture with the autoencoder, and each different caption once with the text model."""
    captions = sorted(set(pairs.captions))
    row_of = {caption: row for row, caption in enumerate(captions)}
    latents = [
        latents_of(vae, to_tensor(np.array(pairs.images[start : start + BATCH_SIZE])), patch).half()
        for start in range(0, len(pairs.images), BATCH_SIZE)
    ]
    return PictureDataset(
        latents=torch.cat(latents),
        caption_rows=torch.tensor([row_of[caption] for caption in pairs.captions]),
        states=None if pairs.labelled else encode(captions).half(),
        unconditional=None if pairs.labelled else encode([""])[0].half(),
        labels=tuple(captions) if pairs.labelled else (),
        sheets=read_sheets(source / SHEETS, vae, patch) if (source / SHEETS).exists() else None,
    )


def read_sheets(path: Path, vae: Any, patch: int) -> SpriteSheets:
    """Read the sheets that `scenes` wrote and encode the drawings on them; raises BadSetup if the bank lacks one."""
    table = np.load(path)
    bank = open_bank(Path(str(table["bank"])))
    if len(table["things"]) and table["things"].max() >= len(bank.sprites):
        raise BadSetup(f"{path} names drawings that {bank.folder} does not have; write the scenes again")
    pictures, columns = np.nonzero(table["things"] >= 0)
    drawn = list(zip(table["things"][pictures, columns].tolist(), table["styles"][pictures].tolist(), strict=True))
    drawings = sorted(set(drawn))
    row_of = {drawing: row for row, drawing in enumerate(drawings)}
    things = torch.full(table["things"].shape, -1)
    things[pictures, columns] = torch.tensor([row_of[drawing] for drawing in drawn])
    plans, shifts = (torch.from_numpy(table[name].astype(np.int64)) for name in ("plans", "shifts"))
    return SpriteSheets(things, plans, shifts, encode_drawings(bank, drawings, vae, patch))


def encode_drawings(bank: Bank, drawings: Sequence[tuple[int, int]], vae: Any, patch: int) -> dict[int, Tensor]:
    """Tiles of drawings, given as (row of the bank, number of the style), stacked by size."""
    tiles = []
    for start in range(0, len(drawings), BATCH_SIZE):
        batch = drawings[start : start + BATCH_SIZE]
        tiles += encode_tiles(
            vae, [bank.pixels(bank.sprites[row], bank.styles[style]) for row, style in batch], patch
        )
    return {size: torch.from_numpy(np.stack([tile[size] for tile in tiles])) for size in tiles[0]} if tiles else {}
