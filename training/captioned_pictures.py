"""Captioned or labelled pictures, the one interface between any data set and every training run.

Read from a folder with a CSV, or written by `scenes`; knows nothing of models.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from memo.errors import BadSetup

FEWEST = 8  # fewer pictures than this are not a data set
NAMED = 10  # faults in one message
MEANINGS = ("caption", "label")  # columns, of which a table has one


@dataclass(frozen=True)
class Pairs:
    """Pictures and their captions, in the same order; raises BadSetup for what cannot be learned from.

    `images` is (count, side, side, 3) uint8 RGB. `labelled` says that captions are names of classes, not sentences.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    labelled: bool = False

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.shape[1] != self.images.shape[2]:
            raise BadSetup(f"pictures must be (count, side, side, 3), not {self.images.shape}")
        if len(self.images) != len(self.captions):
            raise BadSetup(f"{len(self.images)} pictures but {len(self.captions)} captions")
        if len(self.images) < FEWEST:
            raise BadSetup(f"{len(self.images)} pictures are too few; at least {FEWEST} are needed")
        if empty := [str(row) for row, caption in enumerate(self.captions, 1) if not caption.strip()]:
            raise BadSetup(f"empty captions in rows {', '.join(empty[:NAMED])} ({len(empty)} in all)")
        if self.labelled and len(set(self.captions)) < 2:
            raise BadSetup(f"all pictures have the label {self.captions[0]!r}; at least 2 labels are needed")

    @property
    def side(self) -> int:
        """Width and height of the pictures in px."""
        return int(self.images.shape[1])

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any picture, caption or their kind."""
        digest = hashlib.blake2b(json.dumps([self.captions, self.labelled]).encode(), digest_size=8)
        for image in self.images:
            digest.update(image.tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write `images.npy`, `captions.json` and `kind.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "images.npy", self.images)
        (folder / "captions.json").write_text(json.dumps(self.captions, indent=0))
        (folder / "kind.json").write_text(json.dumps({"labelled": self.labelled}))


def open_pairs(folder: Path) -> Pairs:
    """The pairs that `Pairs.save` wrote, pictures left on disk; raises BadSetup when there are none."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        captions = json.loads((folder / "captions.json").read_text())
        kind = folder / "kind.json"
        labelled = kind.exists() and json.loads(kind.read_text())["labelled"]
    except (OSError, ValueError) as error:
        raise BadSetup(f"{folder} holds no captioned pictures: {error}") from error
    return Pairs(images, tuple(captions), labelled)


@dataclass(frozen=True)
class Row:
    """A row of a table: `said` is its caption or label, `rest` what stood behind the last column."""

    file: str
    said: str
    rest: tuple[str, ...] = ()


def read_pairs(images: Path, table: Path, *, side: int) -> Pairs:
    """Pictures of a folder with captions or labels from a CSV, the middle of each as a square of `side` px.

    The columns are `file` and either `caption` or `label`. Every bad row is counted and named in one BadSetup
    before anything is trained: nothing is skipped, nothing enlarged.
    """
    meaning, rows = read_rows(table)
    faults = [f"row {row}: {fault}" for row, fault in faults_of(images, rows, meaning, side)]
    if faults:
        more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise BadSetup(
            f"{len(faults)} of {len(rows)} rows in {table} cannot be used: {'; '.join(faults[:NAMED])}{more}"
        )
    if len(rows) < FEWEST:
        raise BadSetup(f"{table}: {len(rows)} pictures are too few; at least {FEWEST} are needed")
    stack = np.stack([square(images / row.file, side) for row in rows.values()])
    return Pairs(stack, tuple(row.said for row in rows.values()), meaning == "label")


def read_rows(table: Path) -> tuple[str, Mapping[int, Row]]:
    """Whether rows have a "caption" or a "label", and the rows by number, the first after the head being 1.

    Raises BadSetup when the table or a column is missing, or both columns are there.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            meaning = meaning_of(table, [name.strip() for name in reader.fieldnames or ()])
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [
                Row((row["file"] or "").strip(), (row[meaning] or "").strip(), tuple(row.get(None, ())))
                for row in reader
            ]
            return meaning, dict(enumerate(rows, 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadSetup(f"{table} cannot be read: {error}") from error


def meaning_of(table: Path, columns: list[str]) -> str:
    """Which of the two kinds of column a table has; raises BadSetup when it is not exactly one."""
    found = [name for name in MEANINGS if name in columns]
    if len(found) == 2:
        raise BadSetup(f"{table} has both a column caption and a column label; leave one out, since a run learns one")
    missing = [] if "file" in columns else ["file"]
    missing += [] if found else ["caption (sentences) or label (classes)"]
    if missing:
        raise BadSetup(f"{table} lacks the column {' and '.join(missing)}; it has {', '.join(columns) or 'none'}")
    return found[0]


def faults_of(images: Path, rows: Mapping[int, Row], meaning: str, side: int) -> Iterator[tuple[int, str]]:
    """Number and fault of every bad row.

    A label needs two pictures: of a single one nothing but that picture can be learned, and mostly it is misspelt.
    The same picture may come with several captions, but not twice with the same, nor with two labels.
    """
    counts = Counter(row.said for row in rows.values())
    before: dict[tuple[str, ...], int] = {}
    for number, row in rows.items():
        twin = before.setdefault((row.file, row.said) if meaning == "caption" else (row.file,), number)
        if twin != number and row.file:
            yield number, f"{row.file!r} is in row {twin} already"
        elif fault := fault_of(images, row, meaning, side):
            yield number, fault
        elif meaning == "label" and counts[row.said] == 1:
            yield number, f"{row.file!r} is the only one with the label {row.said!r}; a label needs 2 pictures"


def fault_of(images: Path, row: Row, meaning: str, side: int) -> str:
    """What is wrong with a row, or nothing."""
    if not row.file:
        return "it names no file"
    if row.rest:
        return f"{row.file!r} has more fields than there are columns; a {meaning} with a comma needs quotes"
    if not row.said:
        return f"{row.file!r} has no {meaning}"
    if not (images / row.file).is_file():
        return f"{row.file!r} is missing"
    return fault_in(images / row.file, row.file, side)


def fault_in(path: Path, name: str, side: int) -> str:
    """What is wrong with a picture, or nothing."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            picture.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return f"{name!r} is not a readable picture"
    if min(width, height) < side:
        return f"{name!r} has {width}×{height} px; at least {side}×{side} are needed"
    return ""


def square(path: Path, side: int) -> NDArray[np.uint8]:
    """The middle of the picture, (side, side, 3), what is transparent on white."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return np.asarray(ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS))
