"""Pictures with captions or labels: the one data set that every training run reads.

It comes from a folder of pictures and a CSV table, or from `scenes`.
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

MIN_PICTURES = 8  # in a data set
MAX_NAMED_FAULTS = 10  # in one message
TEXT_COLUMNS = ("caption", "label")  # a table has exactly one of these columns


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures and their captions, in the same order; raises BadSetup if a model cannot learn from them.

    `images` is (count, side, side, 3) uint8 RGB. With `labelled`, captions are names of classes, not sentences.
    """

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    labelled: bool = False

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.shape[1] != self.images.shape[2]:
            raise BadSetup(f"pictures must be (count, side, side, 3), not {self.images.shape}")
        if len(self.images) != len(self.captions):
            raise BadSetup(f"{len(self.images)} pictures but {len(self.captions)} captions")
        if len(self.images) < MIN_PICTURES:
            raise BadSetup(f"{len(self.images)} pictures are too few; at least {MIN_PICTURES} are needed")
        if empty := [str(row) for row, caption in enumerate(self.captions, 1) if not caption.strip()]:
            raise BadSetup(f"empty captions in rows {', '.join(empty[:MAX_NAMED_FAULTS])} ({len(empty)} in all)")
        if self.labelled and len(set(self.captions)) < 2:
            raise BadSetup(f"all pictures have the label {self.captions[0]!r}; at least 2 labels are needed")

    @property
    def side(self) -> int:
        """Width and height of the pictures in px."""
        return int(self.images.shape[1])

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any picture, any caption and `labelled`."""
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


def open_captioned_pictures(folder: Path) -> CaptionedPictures:
    """Open what `CaptionedPictures.save` wrote; pictures stay on disk. Raises BadSetup if there are none."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        captions = json.loads((folder / "captions.json").read_text())
        kind = folder / "kind.json"
        labelled = kind.exists() and json.loads(kind.read_text())["labelled"]
    except (OSError, ValueError) as error:
        raise BadSetup(f"{folder} holds no captioned pictures: {error}") from error
    return CaptionedPictures(images, tuple(captions), labelled)


@dataclass(frozen=True)
class Row:
    """A row of a table: `text` is its caption or label, `extra_fields` are fields beyond the last column."""

    file: str
    text: str
    extra_fields: tuple[str, ...] = ()


def read_captioned_pictures(images: Path, table: Path, *, side: int) -> CaptionedPictures:
    """Read pictures of a folder and their captions or labels from a CSV; each is cropped to `side` × `side` px.

    The columns are `file` and either `caption` or `label`. One BadSetup counts and names all bad rows before anything
    is trained: no picture is skipped or enlarged.
    """
    column, rows = read_rows(table)
    faults = [f"row {row}: {fault}" for row, fault in find_faults(images, rows, column, side)]
    if faults:
        more = f"; and {len(faults) - MAX_NAMED_FAULTS} more" if len(faults) > MAX_NAMED_FAULTS else ""
        named = "; ".join(faults[:MAX_NAMED_FAULTS])
        raise BadSetup(f"{len(faults)} of {len(rows)} rows in {table} cannot be used: {named}{more}")
    if len(rows) < MIN_PICTURES:
        raise BadSetup(f"{table}: {len(rows)} pictures are too few; at least {MIN_PICTURES} are needed")
    stack = np.stack([crop_square(images / row.file, side) for row in rows.values()])
    return CaptionedPictures(stack, tuple(row.text for row in rows.values()), column == "label")


def read_rows(table: Path) -> tuple[str, Mapping[int, Row]]:
    """The text column ("caption" or "label") and the rows by number, counted from 1 after the header.

    Raises BadSetup if the table or a column is missing, or if the table has both text columns.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            column = text_column(table, [name.strip() for name in reader.fieldnames or ()])
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [
                Row((row["file"] or "").strip(), (row[column] or "").strip(), tuple(row.get(None, ())))
                for row in reader
            ]
            return column, dict(enumerate(rows, 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadSetup(f"{table} cannot be read: {error}") from error


def text_column(table: Path, columns: list[str]) -> str:
    """The text column of a table; raises BadSetup unless there is exactly one, and a column `file`."""
    text_columns = [name for name in TEXT_COLUMNS if name in columns]
    if len(text_columns) == 2:
        raise BadSetup(f"{table} has both a column caption and a column label; remove one of them")
    missing = [] if "file" in columns else ["file"]
    missing += [] if text_columns else ["caption (sentences) or label (classes)"]
    if missing:
        raise BadSetup(f"{table} lacks the column {' and '.join(missing)}; it has {', '.join(columns) or 'none'}")
    return text_columns[0]


def find_faults(images: Path, rows: Mapping[int, Row], column: str, side: int) -> Iterator[tuple[int, str]]:
    """The number and the fault of every bad row.

    A label needs two pictures: a model would only memorise a single one, and such a label is usually misspelt.
    A picture may have several different captions, but not the same one twice, and not two labels.
    """
    counts = Counter(row.text for row in rows.values())
    first_rows: dict[tuple[str, ...], int] = {}
    for number, row in rows.items():
        twin = first_rows.setdefault((row.file, row.text) if column == "caption" else (row.file,), number)
        if twin != number and row.file:
            yield number, f"{row.file!r} is in row {twin} already"
        elif fault := find_row_fault(images, row, column, side):
            yield number, fault
        elif column == "label" and counts[row.text] == 1:
            yield number, f"{row.file!r} is the only picture with the label {row.text!r}; a label needs 2 pictures"


def find_row_fault(images: Path, row: Row, column: str, side: int) -> str:
    """The fault of a row, or ""."""
    if not row.file:
        return "the column file is empty"
    if row.extra_fields:
        return f"{row.file!r} has more fields than columns; put quotes around a {column} with a comma"
    if not row.text:
        return f"{row.file!r} has no {column}"
    if not (images / row.file).is_file():
        return f"{row.file!r} is missing"
    return find_picture_fault(images / row.file, row.file, side)


def find_picture_fault(path: Path, name: str, side: int) -> str:
    """The fault of a picture file, or ""."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            picture.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return f"{name!r} is not a readable picture"
    if min(width, height) < side:
        return f"{name!r} has {width}×{height} px; at least {side}×{side} are needed"
    return ""


def crop_square(path: Path, side: int) -> NDArray[np.uint8]:
    """The central square of the picture, scaled to (side, side, 3), on white where it is transparent."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return np.asarray(ImageOps.fit(flat, (side, side), Image.Resampling.LANCZOS))
