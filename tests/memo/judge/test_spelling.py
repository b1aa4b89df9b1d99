"""Slips of the finger are mended where the other prompt tells what was meant, and nothing else is."""

import pytest

from memo.embed import open_onnx
from memo.judge.factory import open_judge
from memo.judge.spelling import mended, slip
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


@pytest.fixture(scope="module")
def pieces():
    return open_onnx(TEXT).pieces


@pytest.mark.parametrize(
    ("prompt", "other", "meant"),
    [
        ("a yelloow oven", "a photo of a yellow oven", "a yellow oven"),
        ("a ylelow oven", "a yellow oven", "a yellow oven"),
        ("a yellwo oven, a chiken", "a yellow oven, a chicken", "a yellow oven, a chicken"),
        ("a drrawing of a fox", "a fox", "a drawing of a fox"),
        ("a fox painitng", "a painting of a fox, a drawing", "a fox painting"),
        ("a panting fox", "a fox", "a panting fox"),
        ("a cloudlesss sky", "a cloudy sky", "a cloudlesss sky"),
        ("a stork by a lake", "a store by a lake", "a stork by a lake"),
        ("an angel in a church", "an angle in a church", "an angel in a church"),
        ("storks by a lake", "a stork by a lake", "storks by a lake"),
        ("a statue of Lincolln", "a statue of lincoln", "a statue of Lincolln"),
        ('a sign that says "yelloow"', 'a sign that says "yellow"', 'a sign that says "yelloow"'),
        ("a red yelloow oven", "a red oven", "a red yelloow oven"),
        ("a yellow yelloow oven", "a yellow oven", "a yellow yelloow oven"),
        ("zaxonite", "zaxoniite", "zaxonite"),
    ],
)
def test_a_slip_is_mended_where_it_is_known_what_was_meant(pieces, prompt, other, meant):
    assert mended(prompt, other, pieces) == meant


@pytest.mark.parametrize("word", ["yelow", "yelloow", "yellwo", "ylelow"])
def test_a_letter_more_less_or_exchanged_is_a_slip(word):
    assert slip(word, "yellow")


@pytest.mark.parametrize(
    "word", ["yellow", "mellow", "yellows", "yellaw", "yllwo", "ellow", "eyllow", "yleolw", "yeloww"]
)
def test_another_letter_or_more_than_one_is_none(word):
    assert not slip(word, "yellow")


def test_a_misspelt_prompt_is_answered_and_a_misspelt_difference_is_not():
    judge = open_judge("learned", TEXT)
    for remembered, wanted in (
        ("a photo of a yellow oven", "a photo of a yelloow oven"),
        ("two chikens", "2 chickens"),
    ):
        assert judge(wanted, [remembered])[0].fits
    assert not judge("a photo of a yelloow oven", ["a photo of a red oven"])[0].fits
    skyline = "the skyline of New York City"
    assert not judge(f"a drrawing of {skyline}", [skyline])[0].fits
    assert judge.scores([("a yellow oven", "a yelloow oven")])[0] == 1.0
