"""Harmless details of a remembered prompt are stripped, and nothing else."""

import pytest

from memo.judge.factory import open_judge
from memo.judge.labelled_pairs import read_pairs
from memo.judge.relaxed import strip_harmless_extras
from tests.real import ROOT

PAIRS = read_pairs(ROOT / "tests" / "memo" / "judge" / "relaxed.jsonl")


@pytest.mark.parametrize(
    ("old", "wanted", "stripped", "extras"),
    [
        (
            "red fox sitting in deep snow at dusk",
            "a fox in snow",
            "fox in snow",
            ["red", "sitting", "deep", "at dusk"],
        ),
        ("a cat, sunset, highly detailed", "a cat", "a cat", ["sunset", "highly detailed"]),
        ("two brown horses in a green meadow", "two horses", "two horses", ["brown", "in a green meadow"]),
        ("a snowy mountain at night", "a mountain with snow", "a snowy mountain", ["at night"]),
        ("a young red panda in a tree", "a panda in a tree", "a red panda in a tree", ["young"]),
        ("a cup on a wooden table", "a cup", "a cup", ["on a wooden table"]),
        ("a black cat walking in snow", "a cat in snow", "a cat in snow", ["black", "walking"]),
    ],
)
def test_harmless_extras_are_stripped_and_named(old, wanted, stripped, extras):
    text, removed = strip_harmless_extras(old, wanted)
    assert text == stripped and sorted(removed) == sorted(extras)


@pytest.mark.parametrize(
    ("old", "wanted"),
    [
        ("a fox and a bear in snow", "a fox in snow"),
        ("a man with a dog", "a man"),
        ("a pencil sketch of a fox", "a fox"),
        ("two foxes", "a fox"),
        ("a purple fox", "a fox"),
        ("a fox without a tail", "a fox"),
        ('a sign that says "by the sea"', "a sign"),
        ("a fox", "a red fox in deep snow"),
        ("", "a fox"),
        ("a red panda in a tree", "a panda in a tree"),
        ("Black Widows on a leaf", "widows on a leaf"),
        ("a glass of orange juice", "a glass of juice"),
        ("grey wolves in snow", "wolves in snow"),
        ("a sleeping bag on the grass", "a bag on the grass"),
        ("running shoes", "shoes"),
        ("a wooden horse in a field", "a horse in a field"),
        ("sweet potatoes on a plate", "potatoes on a plate"),
    ],
)
def test_a_detail_that_would_surprise_stays(old, wanted):
    assert strip_harmless_extras(old, wanted) == (old, [])


def test_stripping_never_leaves_an_empty_prompt():
    text, extras = strip_harmless_extras("in the forest at night", "a fox")
    assert text and "forest" in text


def test_no_surprising_pair_written_by_hand_is_served():
    """Of the 30 pairs that should be served, at least 16 are (13 before words from this list were added)."""
    judge = open_judge("learned", ROOT / "var" / "text")
    served = []
    for pair in PAIRS:
        stripped, extras = strip_harmless_extras(pair.a, pair.b)
        if judge(pair.b, [pair.a])[0].fits or (extras and judge(pair.b, [stripped])[0].fits):
            served.append(pair)
    assert len(PAIRS) == 60 and [pair for pair in served if not pair.y] == []
    assert sum(pair.y for pair in served) >= 16
