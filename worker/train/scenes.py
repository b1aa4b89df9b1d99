"""Procedural scenes: drawings set on drawn backgrounds, with captions that are exactly true.

Knows what a scene can show and how it is said; nothing of models. `write_scenes` fills a folder with pairs.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .art import Sprite, open_art
from .knobs import from_arguments
from .pairs import Pairs
from .places import COLOURS, PLACES, coloured, draw_place, plain
from .tint import tint
from .words import counted, framed, indefinite, with_article

log = logging.getLogger(__name__)

LAYOUTS: dict[int, tuple[tuple[tuple[float, float], ...], float]] = {
    # count: (centres as parts of the side, size of each)
    2: (((0.28, 0.5), (0.72, 0.5)), 0.42),
    3: (((0.27, 0.3), (0.73, 0.3), (0.5, 0.72)), 0.38),
    4: (((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)), 0.38),
}


@dataclass(frozen=True)
class Knobs:
    """What to write and where; shares are chances of each kind of scene."""

    out: Path = Path("var/train/scenes")
    count: int = 24_000
    side: int = 128  # px
    concepts: int = 80  # how many of the table, from its beginning
    seed: int = 1
    flips: float = 0.0  # chance that a thing looks the other way
    jitter: float = 1.0  # of places and sizes; 0 is much quicker to learn, and always the same composition


@dataclass(frozen=True)
class Background:
    """A drawn background: what a caption adds for it, where its ground is, how its light falls."""

    picture: Image.Image
    suffix: str = ""
    adjective: str = ""
    horizon: float | None = None
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass
class Studio:
    """Makes scenes from a set of drawings; tinted drawings are kept once made."""

    art: tuple[Sprite, ...]
    side: int = 128
    flips: float = 0.0
    jitter: float = 1.0
    tinted: dict[tuple[str, str], NDArray[np.uint8]] = field(default_factory=dict)

    def scene(self, random: Random) -> tuple[NDArray[np.uint8], str]:
        """One scene, (side, side, 3) RGB, and its caption."""
        kind: Callable[[Random], tuple[Image.Image, str]] = random.choices(
            (self.single, self.tinted_single, self.group, self.pair), (0.62, 0.18, 0.14, 0.06)
        )[0]
        picture, caption = kind(random)
        if random.random() < 0.15:
            caption = framed(random, caption)
        return np.asarray(picture), caption

    def single(self, random: Random) -> tuple[Image.Image, str]:
        """One thing as it is."""
        background = self.background(random, plain_share=0.34, place_share=0.46)
        sprite = random.choice(self.art)
        self.place_one(random, background, sprite.pixels)
        noun = random.choice(sprite.names)
        if sprite.colours and random.random() < 0.12:
            noun = in_colour(noun, random.choice(sprite.colours))
        return background.picture, describe(random, noun, background)

    def tinted_single(self, random: Random) -> tuple[Image.Image, str]:
        """One thing in a colour that it does not have by nature."""
        background = self.background(random, plain_share=0.45, place_share=0.25)
        sprite = random.choice(self.art)
        colour = random.choice([name for name in COLOURS if name not in (*sprite.colours, "gray")])
        self.place_one(random, background, self.in_colour(sprite, colour))
        return background.picture, describe(random, in_colour(random.choice(sprite.names), colour), background)

    def group(self, random: Random) -> tuple[Image.Image, str]:
        """Two to four of the same."""
        background = self.background(random, plain_share=0.6, place_share=0.25)
        sprite, count = random.choice(self.art), random.choice((2, 3, 4))
        centres, size = LAYOUTS[count]
        for x, y in centres:
            self.paste(random, background, sprite.pixels, (x, y), size)
        return background.picture, counted(random, count, random.choice(sprite.names)) + background.suffix

    def pair(self, random: Random) -> tuple[Image.Image, str]:
        """Two different things, side by side or one above the other."""
        background = self.background(random, plain_share=0.7, place_share=0.18)
        first, second = random.sample(self.art, 2)
        between, centres = random.choice(RELATIONS)
        for sprite, centre in zip((first, second), centres, strict=True):
            self.paste(random, background, sprite.pixels, centre, 0.42)
        one, other = (with_article(random, random.choice(sprite.names)) for sprite in (first, second))
        return background.picture, f"{one} {between} {other}{background.suffix}"

    def background(self, random: Random, *, plain_share: float, place_share: float) -> Background:
        """Plain, a place, or (the rest) one of the named colours."""
        chance = random.random()
        if chance < plain_share:
            return Background(plain(random, self.side))
        if chance < plain_share + place_share:
            return self.somewhere(random)
        colour = random.choice(tuple(COLOURS))
        wording = random.choice((" on a {} background", " on a {} background", " on {}", ", {} background"))
        return Background(coloured(random, self.side, colour), wording.format(colour))

    def somewhere(self, random: Random) -> Background:
        name = random.choice(tuple(PLACES))
        place, picture = PLACES[name], draw_place(name, random, self.side)
        if place.adjective and random.random() < 0.12:
            return Background(picture, "", place.adjective, place.horizon, place.light)
        return Background(picture, f" {random.choice(place.phrases)}", "", place.horizon, place.light)

    def place_one(self, random: Random, background: Background, pixels: NDArray[np.uint8]) -> None:
        """Large in the middle, or standing on the ground."""
        size = 0.74 if background.horizon is None else 0.62
        self.paste(random, background, pixels, (0.5, 0.5), size)

    def paste(
        self,
        random: Random,
        background: Background,
        pixels: NDArray[np.uint8],
        centre: tuple[float, float],
        size: float,
    ) -> None:
        """Set a drawing on the background: a little moved and sized, lit by the place, shadow on the ground."""
        longer = size * self.side * (1 + self.jitter * random.uniform(-0.08, 0.08))
        drawing = Image.fromarray(shaded(pixels, background.light))
        scale = longer / max(drawing.size)
        drawing = drawing.resize((max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale))))
        if random.random() < self.flips:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = (centre[0] + self.jitter * random.uniform(-0.03, 0.03)) * self.side
        y = (centre[1] + self.jitter * random.uniform(-0.03, 0.03)) * self.side
        if background.horizon is not None and size > 0.5:
            y = (
                background.horizon + 0.17 + self.jitter * random.uniform(-0.03, 0.03)
            ) * self.side - drawing.height / 2
            shadow(background.picture, x, y + drawing.height / 2, drawing.width / 2)
        background.picture.paste(drawing, (round(x - drawing.width / 2), round(y - drawing.height / 2)), drawing)

    def in_colour(self, sprite: Sprite, colour: str) -> NDArray[np.uint8]:
        key = (sprite.names[0], colour)
        if key not in self.tinted:
            self.tinted[key] = tint(sprite.pixels, colour, natural=sprite.colours[0] if sprite.colours else "")
        return self.tinted[key]


LEFT, RIGHT, UPPER, LOWER = (0.27, 0.5), (0.73, 0.5), (0.5, 0.27), (0.5, 0.73)
RELATIONS: tuple[tuple[str, tuple[tuple[float, float], tuple[float, float]]], ...] = (
    ("and", (LEFT, RIGHT)),
    ("and", (LEFT, RIGHT)),
    ("and", (LEFT, RIGHT)),
    ("next to", (LEFT, RIGHT)),
    ("left of", (LEFT, RIGHT)),
    ("to the left of", (LEFT, RIGHT)),
    ("to the right of", (RIGHT, LEFT)),
    ("above", (UPPER, LOWER)),
    ("on top of", (UPPER, LOWER)),
    ("below", (LOWER, UPPER)),
)


def describe(random: Random, noun: str, background: Background) -> str:
    """The caption of one thing before a background."""
    if background.adjective:
        return indefinite(f"{background.adjective} {noun}")
    return with_article(random, noun) + background.suffix


def in_colour(noun: str, colour: str) -> str:
    """The name with this colour and no other before it."""
    head, _, rest = noun.partition(" ")
    return f"{colour} {rest if rest and head in (*COLOURS, 'golden') else noun}"


def shaded(pixels: NDArray[np.uint8], light: tuple[float, float, float]) -> NDArray[np.uint8]:
    """The drawing in the place's light."""
    if light == (1.0, 1.0, 1.0):
        return pixels
    return np.asarray(pixels * np.array((*light, 1.0)), dtype=np.uint8)


def shadow(picture: Image.Image, x: float, y: float, half: float) -> None:
    """Darken the ground softly around (x, y), in place; `half` is half the thing's width in px."""
    rows, columns = np.ogrid[: picture.height, : picture.width]
    depth = 0.32 * np.exp(-(((columns - x) / (0.75 * half)) ** 2) - ((rows - y) / (0.14 * half + 1)) ** 2)
    dark = np.asarray(picture) * (1 - depth[..., None])
    picture.paste(Image.fromarray(dark.astype(np.uint8)))


def write_scenes(knobs: Knobs) -> Path:
    """Draw `knobs.count` scenes into `knobs.out`; returns that folder."""
    studio, random = Studio(open_art()[: knobs.concepts], knobs.side, knobs.flips, knobs.jitter), Random(knobs.seed)
    images = np.empty((knobs.count, knobs.side, knobs.side, 3), np.uint8)
    captions: list[str] = []
    for row in range(knobs.count):
        images[row], caption = studio.scene(random)
        captions.append(caption)
        if row % 2000 == 0:
            log.info("%d of %d scenes", row, knobs.count)
    Pairs(images, tuple(captions)).save(knobs.out)
    return knobs.out


if __name__ == "__main__":
    write_scenes(from_arguments(Knobs, __doc__))
