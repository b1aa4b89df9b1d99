"""The sprite bank of a model: cut-out drawings in several styles, and what people call each.

A folder with `sprites.json` (a list of key, names, colours, turns) and one `STYLE.zip` a style that holds `KEY.webp`,
RGBA. It grows without training: what is added here can be painted at once. Knows no prompts and no networks.
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
    """One thing.

    `names` begins with its own name; `colours` are those it has by nature, the main one first; `turns` says that its
    mirror image is as good (of a fox, not of a letter).
    """

    key: str
    names: tuple[str, ...]
    colours: tuple[str, ...] = ()
    turns: bool = False


class Bank:
    """All sprites of a folder; pixels are decoded when asked for and the last few hundred kept."""

    def __init__(self, folder: Path, sprites: tuple[Sprite, ...], styles: dict[str, zipfile.ZipFile]) -> None:
        self.folder, self.sprites = folder, sprites
        self._zips = styles
        self._held = {style: {name.removesuffix(".webp") for name in z.namelist()} for style, z in styles.items()}
        self.pixels = lru_cache(maxsize=512)(self._pixels)

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles, in alphabetical order."""
        return tuple(sorted(self._zips))

    def styles_of(self, sprite: Sprite) -> tuple[str, ...]:
        """The styles this thing is drawn in; never empty."""
        return tuple(style for style in self.styles if sprite.key in self._held[style])

    def _pixels(self, sprite: Sprite, style: str) -> NDArray[np.uint8]:
        """(height, width, 4) RGBA, cut to what is visible; raises BadSetup when it cannot be read."""
        try:
            data = self._zips[style].read(f"{sprite.key}.webp")
            with Image.open(io.BytesIO(data)) as picture:
                return np.asarray(picture.convert("RGBA"))
        except (KeyError, OSError, zipfile.BadZipFile, UnidentifiedImageError) as error:
            raise BadSetup(f"{self.folder / style}.zip has no readable {sprite.key}.webp: {error!r}") from error


def open_bank(folder: Path) -> Bank:
    """The bank in a folder; raises BadSetup naming the file that is missing or broken."""
    try:
        rows = json.loads((folder / INDEX).read_text())
        listed = [Sprite(row["key"], tuple(row["names"]), tuple(row["colours"]), row["turns"]) for row in rows]
        zips = {path.stem: zipfile.ZipFile(path) for path in sorted(folder.glob("*.zip"))}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BadSetup(f"{folder} is not a sprite bank: {error!r}") from error
    if not zips:
        raise BadSetup(f"{folder} holds no STYLE.zip")
    bank = Bank(folder, tuple(listed), zips)
    if bare := [sprite.names[0] for sprite in bank.sprites if not bank.styles_of(sprite)]:
        raise BadSetup(f"{folder} has no drawing of {', '.join(bare[:10])} ({len(bare)} in all)")
    return bank


def write_bank(
    folder: Path, sprites: Iterable[Sprite], drawings: dict[str, dict[str, Image.Image]], *, side: int
) -> None:
    """Write a bank from `drawings[style][key]`, RGBA, each scaled until its longer side is `side` px."""
    folder.mkdir(parents=True, exist_ok=True)
    for style, pictures in drawings.items():
        with zipfile.ZipFile(folder / f"{style}.zip", "w", zipfile.ZIP_STORED) as packed:
            for key, picture in sorted(pictures.items()):
                data = io.BytesIO()
                scaled(picture, side).save(data, "WEBP", **WEBP)
                packed.writestr(zipfile.ZipInfo(f"{key}.webp"), data.getvalue())  # no date: same art, same bytes
    (folder / INDEX).write_text(json.dumps([asdict(sprite) for sprite in sprites], ensure_ascii=False, indent=0))


def scaled(picture: Image.Image, side: int) -> Image.Image:
    """The picture with a longer side of `side` px."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
