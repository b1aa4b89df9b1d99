from random import Random

import pytest

from worker.train.words import FRAMES, counted, framed, indefinite, plural


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("fox", "foxes"),
        ("puppy", "puppies"),
        ("fish", "fish"),
        ("tropical fish", "tropical fish"),
        ("mouse", "mice"),
        ("snowman", "snowmen"),
        ("bus", "buses"),
        ("key", "keys"),
        ("cup of coffee", "cups of coffee"),
        ("slice of pizza", "slices of pizza"),
    ],
)
def test_plurals_are_english(one, many):
    assert plural(one) == many


def test_articles_are_english():
    assert [indefinite(noun) for noun in ("owl", "fox", "unicorn")] == ["an owl", "a fox", "a unicorn"]


def test_a_count_is_said_in_words_or_digits():
    assert {counted(Random(seed), 3, "fox") for seed in range(20)} == {"three foxes", "3 foxes"}


def test_a_frame_keeps_the_caption_readable():
    frames = {framed(Random(seed), "a red fox") for seed in range(300)}
    assert len(frames) == len(FRAMES)
    assert "a cute red fox" in frames
    assert not any("a a" in frame or "{" in frame for frame in frames)
