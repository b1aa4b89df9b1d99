"""Checks a painted picture before it is kept: one flat colour does not count, unless the prompt asks for it.

Overflowed numbers become black pixels, and services send a black picture in place of one that they refuse. Knows
pictures and prompts; no models.
"""

import re

from PIL import Image, ImageStat

from memo import MemoError, Recipe
from memo.judge.english import COLOURS, INVISIBLE_WORDS, PHRASE_FILLERS, PREPOSITIONS

FLAT = 2  # levels of 255 between the darkest and the brightest pixel of a flat colour: JPEG files are not exact
WORD = re.compile(r"[^\W\d_]+")
PLAIN_WORDS = frozenset(  # a prompt of only these words, and words that name no thing, may ask for a single colour
    """plain solid blank empty flat uniform pure monochrome smooth clear nothing void background backdrop wallpaper
    canvas colour color coloured colored swatch texture surface paper screen square rectangle wall sky fog mist snow
    night dark darkness light bright pale deep thick dense overcast minimal minimalist minimalistic minimalism
    picture image photo photograph illustration painting just only all of completely entirely whole full k
    hd""".split()
)
WITHOUT_THINGS = PLAIN_WORDS | COLOURS.keys() | INVISIBLE_WORDS | PREPOSITIONS | PHRASE_FILLERS


class BlankPicture(MemoError):
    """The painted picture is one flat colour, which the prompt does not ask for."""


def check_picture(image: Image.Image, recipe: Recipe, init_image: Image.Image | None = None) -> None:
    """Raise BlankPicture for a flat colour, unless the prompt asks for it or the initial picture was flat, too."""
    if not is_flat(image) or asks_for_flat(recipe.prompt) or (init_image is not None and is_flat(init_image)):
        return
    colour = "#" + image.convert("RGB").crop((0, 0, 1, 1)).tobytes().hex()
    raise BlankPicture(
        f"{recipe.model} painted nothing but the colour {colour}: it may have refused the prompt, or its numbers"
        f" overflowed; try another seed or prompt, or ask for a plain {colour} background if you want one"
    )


def is_flat(image: Image.Image) -> bool:
    """Whether all pixels have the same colour."""
    return all(high - low <= FLAT for low, high in ImageStat.Stat(image.convert("RGB")).extrema)


def asks_for_flat(prompt: str) -> bool:
    """Whether a flat colour may be what the prompt asks for: "plain white background", "black"."""
    return WITHOUT_THINGS.issuperset(WORD.findall(prompt.lower()))
