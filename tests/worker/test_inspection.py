"""A flat colour is no picture, unless the prompt or the initial picture explains it."""

import random

import pytest
from PIL import Image

from worker.inspection import BlankPicture, asks_for_flat, check_picture, is_flat

FLAT_PROMPTS = [
    "plain white background",
    "solid black",
    "an all-black square",
    "Black",
    "a very dark blue",
    "a blank canvas",
    "an empty sky",
    "uniform grey texture",
    "nothing",
    "thick fog",
    "a photo of a clear blue sky, high quality, 4k",
    "",
]
OTHER_PROMPTS = [
    "a red fox",
    "a red fox in the snow",
    "a fox on a plain white background",
    "a black cat",
    "un renard",
    "ein Fuchs im Wald",
    "ein schwarzer Hund",
    "狐狸",
]


@pytest.mark.parametrize("prompt", FLAT_PROMPTS)
def test_a_prompt_may_ask_for_a_flat_colour(prompt):
    assert asks_for_flat(prompt)


@pytest.mark.parametrize("prompt", OTHER_PROMPTS)
def test_other_prompts_do_not_ask_for_a_flat_colour(prompt):
    assert not asks_for_flat(prompt)


def test_the_error_names_the_model_the_colour_and_the_fix(recipe):
    with pytest.raises(BlankPicture, match="stickers painted nothing but the colour #000000.* try another seed"):
        check_picture(Image.new("RGB", (64, 64)), recipe)


def test_a_flat_initial_picture_may_stay_flat(recipe):
    grey = Image.new("RGB", (64, 64), "#808080")
    check_picture(grey, recipe, grey.convert("L"))
    with pytest.raises(BlankPicture):
        check_picture(grey, recipe, Image.linear_gradient("L"))


def test_a_nearly_flat_picture_counts_as_flat_and_a_faint_one_does_not():
    draw = random.Random(1)
    picture = Image.new("L", (64, 64))
    picture.putdata([100 + draw.randrange(3) for _ in range(64 * 64)])
    assert is_flat(picture)
    picture.putpixel((5, 5), 110)
    assert not is_flat(picture)
