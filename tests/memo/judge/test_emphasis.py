"""Brackets and weights that only stress words do not make another prompt."""

import pytest

from memo.judge.rules import decide_by_rules
from memo.judge.words import same_words, without_emphasis

FOX = "a red fox in the snow"


@pytest.mark.parametrize(
    "prompt",
    [
        "(red fox:1.2) in the snow",
        "(a red fox) in the snow",
        "((a red fox)) in the snow",
        "((a red fox:1.3)) in the (snow: 0.8)",
        "a [red] fox in the [[snow]]",
        "a {red} fox in {{the snow}}",
        "a [(red fox:1.1)] in the snow",
        "(a (red fox:1.4) in the snow:1.1)",
    ],
)
def test_stressed_words_are_the_same_words(prompt):
    assert same_words(FOX, prompt) and same_words(prompt, FOX)
    assert decide_by_rules(FOX, prompt).fits and decide_by_rules(prompt, FOX).fits


@pytest.mark.parametrize(
    "prompt",
    [
        "a (red fox:0.1) in the snow",
        "a (red fox:0) in the snow",
        "a [red:blue:0.5] fox in the snow",
        "a [red|blue] fox in the snow",
        "a {red|blue} fox in the snow",
        "a (blue fox:1.2) in the snow",
        "two (red foxes:1.2) in the snow",
    ],
)
def test_weights_that_hide_words_and_words_that_take_turns_are_no_emphasis(prompt):
    verdict = decide_by_rules(FOX, prompt)
    assert verdict is None or not verdict.fits


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("a fox \\(animal\\), \\[x\\]", "a fox (animal), [x]"),
        ("a clock (16:9), f(x) = 2", "a clock (16:9), f(x) = 2"),
        ("a fox:1.2", "a fox:1.2"),
        ("([" * 20 + "fox" + "])" * 20, "(" * 20 + "fox" + ")" * 20),
    ],
)
def test_other_brackets_stay(prompt, plain):
    assert without_emphasis(prompt) == plain


def test_a_picture_is_remembered_for_stressed_words(memory, remember, recipe):
    from dataclasses import replace

    kept = remember(recipe)
    answer = memory.recall(replace(recipe, prompt="(red fox:1.2) in the snow", seed=None))
    assert answer.match and answer.match.picture == kept
