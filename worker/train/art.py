"""The drawings that scenes are made of: fetched once from npm, verified, cut out.

Knows where the art comes from and what each drawing is called; knows nothing of scenes or captions.
"""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memo.errors import BadSetup

from .concepts import CONCEPTS

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"  # Microsoft's Fluent Emoji, MIT
ARCHIVE = "lobehub-fluent-emoji-3d-1.1.0.tgz"
SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
SIDE = 176  # px of a drawing's longer side: no scene shows it larger than this
VISIBLE = 12  # alpha below this is haze around the drawing


@dataclass(frozen=True)
class Sprite:
    """One cut-out drawing.

    `names` begins with its own name, `colours` are those it has untinted, `pixels` is (height, width, 4) RGBA.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    pixels: NDArray[np.uint8]


def open_art(folder: Path = Path("var/train/art")) -> tuple[Sprite, ...]:
    """All drawings of the concept table; raises BadSetup when the package cannot be had or is not the known one."""
    archive = folder / ARCHIVE
    if not archive.exists():
        fetch(folder)
    verify(archive)
    with tarfile.open(archive) as package:
        files = {member.name: member for member in package.getmembers()}
        return tuple(
            Sprite(names, colours, cut_out(read(package, files, emoji))) for emoji, names, colours in concepts()
        )


def fetch(folder: Path) -> None:
    """Ask npm for the art package."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadSetup(f"npm could not fetch {PACKAGE} ({error}); put {ARCHIVE} into {folder} by hand") from error


def verify(archive: Path) -> None:
    """Raise BadSetup unless the archive is byte for byte the one this code was written for."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise BadSetup(f"{archive} has sha256 {found}, expected {SHA256}: delete it and start again")


def concepts() -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """The table as (emoji, names, colours it already has)."""
    for line in CONCEPTS.strip().splitlines():
        emoji, rest = line.split(" ", 1)
        names, _, colours = rest.partition(";")
        yield emoji, tuple(name.strip() for name in names.split("|")), tuple(colours.split())


def read(package: tarfile.TarFile, files: dict[str, tarfile.TarInfo], emoji: str) -> Image.Image:
    """The emoji's picture; the package names files by code point, some with the variation selector."""
    code = "-".join(f"{ord(character):04x}" for character in emoji)
    for name in (f"package/assets/{code}.webp", f"package/assets/{code}-fe0f.webp"):
        if name in files and (file := package.extractfile(files[name])) is not None:
            return Image.open(io.BytesIO(file.read())).convert("RGBA")
    raise BadSetup(f"{PACKAGE} has no drawing of {emoji} ({code})")


def cut_out(picture: Image.Image) -> NDArray[np.uint8]:
    """(height, width, 4): what is visible, its longer side scaled to SIDE."""
    alpha = picture.getchannel("A").point(lambda value: 255 * (value > VISIBLE))
    picture = picture.crop(alpha.getbbox())
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
