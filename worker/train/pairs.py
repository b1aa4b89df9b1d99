"""Captioned pictures, the one interface between any data set and every training run.

Read from a folder with a CSV, or written by `scenes`; knows nothing of models.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from memo.errors import BadSetup

FEWEST = 8  # fewer pictures than this are not a data set


@dataclass(frozen=True)
class Pairs:
    """Pictures and their captions, in the same order; raises BadSetup for what cannot be learned from.

    `images` is (count, side, side, 3) uint8 RGB.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.shape[1] != self.images.shape[2]:
            raise BadSetup(f"pictures must be (count, side, side, 3), not {self.images.shape}")
        if len(self.images) != len(self.captions):
            raise BadSetup(f"{len(self.images)} pictures but {len(self.captions)} captions")
        if len(self.images) < FEWEST:
            raise BadSetup(f"{len(self.images)} pictures are too few; at least {FEWEST} are needed")
        if empty := [str(row) for row, caption in enumerate(self.captions, 1) if not caption.strip()]:
            raise BadSetup(f"empty captions in rows {', '.join(empty[:10])} ({len(empty)} in all)")

    @property
    def side(self) -> int:
        """Width and height of the pictures in px."""
        return int(self.images.shape[1])

    def save(self, folder: Path) -> None:
        """Write `images.npy` and `captions.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "images.npy", self.images)
        (folder / "captions.json").write_text(json.dumps(self.captions, indent=0))


def open_pairs(folder: Path) -> Pairs:
    """The pairs that `Pairs.save` wrote, pictures left on disk; raises BadSetup when there are none."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        captions = json.loads((folder / "captions.json").read_text())
    except (OSError, ValueError) as error:
        raise BadSetup(f"{folder} holds no captioned pictures: {error}") from error
    return Pairs(images, tuple(captions))


def read_pairs(images: Path, table: Path, *, side: int) -> Pairs:
    """Pictures of a folder with captions from a CSV (columns `file`, `caption`), cropped to squares of `side` px.

    Every bad row is named in one BadSetup before anything is trained.
    """
    rows = list(read_rows(table))
    if faults := [fault for row in rows if (fault := fault_of(images, *row))]:
        raise BadSetup(f"{len(faults)} of {len(rows)} rows in {table} cannot be used: {'; '.join(faults[:10])}")
    pictures = [square(images / file, side) for file, _ in rows]
    stack = np.stack(pictures) if pictures else np.zeros((0, side, side, 3), np.uint8)
    return Pairs(stack, tuple(caption for _, caption in rows))


def read_rows(table: Path) -> Iterator[tuple[str, str]]:
    """(file, caption) of every row; raises BadSetup when the table or one of its columns is missing."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if missing := {"file", "caption"} - set(reader.fieldnames or ()):
                raise BadSetup(f"{table} lacks the column {' and '.join(sorted(missing))}")
            for row in reader:
                yield row["file"] or "", row["caption"] or ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetup(f"{table} cannot be read: {error}") from error


def fault_of(images: Path, file: str, caption: str) -> str:
    """What is wrong with a row, or nothing."""
    if not caption.strip():
        return f"{file!r} has no caption"
    if not (images / file).is_file():
        return f"{file!r} is missing"
    try:
        with Image.open(images / file) as picture:
            picture.verify()
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return f"{file!r} is not a readable picture"
    return ""


def square(path: Path, side: int) -> NDArray[np.uint8]:
    """The middle of the picture, (side, side, 3), what is transparent on white."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return np.asarray(ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS))
