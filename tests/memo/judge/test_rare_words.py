"""Words that the text model does not know whole must be in both prompts."""

import pytest

from memo.embed import open_onnx
from memo.judge.factory import SHIPPED
from memo.judge.learned import open_learned
from memo.judge.rare_words import missing
from tests.real import ROOT

TEXT = ROOT / "var" / "text"


@pytest.fixture(scope="module")
def pieces():
    return open_onnx(TEXT).pieces


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("clamberjaw machine, concept art", "bristleback machine, concept art", "'bristleback' is asked for"),
        ("a portrait by ilya kuvshinov", "a portrait", "it shows 'kuvshinov'"),
        ("a photograph of a cat", "hfnchvgnghfbdjvuiiiuutewruirvhd", "is asked for"),
    ],
)
def test_another_strange_word_is_another_picture(pieces, old, new, says):
    assert says in (missing(old, new, pieces) or "")
    assert missing(new, old, pieces)


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
def test_known_words_typos_and_what_is_in_both_are_left_to_the_networks(pieces, old, new):
    assert missing(old, new, pieces) is None


def test_the_learned_judge_asks_no_network_then():
    judge = open_learned(SHIPPED, open_onnx(TEXT))
    [verdict] = judge("bristleback machine", ["clamberjaw machine"])
    assert not verdict.fits and verdict.confidence == 0.0 and "'bristleback' is asked for" in verdict.reason
    assert judge.scores([("clamberjaw machine", "bristleback machine")])[0] < 0.011
