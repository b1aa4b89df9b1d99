"""Pictures with captions or labels: the one data set that every training run reads.

It comes from a folder of pictures and a CSV table, or from `scenes`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from memo.errors import BadPicture, BadSetup
from memo.image_files import TRAINING, read_pixels

from .caption_table import Row, read_rows

MIN_PICTURES = 8  # in a data set
MAX_NAMED_FAULTS = 10  # in one message


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


def read_captioned_pictures(images: Path, table: Path, *, side: int) -> CaptionedPictures:
    """Read pictures of a folder and their captions or labels from a table; each is cropped to `side` × `side` px.

    One BadSetup counts and names all bad rows before anything is trained: no picture is skipped or enlarged.
    """
    column, rows = read_rows(table)
    faults = dict(find_faults(images, rows, column))
    squares: dict[int, NDArray[np.uint8]] = {}
    for number in sorted(rows.keys() - faults.keys()):
        try:
            squares[number] = read_square(images / rows[number].file, side)
        except BadPicture as error:
            faults[number] = f"{rows[number].file!r} {str(error).removeprefix('it ')}"
    if faults:
        raise BadSetup(describe_faults(table, faults, len(rows)))
    if len(rows) < MIN_PICTURES:
        raise BadSetup(f"{table}: {len(rows)} pictures are too few; at least {MIN_PICTURES} are needed")
    stack = np.stack([squares[number] for number in rows])
    return CaptionedPictures(stack, tuple(row.text for row in rows.values()), column == "label")


def describe_faults(table: Path, faults: Mapping[int, str], rows: int) -> str:
    """The number of bad rows in one line, and the first ones with their faults."""
    named = "; ".join(f"row {number}: {faults[number]}" for number in sorted(faults)[:MAX_NAMED_FAULTS])
    more = f"; and {len(faults) - MAX_NAMED_FAULTS} more" if len(faults) > MAX_NAMED_FAULTS else ""
    return f"{len(faults)} of {rows} rows in {table} cannot be used: {named}{more}"


def find_faults(images: Path, rows: Mapping[int, Row], column: str) -> Iterator[tuple[int, str]]:
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
        elif fault := find_row_fault(images, row, column):
            yield number, fault
        elif column == "label" and counts[row.text] == 1:
            yield number, f"{row.file!r} is the only picture with the label {row.text!r}; a label needs 2 pictures"


def find_row_fault(images: Path, row: Row, column: str) -> str:
    """The fault of a row whose picture has not been read yet, or ""."""
    if not row.file:
        return "the column file is empty"
    if row.extra_fields:
        return f"{row.file!r} has more fields than columns; put quotes around a {column} with a comma"
    if not row.text:
        return f"{row.file!r} has no {column}"
    return "" if is_file(images / row.file) else f"{row.file!r} is missing"


def is_file(path: Path) -> bool:
    """Whether a file exists; a caption in the wrong column may be too long for the name of one."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_square(path: Path, side: int) -> NDArray[np.uint8]:
    """The central square of the picture, scaled to (side, side, 3), on white where it is transparent.

    Raises BadPicture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadPicture(f"it cannot be read: {error.strerror}") from error
    picture = read_pixels(data, kinds=TRAINING, shortest=side, enough=side)
    return np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS))
