"""Recipes check their fields, and their keys and texts never change."""

import json
import random
from dataclasses import replace

import pytest

from memo import BadKey, BadRecipe, Recipe, from_mapping, from_text, to_text
from memo.recipe import canonical_bytes, from_canonical, to_canonical

PROMPTS = ["fox", "une forêt d'automne", "狐" * 200, "a\t b\n c", "עברית", "🦊 in the snow", '"quoted" \\ {}']


def make(**values: object) -> Recipe:
    return from_mapping({"prompt": "a red fox in snow", "model": "stickers", "revision": "r1", **values})


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_text_form_is_read_back_as_an_equal_recipe(prompt):
    recipe = make(prompt=prompt, guidance_scale=7, seed=2**53 - 1, steps=3, negative_prompt="blurry")
    assert from_text(to_text(recipe)) == recipe
    assert from_text(to_text(recipe)).key == recipe.key


def test_keys_never_change():
    assert make().key == "e5a67a51f9229548865db7a67676ac9c"
    assert make(seed=7, width=512, sampler="ddim").key == "595b381b0494b359eb220f47e9c0ba56"


def test_the_canonical_bytes_leave_out_defaults():
    assert canonical_bytes(make(steps=20)) == b'{"model":"stickers","prompt":"a red fox in snow","revision":"r1"}'


def test_white_space_and_unicode_forms_do_not_change_the_key():
    assert make(prompt="  a  cafe\u0301 \n").key == make(prompt="a caf\u00e9").key


@pytest.mark.parametrize(
    "change", [{"prompt": "a blue fox in snow"}, {"seed": 1}, {"seed": 0}, {"steps": 21}, {"revision": "r2"}]
)
def test_anything_that_changes_the_picture_changes_the_key(change):
    assert make(**change).key != make().key


def test_a_whole_number_may_be_written_with_a_decimal_point():
    """JSON does not tell 12 from 12.0, and neither do the writers of some clients."""
    assert (
        make(width=512.0, height=512.0, steps=12.0, seed=7.0).key == make(width=512, height=512, steps=12, seed=7).key
    )
    assert make(guidance_scale=-0.0).key == make(guidance_scale=0).key


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), -(10**400), 1e308])
def test_no_number_is_too_large_to_be_refused(value):
    for field in ("width", "steps", "seed", "guidance_scale"):
        with pytest.raises(BadRecipe, match=field):
            make(**{field: value})


@pytest.mark.parametrize("position", [*range(6, 60, 9), -8, -1])
def test_a_mistyped_character_is_noticed(position):
    text = to_text(make(seed=5))
    letters = list(text)
    letters[position] = "a" if letters[position] != "a" else "b"
    with pytest.raises(BadKey):
        from_text("".join(letters))


@pytest.mark.parametrize(
    "text", ["", "x", "memo1.", "memo1.!!!.abcdefgh", "memo2.eNo.aaaa", "memo1.eNo", "memo1.\udcff.a"]
)
def test_a_malformed_recipe_text_is_refused(text):
    with pytest.raises(BadKey):
        from_text(text)


def test_a_recipe_text_that_unpacks_to_megabytes_is_refused():
    import base64
    import zlib

    from memo.recipe import checksum

    packed = base64.urlsafe_b64encode(zlib.compress(b'{"prompt":"' + b"a" * 10_000_000 + b'"}')).decode()
    with pytest.raises(BadKey, match="longer than"):
        from_text(f"memo1.{packed}.{checksum(packed)}")


BAD = [
    ("prompt", ""),
    ("prompt", " \n "),
    ("prompt", "a" * 2001),
    ("prompt", "nul \0 inside"),
    ("prompt", "half \ud83e of a pair"),
    ("prompt", "turned \u202e round"),
    ("prompt", 7),
    ("negative_prompt", None),
    ("negative_prompt", "bell \x07"),
    ("width", 65),
    ("width", 0),
    ("width", 4096),
    ("width", "256"),
    ("width", True),
    ("height", 256.5),
    ("steps", 0),
    ("steps", 151),
    ("steps", 1.5),
    ("guidance_scale", float("nan")),
    ("guidance_scale", -1),
    ("guidance_scale", 31),
    ("guidance_scale", "7"),
    ("sampler", "plms"),
    ("sampler", []),
    ("schedule", "cosine"),
    ("mode", "slow"),
    ("seed", -1),
    ("seed", 2**53),
    ("seed", 1.5),
    ("model", ""),
    ("model", "a\nb"),
    ("revision", 3),
    ("adapter", "x" * 201),
    ("colour", "red"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_refused_with_its_name_value_and_remedy(field, value):
    with pytest.raises(BadRecipe) as caught:
        make(**{field: value})
    error = caught.value
    assert error.field == field
    assert error.value and len(error.value) <= 80 and error.value.isprintable()
    assert error.remedy and error.remedy in str(error)


@pytest.mark.parametrize("field", ["prompt", "model", "revision"])
def test_fields_without_a_default_are_required(field):
    values = {"prompt": "fox", "model": "stickers", "revision": "r1"}
    del values[field]
    with pytest.raises(BadRecipe, match=field):
        from_mapping(values)


def test_the_guidance_scale_is_rounded_to_six_decimals():
    assert make(guidance_scale=7.12345678901).key == make(guidance_scale=7.123457).key


def test_recipes_that_differ_only_in_the_seed_have_the_same_wish():
    assert make(seed=5).wish == make(seed=6).wish == make()
    assert make(seed=5).wish.key != make(seed=5).key


def test_random_recipes_are_read_back_from_json_and_text():
    dice = random.Random(4)
    letters = "abc äöü 狐🦊-,.'\""
    for _ in range(200):
        recipe = make(
            prompt="x" + "".join(dice.choices(letters, k=dice.randrange(50))),
            width=dice.randrange(8, 257) * 8,
            steps=dice.randint(1, 150),
            guidance_scale=round(dice.uniform(0, 30), dice.randint(0, 9)),
            seed=dice.choice([None, dice.randrange(2**53)]),
        )
        assert from_canonical(json.loads(json.dumps(to_canonical(recipe)))) == recipe
        assert from_text(to_text(recipe)) == recipe
        assert replace(recipe) == recipe
