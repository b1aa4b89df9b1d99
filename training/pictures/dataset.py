"""What a diffusion run learns from, computed once: latents, text states or labels, and sheets of drawings.

Knows no network but the encoders.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memo.errors import BadSetup
from training.captioned_pictures import Pairs
from worker.engine.denoiser import Conditioning
from worker.engine.latents import encode as latents_of
from worker.engine.text_encoder import TextEncoder
from worker.stickers.layout import CANVASES, GRID, MAX_THINGS
from worker.stickers.sheet import encode_tiles
from worker.stickers.sprites import Bank, open_bank

from .train_vae import to_tensor

SHEETS = "sheets.npz"
AT_ONCE = 64  # pictures through the autoencoder


@dataclass(frozen=True)
class SpriteSheets:
    """For each picture the drawings on its sheet and where they lie.

    `things` (pictures, 4): rows of `tiles` or -1; `plans` (pictures, 4, 3): thing, canvas and place, or -1;
    `shifts` (pictures, canvases, 2); `tiles` by size: (drawings, channels + 1, size, size), float16.
    """

    things: Tensor
    plans: Tensor
    shifts: Tensor
    tiles: dict[int, Tensor]

    @property
    def channels(self) -> int:
        """Of a sheet."""
        return MAX_THINGS * next(iter(self.tiles.values())).shape[1]

    def to(self, device: str) -> "SpriteSheets":
        """The same, elsewhere."""
        tiles = {size: part.to(device) for size, part in self.tiles.items()}
        return SpriteSheets(self.things.to(device), self.plans, self.shifts, tiles)

    def lay(self, rows: Tensor) -> Tensor:
        """The sheets of these pictures, (n, channels, 16, 16) float16."""
        first = next(iter(self.tiles.values()))
        sheets = torch.zeros(
            len(rows), MAX_THINGS, first.shape[1], GRID, GRID, dtype=first.dtype, device=first.device
        )
        for number, (row, plan) in enumerate(zip(rows.tolist(), self.plans[rows].tolist(), strict=True)):
            for thing, canvas, place in plan:
                if thing >= 0:
                    size, (x, y) = self.place(row, canvas, place)
                    tile = self.tiles[size][self.things[row, thing]]
                    sheets[number, thing, :, y : y + size, x : x + size] = tile
        return sheets.flatten(1, 2)

    def place(self, row: int, canvas: int, place: int) -> tuple[int, tuple[int, int]]:
        """Size and upper left corner, in cells, of a place in a picture's layout."""
        way = tuple(CANVASES.values())[canvas]
        across, down = self.shifts[row, canvas].tolist()
        x, y = way.corners[place]
        return way.size, (x + across, y + down)


@dataclass(frozen=True)
class PictureDataset:
    """Latents (pictures, channels, h, w), float16, and for each a row of `states` or the number of a label.

    `states` is (captions, 24, 384), `unconditional` (24, 384) those of the empty prompt; `labels` name the classes.
    """

    latents: Tensor
    meaning_of: Tensor
    states: Tensor | None
    unconditional: Tensor | None
    labels: tuple[str, ...]
    sheets: SpriteSheets | None

    def to(self, device: str) -> "PictureDataset":
        """The same, with all that a batch is made of on that device."""
        return PictureDataset(
            self.latents.to(device),
            self.meaning_of.to(device),
            None if self.states is None else self.states.to(device),
            None if self.unconditional is None else self.unconditional.to(device),
            self.labels,
            None if self.sheets is None else self.sheets.to(device),
        )

    def conditioning(self, rows: Tensor, unsaid: Tensor, unseen: Tensor) -> Conditioning:
        """What the pictures of these rows are painted from; nothing said or shown where the masks are true."""
        meaning = self.meaning_of[rows]
        sheets = None
        if self.sheets is not None:
            sheets = self.sheets.lay(rows).float()
            sheets[unseen] = 0
        if self.states is None or self.unconditional is None:
            return Conditioning(labels=meaning.masked_fill(unsaid, len(self.labels)), sheets=sheets)
        states = self.states[meaning].float()
        states[unsaid] = self.unconditional.float()
        return Conditioning(states, sheets=sheets)


def open_dataset(
    path: Path, pairs: Pairs, vae: Any, open_encoder: Callable[[], TextEncoder], source: Path, patch: int
) -> PictureDataset:
    """The lesson kept at `path`, made first if there is none; `source` may hold sheets beside the pairs."""
    if not path.exists():
        torch.save(asdict(make_dataset(pairs, vae, open_encoder(), source, patch)), path)
    parts = torch.load(path, weights_only=True)
    sheets = parts.pop("sheets")
    return PictureDataset(**parts, sheets=None if sheets is None else SpriteSheets(**sheets))


@torch.no_grad()
def make_dataset(pairs: Pairs, vae: Any, encode: TextEncoder, source: Path, patch: int) -> PictureDataset:
    """Every picture through the autoencoder, every different caption through the text model."""
    meanings = sorted(set(pairs.captions))
    row_of = {meaning: row for row, meaning in enumerate(meanings)}
    latents = [
        latents_of(vae, to_tensor(np.array(pairs.images[start : start + AT_ONCE])), patch).half()
        for start in range(0, len(pairs.images), AT_ONCE)
    ]
    return PictureDataset(
        latents=torch.cat(latents),
        meaning_of=torch.tensor([row_of[caption] for caption in pairs.captions]),
        states=None if pairs.labelled else encode(meanings).half(),
        unconditional=None if pairs.labelled else encode([""])[0].half(),
        labels=tuple(meanings) if pairs.labelled else (),
        sheets=read_sheets(source / SHEETS, vae, patch) if (source / SHEETS).exists() else None,
    )


def read_sheets(path: Path, vae: Any, patch: int) -> SpriteSheets:
    """The sheets that `scenes` wrote, every drawing they show encoded."""
    table = np.load(path)
    bank = open_bank(Path(str(table["bank"])))
    if len(table["things"]) and table["things"].max() >= len(bank.sprites):
        raise BadSetup(f"{path} names drawings that {bank.folder} does not have: write the scenes again")
    pictures, columns = np.nonzero(table["things"] >= 0)
    shown = list(zip(table["things"][pictures, columns].tolist(), table["styles"][pictures].tolist(), strict=True))
    drawings = sorted(set(shown))
    row_of = {drawing: row for row, drawing in enumerate(drawings)}
    things = torch.full(table["things"].shape, -1)
    things[pictures, columns] = torch.tensor([row_of[drawing] for drawing in shown])
    plans, shifts = (torch.from_numpy(table[name].astype(np.int64)) for name in ("plans", "shifts"))
    return SpriteSheets(things, plans, shifts, encode_all(bank, drawings, vae, patch))


def encode_all(bank: Bank, drawings: Sequence[tuple[int, int]], vae: Any, patch: int) -> dict[int, Tensor]:
    """Tiles of all drawings (row of the bank, number of the style), stacked by size."""
    tiles = []
    for start in range(0, len(drawings), AT_ONCE):
        part = drawings[start : start + AT_ONCE]
        tiles += encode_tiles(vae, [bank.pixels(bank.sprites[row], bank.styles[style]) for row, style in part], patch)
    return {size: torch.from_numpy(np.stack([tile[size] for tile in tiles])) for size in tiles[0]} if tiles else {}
