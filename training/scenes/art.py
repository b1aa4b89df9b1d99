"""Build the sprite bank that scenes are drawn from: fetch drawings from npm, verify, crop and name them.

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

HAZE_ALPHA = 12  # alpha values up to this one are haze around a drawing
RENDERED_SIDE = 288  # px, of vector drawings
MIN_COLOUR_SHARE = 0.25  # of the visible pixels, for a colour that counts as natural


@dataclass(frozen=True)
class Package:
    """An npm package pinned by its digest."""

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

THING_GROUPS = re.compile(
    r"face-|cat-face|monkey-face|heart|hand-fingers|body|person|animal|plant|food|drink|dishware"
)
GROUPS = (5, 6, 7)  # travel-places, activities, objects; EXCLUDED still applies
EXCLUDED = re.compile(r"gesture|symbol|sign|warning|arrow|time")
SCENERY = frozenset(
    "night with stars,cityscape,cityscape at dusk,sunset,sunrise,sunrise over mountains,bridge at night,desert,fog,"
    "foggy,beach with umbrella,milky way,national park,new moon,wind face,moon viewing ceremony".split(",")
)
MIRRORABLE = re.compile(r"animal|cat-face|monkey-face|person|plant|fruit|transport")  # subgroups without writing
TIMEPIECES = ("hourglass", "watch", "clock")


@dataclass(frozen=True)
class Knobs:
    """Where the archives and the bank are; `side` is the longer side of a drawing in px."""

    archives: Path = Path("var/train/art")
    out: Path = Path("var/train/bank")
    side: int = 240


def write_art(knobs: Knobs) -> Path:
    """Write a bank of all things that have a drawing in every style; returns its folder."""
    with open_package(EMOJI, knobs.archives) as packed:
        table = read_json(packed, "en/data.json")
        groups = read_json(packed, "meta/groups.json")["subgroups"]
        codes = read_json(packed, "en/shortcodes/emojibase.json")
    readers = {style: READERS[style](open_package(package, knobs.archives)) for style, package in STYLES.items()}
    rows = [
        row for row in table if is_thing(row, groups) and all(emoji_key(row) in reader for reader in readers.values())
    ]
    mirrorable = {emoji_key(row) for row in rows if MIRRORABLE.search(groups[str(row["subgroup"])])}
    sprites = [replace(sprite, turns=sprite.key in mirrorable) for sprite in make_sprites(rows, codes)]
    drawings = {
        style: {sprite.key: cut_out(reader(sprite.key)) for sprite in sprites} for style, reader in readers.items()
    }
    log.info("%d things in %d styles", len(sprites), len(drawings))
    write_bank(
        knobs.out, [with_colours(sprite, drawings["3d"][sprite.key]) for sprite in sprites], drawings, side=knobs.side
    )
    return knobs.out


def open_package(package: Package, folder: Path) -> tarfile.TarFile:
    """Open a package, fetching it first if needed; raises BadSetup if that fails or the digest differs."""
    path = folder / package.archive
    if not path.exists():
        fetch(package, folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise BadSetup(f"{path} has sha256 {digest}, expected {package.sha256}: delete it and run again")
    return tarfile.open(path)


def fetch(package: Package, folder: Path) -> None:
    """Download a package with npm; raises BadSetup if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["npm", "pack", package.name, "--silent"], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadSetup(
            f"npm could not fetch {package.name} ({error}); download {package.archive} into {folder} yourself"
        ) from error


class Drawings:
    """A package with one file per drawing; `key in drawings` tests for one, `drawings(key)` reads it as RGBA."""

    def __init__(self, packed: tarfile.TarFile) -> None:
        self.packed = packed
        self.files = {
            normalize_code(Path(member.name).stem): member for member in packed.getmembers() if member.isfile()
        }

    def __contains__(self, key: str) -> bool:
        return key in self.files

    def __call__(self, key: str) -> Image.Image:
        data = self.packed.extractfile(self.files[key])
        assert data is not None  # `files` holds regular files only
        return self.decode(data.read())

    def decode(self, data: bytes) -> Image.Image:
        """WebP or PNG bytes as RGBA."""
        return Image.open(io.BytesIO(data)).convert("RGBA")


class VectorDrawings(Drawings):
    """A package with one SVG file per drawing."""

    def decode(self, data: bytes) -> Image.Image:
        """SVG bytes as RGBA."""
        return render_svg(data.decode())


class IconSet:
    """A package with all drawings in one JSON file, as Iconify packs them; used like Drawings."""

    def __init__(self, packed: tarfile.TarFile) -> None:
        self.icons = read_json(packed, "icons.json")
        chars: dict[str, str] = read_json(packed, "chars.json")
        self.names = {normalize_code(key): name for key, name in chars.items() if name in self.icons["icons"]}

    def __contains__(self, key: str) -> bool:
        return key in self.names

    def __call__(self, key: str) -> Image.Image:
        icon = self.icons["icons"][self.names[key]]
        left, top, width, height = (
            icon.get(part, self.icons.get(part, default))
            for part, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return render_svg(f'<svg {space} viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>')


READERS: dict[str, Callable[[tarfile.TarFile], Drawings | IconSet]] = {
    "3d": Drawings,
    "flat": IconSet,
    "noto": IconSet,
    "twemoji": VectorDrawings,
}


def render_svg(svg: str) -> Image.Image:
    """Render a vector drawing as a square RGBA picture."""
    import resvg_py

    data = bytes(
        resvg_py.svg_to_bytes(svg_string=svg, width=RENDERED_SIDE, height=RENDERED_SIDE, skip_system_fonts=True)
    )
    return Image.open(io.BytesIO(data)).convert("RGBA")


def read_json(packed: tarfile.TarFile, name: str) -> Any:
    """Read a JSON file of an npm package."""
    data = packed.extractfile(f"package/{name}")
    if data is None:
        raise BadSetup(f"{packed.name!r} has no {name}")
    return json.load(data)


def normalize_code(code_points: str) -> str:
    """Code points in lower case, without the variation selector: "2601-FE0F" → "2601"."""
    return "-".join(part for part in code_points.lower().split("-") if part != "fe0f")


def emoji_key(row: dict[str, Any]) -> str:
    """The key of the drawing for a row of the emoji table."""
    return normalize_code(row["hexcode"])


def is_thing(row: dict[str, Any], groups: dict[str, str]) -> bool:
    """Whether an emoji is a thing that can stand alone: no sign, gesture or scenery; people only in neutral form."""
    if "group" not in row or row["label"] in SCENERY:
        return False
    subgroup, label = groups[str(row["subgroup"])], row["label"]
    if label.startswith(("man ", "woman ", "men ", "women ")) and "200D" in row["hexcode"]:
        return False
    if subgroup == "time":
        return any(word in label for word in TIMEPIECES) and "’" not in label
    included = bool(THING_GROUPS.match(subgroup)) or row["group"] in GROUPS
    return included and not EXCLUDED.search(subgroup) and ":" not in label


def make_sprites(rows: list[dict[str, Any]], codes: dict[str, str | list[str]]) -> Iterator[Sprite]:
    """A sprite for each row, those of the concept table first; no two sprites share a name."""
    by_key = {emoji_key(row): row for row in rows}
    taken: set[str] = set()
    listed = {normalize_code(code_points(emoji)): (names, colours) for emoji, names, colours in read_concepts()}
    taken.update(name for names, _ in listed.values() for name in names)
    for key, (names, colours) in listed.items():
        if key not in by_key:
            raise BadSetup(f"not every style has a drawing of {names[0]!r}; remove its line from CONCEPTS")
        yield Sprite(key, names, colours)
    for key, row in by_key.items():
        if key not in listed and (names := free_names(row, codes, taken)):
            taken.update(names)
            yield Sprite(key, names)


def free_names(row: dict[str, Any], codes: dict[str, str | list[str]], taken: set[str]) -> tuple[str, ...]:
    """The label and the short codes that consist of words and do not name another thing."""
    short_codes = codes.get(row["hexcode"], [])
    names = [row["label"], *([short_codes] if isinstance(short_codes, str) else short_codes)]
    cleaned = [name.lower().replace("_", " ").replace("’", "'").strip() for name in names]
    return tuple(
        dict.fromkeys(name for name in cleaned if re.fullmatch(r"[a-z' -]{3,28}", name) and name not in taken)
    )


def code_points(emoji: str) -> str:
    """The code points of an emoji: "🦊" → "1f98a"."""
    return "-".join(f"{ord(character):x}" for character in emoji)


def read_concepts() -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """The concept table as (emoji, names, natural colours)."""
    for line in CONCEPTS.strip().splitlines():
        emoji, rest = line.split(" ", 1)
        names, _, colours = rest.partition(";")
        yield emoji, tuple(name.strip() for name in names.split("|")), tuple(colours.split())


def cut_out(picture: Image.Image) -> Image.Image:
    """The picture cropped to its visible part."""
    alpha = picture.getchannel("A").point(lambda value: 255 * (value > HAZE_ALPHA))
    return picture.crop(alpha.getbbox())


def with_colours(sprite: Sprite, drawing: Image.Image) -> Sprite:
    """The sprite with the main colours of its drawing, unless the concept table gives its colours."""
    if sprite.colours:
        return sprite
    small = np.asarray(drawing.resize((24, 24)), dtype=np.int32).reshape(-1, 4)
    names, visible = tuple(COLOURS), small[small[:, 3] > 128, :3]
    nearest = np.square(visible[:, None] - np.array(list(COLOURS.values()))).sum(-1).argmin(1)
    shares: NDArray[np.float64] = np.bincount(nearest, minlength=len(names)) / max(1, len(visible))
    main = [names[row] for row in np.argsort(-shares) if shares[row] >= MIN_COLOUR_SHARE]
    return replace(sprite, colours=tuple(main))


if __name__ == "__main__":
    write_art(from_arguments(Knobs, __doc__))
