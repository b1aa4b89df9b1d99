"""Rare words must be in both prompts."""

from dataclasses import replace

import pytest

from memo.judge.factory import SHIPPED
from memo.judge.learned import open_learned
from memo.judge.unknown_words import find_rare_word_conflict
from memo.onnx_embedder import open_onnx
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


@pytest.fixture(scope="module")
def count_tokens():
    return open_onnx(TEXT).count_tokens


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("clamberjaw machine, concept art", "bristleback machine, concept art", "does not mention 'bristleback'"),
        ("a portrait by ilya kuvshinov", "a portrait", "mentions 'kuvshinov'"),
        ("a photograph of a cat", "hfnchvgnghfbdjvuiiiuutewruirvhd", "does not mention"),
    ],
)
def test_a_rare_word_in_only_one_prompt_is_a_conflict(count_tokens, old, new, expected):
    assert expected in (find_rare_word_conflict(old, new, count_tokens) or "")
    assert find_rare_word_conflict(new, old, count_tokens)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a red fox in the snow", "a blue fox in a forest"),
        ("clamberjaw machine", "a machine, clamberjaw"),
        ("a skateboarder in the air", "a skatebaorder in the air"),
        ("a motorcyclist", "the motorcyclists"),
        ("a beekeeper's outfit", "an outfit of beekeepers"),
        ("", "a fox"),
        ("birds gathered by a pond", "birds have congregated by a pond"),
    ],
)
def test_known_words_typos_and_shared_words_are_left_to_the_networks(count_tokens, old, new):
    assert find_rare_word_conflict(old, new, count_tokens) is None


def test_a_rare_word_is_a_veto_if_the_card_does_not_weigh_it():
    judge = open_learned(SHIPPED, open_onnx(TEXT))
    judge.card = replace(judge.card, hints={})
    [verdict] = judge("bristleback machine", ["clamberjaw machine"])
    assert not verdict.fits and verdict.confidence == 0.0 and "does not mention 'bristleback'" in verdict.reason
    assert judge.scores([("clamberjaw machine", "bristleback machine")])[0] < 0.011
