"""The strict judge: nearly the same embedding and the same content words, or it is a miss."""

import pytest

from memo import BadSetup
from memo.judge import NEAR, StrictJudge, open_judge

judge = StrictJudge()


@pytest.mark.parametrize(
    ("remembered", "wanted"),
    [
        ("a red fox in the snow", "A red fox in snow"),
        ("a red fox in the snow", "red fox, in the snow, please"),
        ("the dog's ball", "dog's ball"),
    ],
)
def test_the_same_content_words_fit(remembered, wanted):
    assert judge(remembered, wanted, 0.99).fits


@pytest.mark.parametrize(
    ("remembered", "wanted", "says"),
    [
        ("a red fox in the snow", "a blue fox in the snow", "'blue'"),
        ("three dogs", "two dogs", "'two'"),
        ("a dog chases a cat", "a cat chases a dog", "order"),
        ("a cat on a mat", "a cat under a mat", "'under'"),
        ("a cat", "a cat and a dog", "'dog'"),
        ("a cat with a hat", "a cat", "missing"),
        ("a train", "a sketch of a train", "'sketch'"),
        ("a room with no chairs", "a room with chairs", "'no'"),
    ],
)
def test_other_content_words_do_not_fit_however_near(remembered, wanted, says):
    verdict = judge(remembered, wanted, 1.0)
    assert not verdict.fits and says in verdict.reason


def test_the_threshold_is_where_it_says():
    assert judge("a fox", "fox", NEAR).fits
    assert not judge("a fox", "fox", NEAR - 0.001).fits


def test_there_is_no_other_judge_yet():
    assert isinstance(open_judge("strict"), StrictJudge)
    with pytest.raises(BadSetup, match="strict"):
        open_judge("lenient")
