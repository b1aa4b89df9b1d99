"""The sprite bank of a model: cut-out drawings in several styles, with the names that people use for them.

A bank is a folder with `sprites.json` (a list of key, names, colours, turns) and one `STYLE.zip` per style, with an
RGBA `KEY.webp` per drawing. It grows without training: a new drawing can be painted at once. Knows no prompts and no
networks.
"""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from memo import BadSetup

INDEX = "sprites.json"
WEBP = {"quality": 84, "alpha_quality": 90, "method": 6}


@dataclass(frozen=True)
class Sprite:
    """One thing that can be drawn.

    `names` starts with its main name; `colours` are its natural ones, the main one first; `turns` means that it may
    be mirrored (a fox may, a letter may not).
    """

    key: str
    names: tuple[str, ...]
    colours: tuple[str, ...] = ()
    turns: bool = False


class Bank:
    """All sprites of a folder; pixels are decoded on demand, and the last few hundred drawings are cached."""

    def __init__(self, folder: Path, sprites: tuple[Sprite, ...], styles: dict[str, zipfile.ZipFile]) -> None:
        self.folder, self.sprites = folder, sprites
        self._zips = styles
        self._keys = {style: {name.removesuffix(".webp") for name in z.namelist()} for style, z in styles.items()}
        self.pixels = lru_cache(maxsize=512)(self._pixels)

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the styles, in alphabetical order."""
        return tuple(sorted(self._zips))

    def styles_of(self, sprite: Sprite) -> tuple[str, ...]:
        """The styles that a thing is drawn in; never empty."""
        return tuple(style for style in self.styles if sprite.key in self._keys[style])

    def _pixels(self, sprite: Sprite, style: str) -> NDArray[np.uint8]:
        """A drawing as (height, width, 4) RGBA, cropped to its visible part; raises BadSetup if it is unreadable."""
        try:
            data = self._zips[style].read(f"{sprite.key}.webp")
            with Image.open(io.BytesIO(data)) as picture:
                return np.asarray(picture.convert("RGBA"))
        except (KeyError, OSError, zipfile.BadZipFile, UnidentifiedImageError) as error:
            raise BadSetup(f"{self.folder / style}.zip has no readable {sprite.key}.webp: {error!r}") from error


def open_bank(folder: Path) -> Bank:
    """Open the bank in a folder; raises BadSetup naming the file that is missing or broken."""
    try:
        rows = json.loads((folder / INDEX).read_text())
        sprites = [Sprite(row["key"], tuple(row["names"]), tuple(row["colours"]), row["turns"]) for row in rows]
        zips = {path.stem: zipfile.ZipFile(path) for path in sorted(folder.glob("*.zip"))}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BadSetup(f"{folder} is not a sprite bank: {error!r}") from error
    if not zips:
        raise BadSetup(f"{folder} is a sprite bank without drawings: it needs at least one STYLE.zip")
    bank = Bank(folder, tuple(sprites), zips)
    if missing := [sprite.names[0] for sprite in bank.sprites if not bank.styles_of(sprite)]:
        raise BadSetup(f"{folder} has no drawing of {', '.join(missing[:10])} ({len(missing)} in all)")
    return bank


def write_bank(
    folder: Path, sprites: Iterable[Sprite], drawings: dict[str, dict[str, Image.Image]], *, side: int
) -> None:
    """Write a bank from the RGBA drawings `drawings[style][key]`, each scaled to a longer side of `side` px."""
    folder.mkdir(parents=True, exist_ok=True)
    for style, pictures in drawings.items():
        with zipfile.ZipFile(folder / f"{style}.zip", "w", zipfile.ZIP_STORED) as packed:
            for key, picture in sorted(pictures.items()):
                data = io.BytesIO()
                scaled(picture, side).save(data, "WEBP", **WEBP)
                packed.writestr(zipfile.ZipInfo(f"{key}.webp"), data.getvalue())  # undated, so the bytes never change
    (folder / INDEX).write_text(json.dumps([asdict(sprite) for sprite in sprites], ensure_ascii=False, indent=0))


def scaled(picture: Image.Image, side: int) -> Image.Image:
    """The picture scaled to a longer side of `side` px."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
