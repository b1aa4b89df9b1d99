"""Typos are corrected where the other prompt shows what was meant, and nothing else is."""

import pytest

from memo.judge.factory import open_judge
from memo.judge.unknown_words import correct_typos, is_typo
from memo.judge.words import spell_numbers
from memo.onnx_embedder import open_onnx
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


@pytest.fixture(scope="module")
def count_tokens():
    return open_onnx(TEXT).count_tokens


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
def test_a_typo_is_corrected_where_the_other_prompt_shows_what_was_meant(count_tokens, prompt, other, meant):
    assert correct_typos(prompt, other, count_tokens) == meant


@pytest.mark.parametrize("word", ["yelow", "yelloow", "yellwo", "ylelow"])
def test_an_extra_missing_or_swapped_letter_is_a_typo(word):
    assert is_typo(word, "yellow")


@pytest.mark.parametrize(
    "word", ["yellow", "mellow", "yellows", "yellaw", "yllwo", "ellow", "eyllow", "yleolw", "yeloww"]
)
def test_a_different_letter_or_more_than_one_change_is_not_a_typo(word):
    assert not is_typo(word, "yellow")


def test_a_typo_neither_prevents_an_answer_nor_hides_a_difference():
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


@pytest.mark.parametrize(
    ("prompt", "other", "spelled"),
    [
        ("2 dogs and 3 cats", "two dogs and 3 cats", "two dogs and 3 cats"),
        ("2 dogs", "a couple of dogs", "2 dogs"),
        ("12 eggs, f/2.8, 16:9, 2-3 spoons", "twelve eggs, two spoons", "twelve eggs, f/2.8, 16:9, 2-3 spoons"),
        ('a sign "2 for 1"', 'a sign "two for 1"', 'a sign "2 for 1"'),
    ],
)
def test_a_number_is_written_as_in_the_other_prompt(prompt, other, spelled):
    assert spell_numbers(prompt, other) == spelled
