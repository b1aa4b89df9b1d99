"""Backgrounds: plain, coloured, and twelve places, drawn at random.

A draw function takes (random generator, side in px) and returns an RGB picture.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (222, 40, 45),
    "orange": (247, 140, 30),
    "yellow": (250, 212, 50),
    "green": (70, 170, 70),
    "blue": (45, 110, 225),
    "purple": (140, 70, 200),
    "pink": (245, 130, 180),
    "brown": (135, 85, 50),
    "black": (30, 30, 34),
    "white": (246, 246, 248),
    "gray": (150, 150, 155),
}
OVERSAMPLING = 2  # places are drawn larger and reduced, because shapes drawn by PIL have hard edges


@dataclass(frozen=True)
class Place:
    """A place: words for it, how to draw it, and its light.

    `phrases` go after a caption, `adjective` goes before the name of a thing. Things stand on `horizon` (0 top,
    1 bottom; None: they float); `light` multiplies their RGB.
    """

    phrases: tuple[str, ...]
    draw: Callable[[Random, int], Image.Image]
    horizon: float | None = None
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    adjective: str = ""


def draw_plain(random: Random, side: int) -> Image.Image:
    """A pastel gradient of any hue, for captions without a background."""
    hue = random.random()
    top = rgb(hue, 0.08 + 0.1 * random.random(), 1.0)
    bottom = rgb(hue + 0.07, 0.2 + 0.12 * random.random(), 0.97)
    return gradient(side, top, bottom)


def draw_coloured(random: Random, side: int, colour: str) -> Image.Image:
    """A background of a named colour, slightly lighter at the top."""
    red, green, blue = COLOURS[colour]
    strength = 0.97 + 0.06 * random.random()
    top = (
        clip(red * 1.06 * strength + 8),
        clip(green * 1.06 * strength + 8),
        clip(blue * 1.06 * strength + 8),
    )
    return gradient(side, top, (clip(red * 0.92), clip(green * 0.92), clip(blue * 0.92)))


def grass(random: Random, side: int) -> Image.Image:
    """A meadow under a blue sky."""
    return ground(random, side, sky=((120, 195, 250), (215, 240, 255)), earth=((124, 204, 92), (66, 150, 58)))


def beach(random: Random, side: int) -> Image.Image:
    """Sand before the sea."""
    picture = ground(random, side, sky=((110, 200, 252), (215, 243, 255)), earth=((247, 228, 172), (232, 204, 140)))
    ImageDraw.Draw(picture).rectangle((0, 0.5 * side, side, 0.6 * side), fill=(56, 150, 214))
    return picture


def snow(random: Random, side: int) -> Image.Image:
    """Snowy ground, pale sky, flakes."""
    picture = ground(random, side, sky=((150, 186, 226), (214, 228, 244)), earth=((252, 253, 255), (222, 232, 247)))
    return dots(random, picture, count=34, radius=(0.005, 0.011), colour=(255, 255, 255))


def night(random: Random, side: int) -> Image.Image:
    """Stars and a moon over dark ground."""
    picture = ground(random, side, sky=((10, 14, 46), (48, 54, 120)), earth=((30, 58, 66), (16, 34, 44)))
    dots(random, picture, count=30, radius=(0.003, 0.007), colour=(255, 250, 215), lowest=0.6)
    x, y, r = side * random.choice((0.13, 0.87)), side * 0.14, side * 0.065
    ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=(255, 244, 190))
    return picture


def space(random: Random, side: int) -> Image.Image:
    """Stars on dark violet."""
    picture = gradient(side, (8, 6, 26), (44, 16, 74))
    return dots(random, picture, count=52, radius=(0.003, 0.008), colour=(250, 246, 235))


def sunset(random: Random, side: int) -> Image.Image:
    """A half sun under an orange sky."""
    picture = gradient(side, (238, 92, 92), (255, 208, 122))
    x, y, r = side * (0.2 + 0.6 * random.random()), side * 0.62, side * 0.12
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 240, 172))
    pen.rectangle((0, y, side, side), fill=(96, 52, 84))
    return picture


def under_water(random: Random, side: int) -> Image.Image:
    """Bubbles in blue water that is darker at the bottom."""
    picture = gradient(side, (92, 204, 236), (10, 72, 152))
    pen = ImageDraw.Draw(picture)
    for _ in range(11):
        x, y, r = random.random() * side, random.random() * side, side * (0.008 + 0.016 * random.random())
        pen.ellipse((x - r, y - r, x + r, y + r), outline=(205, 242, 255), width=max(1, side // 128))
    return picture


def desert(random: Random, side: int) -> Image.Image:
    """Sand under a hot sky."""
    return ground(random, side, sky=((248, 196, 120), (255, 236, 196)), earth=((238, 188, 104), (204, 146, 76)))


def rain(random: Random, side: int) -> Image.Image:
    """Slanting lines on a grey sky."""
    picture = gradient(side, (100, 114, 136), (162, 175, 190))
    pen = ImageDraw.Draw(picture)
    for _ in range(40):
        x, y = random.random() * side, random.random() * side
        pen.line((x, y, x - 0.02 * side, y + 0.06 * side), fill=(208, 222, 236), width=max(1, side // 128))
    return picture


def sky(random: Random, side: int) -> Image.Image:
    """Small clouds in a blue sky."""
    picture = gradient(side, (92, 172, 245), (205, 233, 255))
    for _ in range(4):
        draw_cloud(picture, random.random() * side, random.random() * side, side * (0.07 + 0.07 * random.random()))
    return picture


def forest(random: Random, side: int) -> Image.Image:
    """A row of firs behind a clearing."""
    picture = ground(random, side, sky=((176, 224, 198), (218, 242, 216)), earth=((104, 166, 80), (66, 124, 56)))
    for step in range(7):
        draw_fir(random, picture, side * (step / 6 + 0.06 * (random.random() - 0.5)))
    return picture


def city(random: Random, side: int) -> Image.Image:
    """Houses with lit windows behind a street."""
    picture = gradient(side, (160, 204, 242), (236, 242, 250))
    left = -0.05 * side * random.random()
    while left < side:
        width = side * (0.1 + 0.08 * random.random())
        draw_tower(random, picture, left, width)
        left += width + 0.008 * side
    ImageDraw.Draw(picture).rectangle((0, 0.72 * side, side, side), fill=(98, 101, 110))
    return picture


NIGHT = (0.8, 0.82, 0.97)
PLACES: dict[str, Place] = {
    "grass": Place(("on the grass", "in a field", "on a meadow", "on a green hill"), grass, horizon=0.66),
    "beach": Place(("on the beach", "at the beach", "by the sea"), beach, horizon=0.66),
    "snow": Place(("in the snow", "on a snowy day", "in winter"), snow, horizon=0.66, adjective="snowy"),
    "night": Place(("at night", "under the stars", "in the moonlight"), night, horizon=0.66, light=NIGHT),
    "space": Place(("in space", "among the stars", "in outer space"), space),
    "sunset": Place(("at sunset", "at dusk", "in the evening sun"), sunset, horizon=0.66, light=(1, 0.93, 0.88)),
    "sea": Place(("under water", "in the ocean", "in the sea"), under_water, light=(0.86, 0.96, 1)),
    "desert": Place(("in the desert", "in the sand", "on a dune"), desert, horizon=0.66),
    "rain": Place(("in the rain", "on a rainy day"), rain, light=(0.93, 0.95, 1), adjective="rainy"),
    "sky": Place(("in the sky", "in the clouds"), sky),
    "forest": Place(("in a forest", "in the woods", "in the forest"), forest, horizon=0.66),
    "city": Place(("in the city", "in a city", "on a street"), city, horizon=0.72),
}


def draw_place(name: str, random: Random, side: int) -> Image.Image:
    """Draw the place, `side` px square."""
    return PLACES[name].draw(random, side * OVERSAMPLING).resize((side, side), Image.Resampling.BOX)


def gradient(side: int, top: RGB, bottom: RGB) -> Image.Image:
    """A picture that fades from one colour at the top to another at the bottom."""
    rows: NDArray[np.float64] = np.linspace(top, bottom, side)
    return Image.fromarray(np.repeat(rows.round().astype(np.uint8)[:, None], side, axis=1))


def ground(random: Random, side: int, *, sky: tuple[RGB, RGB], earth: tuple[RGB, RGB]) -> Image.Image:
    """Sky above gently curved earth."""
    picture = gradient(side, *sky)
    mask = Image.new("L", (side, side))
    level, bend = side * (0.57 + 0.06 * random.random()), side * 0.04 * (random.random() - 0.5)
    edge = [(x, level + bend * np.cos(3.1 * x / side)) for x in range(0, side + 1, 4)]
    ImageDraw.Draw(mask).polygon([(0, side), *edge, (side, side)], fill=255)
    picture.paste(gradient(side, *earth), (0, 0), mask)
    return picture


def dots(
    random: Random,
    picture: Image.Image,
    *,
    count: int,
    radius: tuple[float, float],
    colour: RGB,
    lowest: float = 1.0,
) -> Image.Image:
    """Draw stars or snowflakes between the top and `lowest`; `lowest` and the radii are fractions of the side."""
    pen, side = ImageDraw.Draw(picture), picture.width
    for _ in range(count):
        x, y, r = random.random() * side, random.random() * side * lowest, random.uniform(*radius) * side
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    return picture


def draw_cloud(picture: Image.Image, x: float, y: float, size: float) -> None:
    """Draw a small white cloud."""
    pen = ImageDraw.Draw(picture)
    for right, down, part in ((-0.9, 0.1, 0.55), (0, -0.2, 0.8), (0.9, 0.1, 0.55), (0, 0.25, 0.6)):
        cx, cy, r = x + right * size, y + down * size, part * size
        pen.ellipse((cx - r, cy - 0.8 * r, cx + r, cy + 0.8 * r), fill=(255, 255, 255))


def draw_fir(random: Random, picture: Image.Image, x: float) -> None:
    """Draw a fir of three tiers at the horizon."""
    pen, side = ImageDraw.Draw(picture), picture.width
    height, half, foot = side * (0.36 + 0.14 * random.random()), side * 0.09, side * 0.66
    leaf = (34 + random.randrange(24), 108 + random.randrange(28), 62)
    pen.rectangle((x - 0.012 * side, foot - 0.06 * side, x + 0.012 * side, foot), fill=(105, 70, 45))
    for storey in range(3):
        base, reach = foot - 0.04 * side - 0.25 * height * storey, half * (1 - 0.22 * storey)
        pen.polygon([(x - reach, base), (x + reach, base), (x, base - 0.45 * height)], fill=leaf)


def draw_tower(random: Random, picture: Image.Image, left: float, width: float) -> None:
    """Draw a high-rise with lit windows."""
    pen, side = ImageDraw.Draw(picture), picture.width
    foot, shade = 0.73 * side, 118 + random.randrange(50)
    top = foot - side * (0.24 + 0.34 * random.random())
    pen.rectangle((left, top, left + width, foot), fill=(shade - 14, shade, shade + 20))
    for y in np.arange(top + 0.03 * side, foot - 0.05 * side, 0.055 * side):
        for x in np.arange(left + 0.02 * side, left + width - 0.03 * side, 0.04 * side):
            pen.rectangle((x, y, x + 0.017 * side, y + 0.025 * side), fill=(250, 235, 165))


def rgb(hue: float, saturation: float, value: float) -> RGB:
    """RGB bytes of an HSV colour; the hue wraps at 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return clip(255 * red), clip(255 * green), clip(255 * blue)


def clip(value: float) -> int:
    """Round to the nearest byte, 0 to 255."""
    return max(0, min(255, round(value)))
