"""Recipes and pictures written by earlier versions keep their keys and stay readable."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from memo import Picture, Recipe, from_text, read_png, to_text
from memo.recipe import canonical_bytes
from memo.webp import read_webp

HERE = Path(__file__).parent
RECIPES = json.loads((HERE / "old_recipes.json").read_text(encoding="utf-8"))
PICTURES = [  # row of old_recipes.json, scope
    (1, "shared"),
    (2, "alice.0123456789abcdef"),
    (14, "shared"),
    (9, "shared"),
]


@pytest.mark.parametrize("row", range(len(RECIPES)))
def test_an_old_recipe_keeps_its_key_and_its_texts(row):
    old = RECIPES[row]
    recipe = Recipe(**old["recipe"])
    assert asdict(recipe) == old["recipe"]
    assert recipe.key == old["key"]
    assert canonical_bytes(recipe).decode() == old["canonical"]
    assert to_text(recipe) == old["text"] and from_text(old["text"]) == recipe


def old_picture(number: int) -> Picture:
    """The picture that an earlier version wrote as old_pictures/picture-NUMBER."""
    row, scope = PICTURES[number]
    recipe = Recipe(**RECIPES[row]["recipe"])
    record = {"created": 1700000000.123456 + number, "seconds": 1.5, "device": "cpu float32", "joules": 12.345}
    return Picture(recipe=recipe, scope=scope, metered=bool(number % 2), **record)


@pytest.mark.parametrize("number", range(len(PICTURES)))
def test_an_old_png_is_still_read(number):
    assert read_png((HERE / "old_pictures" / f"picture-{number}.png").read_bytes()) == old_picture(number)


@pytest.mark.parametrize("number", range(len(PICTURES)))
def test_an_old_webp_is_still_read_without_its_scope(number):
    picture = read_webp((HERE / "old_pictures" / f"picture-{number}.webp").read_bytes())
    expected = asdict(old_picture(number)) | {"scope": "shared"}
    assert asdict(picture) == expected
