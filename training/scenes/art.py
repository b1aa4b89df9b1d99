"""The drawings that scenes are made of: fetched once from npm, verified, cut out, written as a sprite bank.

Knows where the art comes from and what each drawing is called; knows nothing of scenes or captions.
`python -m training.scenes.art` writes `var/train/bank`.
"""

import hashlib
import io
import json
import logging
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memo.errors import BadSetup
from training.knobs import from_arguments
from worker.stickers.sprites import Sprite, write_bank

from .concepts import CONCEPTS
from .places import COLOURS

log = logging.getLogger(__name__)

VISIBLE = 12  # alpha below this is haze around a drawing
RENDERED = 288  # px at which vector drawings are rendered
LARGEST_SHARE = 0.25  # of the visible pixels that a natural colour has at least


@dataclass(frozen=True)
class Package:
    """An npm package that this code was written for, byte for byte."""

    name: str
    archive: str
    sha256: str


EMOJI = Package(
    "emojibase-data@17.0.0",  # names and short codes, MIT
    "emojibase-data-17.0.0.tgz",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)
STYLES = {
    "3d": Package(
        "@lobehub/fluent-emoji-3d@1.1.0",  # Fluent Emoji, MIT
        "lobehub-fluent-emoji-3d-1.1.0.tgz",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
    "flat": Package(
        "@iconify-json/fluent-emoji-flat@1.2.6",  # Fluent Emoji, MIT
        "iconify-json-fluent-emoji-flat-1.2.6.tgz",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "noto": Package(
        "@iconify-json/noto@1.2.9",  # Noto Emoji, Apache-2.0
        "iconify-json-noto-1.2.9.tgz",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "twemoji": Package(
        "@twemoji/svg@15.0.0",  # Twemoji, CC-BY 4.0
        "twemoji-svg-15.0.0.tgz",
        "1d2907557a422c7c4e3feca50ef915c39da1db3d76b4a4d7e73fb59bce4403c3",
    ),
}

THINGS = re.compile(r"face-|cat-face|monkey-face|heart|hand-fingers|body|person|animal|plant|food|drink|dishware")
GROUPS = (5, 6, 7)  # travel-places, activities, objects: all but what is left out below
LEFT_OUT = re.compile(r"gesture|symbol|sign|warning|arrow|time")
SCENERY = frozenset(
    "night with stars,cityscape,cityscape at dusk,sunset,sunrise,sunrise over mountains,bridge at night,desert,fog,"
    "foggy,beach with umbrella,milky way,national park,new moon,wind face,moon viewing ceremony".split(",")
)
TURNING = re.compile(r"animal|cat-face|monkey-face|person|plant|fruit|transport")  # subgroups without any writing
TIMEPIECES = ("hourglass", "watch", "clock")


@dataclass(frozen=True)
class Knobs:
    """Where the archives are kept and the bank is written; `side` is the longer side of a drawing in px."""

    archives: Path = Path("var/train/art")
    out: Path = Path("var/train/bank")
    side: int = 240


def write_art(knobs: Knobs) -> Path:
    """Write the bank of all things that every style has a drawing of; returns its folder."""
    with archive(EMOJI, knobs.archives) as packed:
        table = read_json(packed, "en/data.json")
        groups = read_json(packed, "meta/groups.json")["subgroups"]
        codes = read_json(packed, "en/shortcodes/emojibase.json")
    readers = {style: READERS[style](archive(package, knobs.archives)) for style, package in STYLES.items()}
    wanted = [
        row for row in table if is_thing(row, groups) and all(key_of(row) in reader for reader in readers.values())
    ]
    turning = {key_of(row) for row in wanted if TURNING.search(groups[str(row["subgroup"])])}
    sprites = [replace(sprite, turns=sprite.key in turning) for sprite in named(wanted, codes)]
    drawings = {
        style: {sprite.key: cut_out(reader(sprite.key)) for sprite in sprites} for style, reader in readers.items()
    }
    log.info("%d things in %d styles", len(sprites), len(drawings))
    write_bank(
        knobs.out, [coloured(sprite, drawings["3d"][sprite.key]) for sprite in sprites], drawings, side=knobs.side
    )
    return knobs.out


def archive(package: Package, folder: Path) -> tarfile.TarFile:
    """The package, fetched if it is not there; raises BadSetup when it cannot be had or is not the known one."""
    path = folder / package.archive
    if not path.exists():
        fetch(package, folder)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise BadSetup(f"{path} has sha256 {found}, expected {package.sha256}: delete it and start again")
    return tarfile.open(path)


def fetch(package: Package, folder: Path) -> None:
    """Ask npm for a package."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["npm", "pack", package.name, "--silent"], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadSetup(
            f"npm could not fetch {package.name} ({error}); put {package.archive} into {folder} by hand"
        ) from error


class Drawings:
    """A package of one file a drawing; `in` tells whether a key is there, calling gives its RGBA picture."""

    def __init__(self, packed: tarfile.TarFile) -> None:
        self.packed = packed
        self.files = {normal(Path(member.name).stem): member for member in packed.getmembers() if member.isfile()}

    def __contains__(self, key: str) -> bool:
        return key in self.files

    def __call__(self, key: str) -> Image.Image:
        data = self.packed.extractfile(self.files[key])
        assert data is not None  # only files are kept
        return self.decode(data.read())

    def decode(self, data: bytes) -> Image.Image:
        """WebP or PNG bytes as RGBA."""
        return Image.open(io.BytesIO(data)).convert("RGBA")


class VectorDrawings(Drawings):
    """One SVG file a drawing."""

    def decode(self, data: bytes) -> Image.Image:
        """SVG bytes as RGBA."""
        return rendered(data.decode())


class IconSet:
    """All drawings in one JSON file, as Iconify packs them; used like Drawings."""

    def __init__(self, packed: tarfile.TarFile) -> None:
        self.icons = read_json(packed, "icons.json")
        chars: dict[str, str] = read_json(packed, "chars.json")
        self.names = {normal(key): name for key, name in chars.items() if name in self.icons["icons"]}

    def __contains__(self, key: str) -> bool:
        return key in self.names

    def __call__(self, key: str) -> Image.Image:
        icon = self.icons["icons"][self.names[key]]
        left, top, width, height = (
            icon.get(part, self.icons.get(part, default))
            for part, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return rendered(f'<svg {space} viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>')


READERS: dict[str, Callable[[tarfile.TarFile], Drawings | IconSet]] = {
    "3d": Drawings,
    "flat": IconSet,
    "noto": IconSet,
    "twemoji": VectorDrawings,
}


def rendered(svg: str) -> Image.Image:
    """A square RGBA picture of a vector drawing."""
    import resvg_py

    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=RENDERED, height=RENDERED, skip_system_fonts=True))
    return Image.open(io.BytesIO(data)).convert("RGBA")


def read_json(packed: tarfile.TarFile, name: str) -> Any:
    """A JSON file of an npm package."""
    data = packed.extractfile(f"package/{name}")
    if data is None:
        raise BadSetup(f"{packed.name!r} has no {name}")
    return json.load(data)


def normal(code: str) -> str:
    """Code points in lower case without the variation selector: "2601-FE0F" → "2601"."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def key_of(row: dict[str, Any]) -> str:
    """The key of a row of the emoji table."""
    return normal(row["hexcode"])


def is_thing(row: dict[str, Any], groups: dict[str, str]) -> bool:
    """Whether it can stand alone in a picture: no sign, gesture or scenery; of people the neutral form only."""
    if "group" not in row or row["label"] in SCENERY:
        return False
    subgroup, label = groups[str(row["subgroup"])], row["label"]
    if label.startswith(("man ", "woman ", "men ", "women ")) and "200D" in row["hexcode"]:
        return False
    if subgroup == "time":
        return any(word in label for word in TIMEPIECES) and "’" not in label
    wanted = bool(THINGS.match(subgroup)) or row["group"] in GROUPS
    return wanted and not LEFT_OUT.search(subgroup) and ":" not in label


def named(rows: list[dict[str, Any]], codes: dict[str, str | list[str]]) -> Iterator[Sprite]:
    """A sprite for each row, those of the concept table first; no two share a name."""
    by_key = {key_of(row): row for row in rows}
    taken: set[str] = set()
    listed = {normal(code(emoji)): (names, colours) for emoji, names, colours in concepts()}
    taken.update(name for names, _ in listed.values() for name in names)
    for key, (names, colours) in listed.items():
        if key not in by_key:
            raise BadSetup(f"the concept table names {names[0]!r}, which not every style draws")
        yield Sprite(key, names, colours)
    for key, row in by_key.items():
        if key not in listed and (own := free_names(row, codes, taken)):
            taken.update(own)
            yield Sprite(key, own)


def free_names(row: dict[str, Any], codes: dict[str, str | list[str]], taken: set[str]) -> tuple[str, ...]:
    """Label and short codes that are words and that no other thing has."""
    given = codes.get(row["hexcode"], [])
    said = [row["label"], *([given] if isinstance(given, str) else given)]
    clean = [name.lower().replace("_", " ").replace("’", "'").strip() for name in said]
    return tuple(dict.fromkeys(name for name in clean if re.fullmatch(r"[a-z' -]{3,28}", name) and name not in taken))


def code(emoji: str) -> str:
    """ "🦊" → "1f98a"."""
    return "-".join(f"{ord(character):x}" for character in emoji)


def concepts() -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """The table as (emoji, names, colours it already has)."""
    for line in CONCEPTS.strip().splitlines():
        emoji, rest = line.split(" ", 1)
        names, _, colours = rest.partition(";")
        yield emoji, tuple(name.strip() for name in names.split("|")), tuple(colours.split())


def cut_out(picture: Image.Image) -> Image.Image:
    """What is visible of it."""
    alpha = picture.getchannel("A").point(lambda value: 255 * (value > VISIBLE))
    return picture.crop(alpha.getbbox())


def coloured(sprite: Sprite, drawing: Image.Image) -> Sprite:
    """The sprite with the colours its drawing has, unless the table says them."""
    if sprite.colours:
        return sprite
    small = np.asarray(drawing.resize((24, 24)), dtype=np.int32).reshape(-1, 4)
    names, visible = tuple(COLOURS), small[small[:, 3] > 128, :3]
    nearest = np.square(visible[:, None] - np.array(list(COLOURS.values()))).sum(-1).argmin(1)
    shares: NDArray[np.float64] = np.bincount(nearest, minlength=len(names)) / max(1, len(visible))
    main = [names[row] for row in np.argsort(-shares) if shares[row] >= LARGEST_SHARE]
    return replace(sprite, colours=tuple(main))


if __name__ == "__main__":
    write_art(from_arguments(Knobs, __doc__))
