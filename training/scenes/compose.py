"""Compose scenes: drawings pasted on drawn backgrounds, with captions that are exactly true.

`write_scenes` writes a data set of captioned pictures, and for each scene the sheet of drawings it was made from.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.captioned_pictures import CaptionedPictures
from training.knobs import from_arguments
from worker.stickers.layout import CANVASES, GRID, MARGIN, MAX_DRAWINGS, MAX_THINGS, Layout, Placement, draw_layout
from worker.stickers.nouns import add_article, is_countable
from worker.stickers.plan import BIG, GROUPS, RELATIONS, TINY, TOGETHER
from worker.stickers.sprites import Bank, Sprite, open_bank

from .phrasing import counted, framed, with_article, with_typo
from .places import COLOURS, PLACES, draw_coloured, draw_place, draw_plain
from .tint import tint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Knobs:
    """What to draw, and where to write it."""

    bank: Path = Path("var/train/bank")
    out: Path = Path("var/train/scenes")
    count: int = 24_000
    side: int = 128  # px
    concepts: int = 0  # number of things, from the start of the bank; 0 = all
    held_out: int = 0  # every n-th thing is left out, to test later whether the model can paint it; 0 = none
    styles: tuple[str, ...] = ("3d", "3d", "3d", "flat", "noto", "twemoji")  # a repeated style is drawn more often
    seed: int = 1
    processes: int = 2


@dataclass(frozen=True)
class Background:
    """A drawn background, its words in the caption, its horizon (0 top, 1 bottom) and its light (factors of RGB)."""

    picture: Image.Image
    suffix: str = ""
    adjective: str = ""
    horizon: float | None = None
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """A picture (side, side, 3) RGB, its true caption, and its sheet of drawings: things, plan and layout."""

    picture: NDArray[np.uint8]
    caption: str
    things: tuple[Sprite, ...]
    style: str
    plan: tuple[Placement, ...]
    layout: Layout


@dataclass
class Draft:
    """A scene being drawn."""

    random: Random
    background: Background
    layout: Layout
    style: str
    things: tuple[Sprite, ...] = ()
    plan: tuple[Placement, ...] = ()


class SceneComposer:
    """Draws random scenes from the sprites of a bank."""

    def __init__(self, bank: Bank, sprites: Sequence[Sprite], styles: Sequence[str], side: int = 128) -> None:
        self.bank, self.sprites, self.styles, self.side = bank, tuple(sprites), tuple(styles), side
        self.countable = tuple(sprite for sprite in sprites if all(is_countable(name) for name in sprite.names))

    def draw_scene(self, random: Random) -> Scene:
        """Draw a random scene."""
        kinds: dict[Callable[[Draft], str], float] = {
            self.draw_single: 0.3,
            self.draw_tinted_single: 0.22,
            self.draw_group: 0.18,
            self.draw_pair: 0.2,
            self.draw_several: 0.07,
            self.draw_nothing: 0.03,
        }
        kind = random.choices(tuple(kinds), tuple(kinds.values()))[0]
        return self.draw_kind(kind, random)

    def draw_kind(self, kind: Callable[[Draft], str], random: Random) -> Scene:
        """Draw a scene of one kind; some captions get a frame ("a picture of …") or a typo, as real prompts have."""
        draft = Draft(random, self.draw_background(random), draw_layout(random), random.choice(self.styles))
        caption = kind(draft)
        if random.random() < 0.15:
            caption = framed(random, caption, draft.style)
        if random.random() < 0.03:
            caption = with_typo(random, caption)
        picture = np.asarray(draft.background.picture)
        return Scene(picture, caption, draft.things, draft.style, draft.plan, draft.layout)

    def draw_single(self, draft: Draft) -> str:
        """Draw one thing in its own colours, sometimes big or tiny; returns the caption."""
        sprite = self.choose_thing(draft)
        canvas = draft.random.choices(("one", "big", "tiny"), (0.76, 0.12, 0.12))[0]
        self.paste(draft, 0, canvas, 0)
        noun = draft.random.choice(sprite.names)
        if sprite.colours and draft.random.random() < 0.12:
            noun = in_colour(noun, draft.random.choice(sprite.colours))
        if canvas != "one":
            noun = f"{draft.random.choice(BIG if canvas == 'big' else TINY)} {noun}"
        return write_caption(draft, noun)

    def draw_tinted_single(self, draft: Draft) -> str:
        """Draw one thing in a colour that it does not naturally have; returns the caption."""
        sprite = self.choose_thing(draft)
        colour = other_colour(draft.random, sprite)
        self.paste(draft, 0, "one", 0, colour)
        return write_caption(draft, in_colour(draft.random.choice(sprite.names), colour))

    def draw_group(self, draft: Draft) -> str:
        """Draw two to four copies of a thing, sometimes in another colour; returns the caption."""
        sprite, count = draft.random.choice(self.countable), draft.random.choice((2, 3, 3, 4))
        draft.things = (sprite,)
        colour = other_colour(draft.random, sprite) if draft.random.random() < 0.15 else ""
        for canvas, place in draft.random.choice(GROUPS[count]):
            self.paste(draft, 0, canvas, place, colour)
        name = draft.random.choice(sprite.names)
        return counted(draft.random, count, in_colour(name, colour) if colour else name) + background_suffix(draft)

    def draw_pair(self, draft: Draft) -> str:
        """Draw two things, side by side or one above the other, sometimes recoloured; returns the caption."""
        draft.things = tuple(draft.random.sample(self.sprites, 2))
        relation = draft.random.choice(tuple(RELATIONS))
        canvas, *places = RELATIONS[relation]
        nouns = []
        for thing, sprite in enumerate(draft.things):
            colour = other_colour(draft.random, sprite) if draft.random.random() < 0.3 else ""
            self.paste(draft, thing, canvas, places[thing], colour)
            name = draft.random.choice(sprite.names)
            nouns.append(with_article(draft.random, in_colour(name, colour) if colour else name))
        return f"{nouns[0]} {relation} {nouns[1]}{background_suffix(draft)}"

    def draw_several(self, draft: Draft) -> str:
        """Draw three different things, or one thing and two of another; returns the caption."""
        kind = draft.random.choice(("all", "first", "second")[len(self.countable) < 3 :])
        draft.things = tuple(draft.random.sample(self.countable, 3 if kind == "all" else 2))
        names = [draft.random.choice(sprite.names) for sprite in draft.things]
        counts = {"all": (1, 1, 1), "first": (2, 1), "second": (1, 2)}[kind]
        for thing, places in enumerate(TOGETHER[counts]):
            for canvas, place in places:
                self.paste(draft, thing, canvas, place)
        if kind == "second":
            return f"{add_article(names[0])} and {counted(draft.random, 2, names[1])}{background_suffix(draft)}"
        if kind == "first":
            return f"{counted(draft.random, 2, names[0])} and {add_article(names[1])}{background_suffix(draft)}"
        return (
            f"{add_article(names[0])}, {add_article(names[1])} and {add_article(names[2])}{background_suffix(draft)}"
        )

    def draw_nothing(self, draft: Draft) -> str:
        """Draw the background alone; returns the caption."""
        return draft.background.suffix.removeprefix(" on ").removeprefix(", ").strip() or "nothing"

    def choose_thing(self, draft: Draft) -> Sprite:
        """Choose the only thing of a scene."""
        draft.things = (draft.random.choice(self.sprites),)
        return draft.things[0]

    def draw_background(self, random: Random) -> Background:
        """Draw a background: plain, a place, or a named colour."""
        kind = random.choices(("plain", "place", "colour"), (0.4, 0.38, 0.22))[0]
        if kind == "plain":
            return Background(draw_plain(random, self.side))
        if kind == "place":
            return self.draw_random_place(random)
        colour = random.choice(tuple(COLOURS))
        wording = random.choice((" on {a} background", " on {a} background", " on {}", ", {} background"))
        return Background(draw_coloured(random, self.side, colour), wording.format(colour, a=add_article(colour)))

    def draw_random_place(self, random: Random) -> Background:
        """Draw a random place as the background."""
        name = random.choice(tuple(PLACES))
        place, picture = PLACES[name], draw_place(name, random, self.side)
        if place.adjective and random.random() < 0.12:
            return Background(picture, "", place.adjective, place.horizon, place.light)
        return Background(picture, f" {random.choice(place.phrases)}", "", place.horizon, place.light)

    def paste(self, draft: Draft, thing: int, canvas: str, place: int, colour: str = "") -> None:
        """Paste a drawing where a sheet has it, in the background's light; things on the ground cast a shadow."""
        draft.plan = (*draft.plan, Placement(thing, canvas, place))
        cell, sprite = self.side / GRID, draft.things[thing]
        corner, size = draft.layout.corners(canvas)[place], CANVASES[canvas].size
        pixels = self.bank.pixels(sprite, draft.style)
        drawing = fit(pixels, (size - 2 * MARGIN) * cell)
        if colour:
            natural = sprite.colours[0] if sprite.colours else ""
            drawing = Image.fromarray(tint(np.asarray(drawing), colour, natural=natural))
        drawing = Image.fromarray(apply_light(np.asarray(drawing), draft.background.light))
        left = round(corner[0] * cell) + (round(size * cell) - drawing.width) // 2
        foot = round((corner[1] + size - MARGIN) * cell)
        picture = draft.background.picture
        if draft.background.horizon is not None and foot > draft.background.horizon * self.side:
            draw_shadow(picture, left + drawing.width / 2, foot, drawing.width / 2)
        picture.paste(drawing, (left, foot - drawing.height), drawing)


def fit(pixels: NDArray[np.uint8], longer_side: float) -> Image.Image:
    """The drawing resized so that its longer side has `longer_side` px."""
    drawing = Image.fromarray(pixels)
    scale = longer_side / max(drawing.size)
    return drawing.resize((max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale))))


def write_caption(draft: Draft, noun: str) -> str:
    """The caption of one thing in front of a background."""
    if draft.background.adjective:
        return add_article(f"{draft.background.adjective} {noun}")
    return with_article(draft.random, noun) + draft.background.suffix


def background_suffix(draft: Draft) -> str:
    """The words that the background adds to a caption of several things."""
    return draft.background.suffix or (f", {draft.background.adjective}" if draft.background.adjective else "")


def in_colour(noun: str, colour: str) -> str:
    """The noun with this colour before it, which replaces a colour that the noun starts with."""
    head, _, rest = noun.partition(" ")
    return f"{colour} {rest if rest and head in (*COLOURS, 'golden') else noun}"


def other_colour(random: Random, sprite: Sprite) -> str:
    """A random colour that the thing does not naturally have."""
    return random.choice([name for name in COLOURS if name not in (*sprite.colours, "gray")])


def apply_light(pixels: NDArray[np.uint8], light: tuple[float, float, float]) -> NDArray[np.uint8]:
    """The drawing in the light of a background."""
    if light == (1.0, 1.0, 1.0):
        return pixels
    return np.asarray(pixels * np.array((*light, 1.0)), dtype=np.uint8)


def draw_shadow(picture: Image.Image, x: float, y: float, half: float) -> None:
    """Darken the picture softly around (x, y), in place; `half` is half the width of the thing in px."""
    rows, columns = np.ogrid[: picture.height, : picture.width]
    unit = picture.height / 128
    depth = 0.32 * np.exp(-(((columns - x) / (0.75 * half)) ** 2) - ((rows - y) / (0.14 * half + unit)) ** 2)
    dark = np.asarray(picture) * (1 - depth[..., None])
    picture.paste(Image.fromarray(dark.astype(np.uint8)))


def open_composer(knobs: Knobs) -> SceneComposer:
    """The composer for these knobs."""
    bank = open_bank(knobs.bank)
    sprites = bank.sprites[: knobs.concepts or None]
    if knobs.held_out:
        sprites = tuple(sprite for row, sprite in enumerate(sprites) if (row + 1) % knobs.held_out)
    return SceneComposer(bank, sprites, knobs.styles, knobs.side)


def write_scenes(knobs: Knobs) -> Path:
    """Draw `knobs.count` scenes into `knobs.out`, as captioned pictures and `sheets.npz`; returns that folder.

    In `sheets.npz`, `things` (count, 4) holds rows of the bank, or -1, and `styles` (count) numbers of its styles.
    `plans` (count, 4, 3) holds for each drawing the numbers of its thing, its canvas and its place there, or -1.
    `shifts` (count, 6, 2) holds how far each canvas is shifted across and down, in cells.
    """
    parts = np.array_split(np.arange(knobs.count), knobs.processes * 8)
    with ProcessPoolExecutor(knobs.processes) as pool:
        results = list(pool.map(partial(draw_scenes, knobs), parts))
    pictures, captions, things, styles, plans, shifts = zip(*results, strict=True)
    CaptionedPictures(np.concatenate(pictures), tuple(sum(captions, []))).save(knobs.out)
    np.savez(
        knobs.out / "sheets.npz",
        bank=str(knobs.bank),
        things=np.concatenate(things),
        styles=np.concatenate(styles),
        plans=np.concatenate(plans),
        shifts=np.concatenate(shifts),
    )
    return knobs.out


def draw_scenes(
    knobs: Knobs, rows: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], list[str], *tuple[NDArray[np.int16], ...]]:
    """Draw the scenes with these numbers, each from its own seed: pictures, captions and the arrays of the sheets."""
    composer = open_composer(knobs)
    row_of = {sprite.key: row for row, sprite in enumerate(composer.bank.sprites)}
    scenes = [composer.draw_scene(Random(knobs.seed * 1_000_003 + int(row))) for row in rows]
    things, plans = (
        np.full((len(scenes), MAX_THINGS), -1, np.int16),
        np.full((len(scenes), MAX_DRAWINGS, 3), -1, np.int16),
    )
    canvases = tuple(CANVASES)
    for row, scene in enumerate(scenes):
        things[row, : len(scene.things)] = [row_of[sprite.key] for sprite in scene.things]
        for number, step in enumerate(scene.plan):
            plans[row, number] = step.thing, canvases.index(step.canvas), step.place
    return (
        np.stack([scene.picture for scene in scenes]),
        [scene.caption for scene in scenes],
        things,
        np.array([composer.bank.styles.index(scene.style) for scene in scenes], np.int16),
        plans,
        np.array([scene.layout.shifts for scene in scenes], np.int16),
    )


if __name__ == "__main__":
    write_scenes(from_arguments(Knobs, __doc__))
