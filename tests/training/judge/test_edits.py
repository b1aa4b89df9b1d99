"""Edits of prompts that people wrote: what they make of known texts, and what they refuse."""

from random import Random

import pytest

from training.judge import edits
from training.judge.grammar import NotHere


def made(edit, text, count=60):
    """All that chance makes of a text."""
    found = set()
    for seed in range(count):
        try:
            found.add(edit(Random(seed), text))
        except NotHere:
            continue
    return found


@pytest.mark.parametrize(
    ("edit", "text", "expected"),
    [
        (edits.fronted, "a dog sleeping in the park", {"in the park, a dog sleeping"}),
        (edits.verbal, "a man is riding a horse", {"a man riding a horse"}),
        (edits.turned_round, "a red car and a blue bus", {"a blue bus and a red car"}),
        (
            edits.turned_round,
            "a cat to the left of a box",
            {"a box " + way + " a cat" for way in edits.RELATIONS["right of"]},
        ),
        (edits.restyled, "a sketch of a train", set()),
        (edits.restyled, "pixel art of a train", {"a train, pixel art", "a train in pixel art style"}),
        (
            edits.swapped_words,
            "a red car near a blue bus",
            {"a blue car near a red bus", "a red bus near a blue car"},
        ),
        (edits.swapped_words, "a cat and a dog", set()),
        (edits.swapped_phrases, "a man bites a dog", {"a dog bites a man"}),
        (edits.swapped_phrases, "a man next to a dog", set()),
        (edits.negated, "a man with a hat", {"a man without a hat"}),
        (edits.negated, "a man", set()),
        (edits.recounted, "a cat in 4k", set()),
        (edits.restyle, "an oil painting of a cat", set()),
        (edits.shortened, "a small red car", {"a small car"}),
        (edits.shuffled_tags, "a cat, red, 4k, sharp", None),
    ],
)
def test_an_edit_makes_what_it_says(edit, text, expected):
    found = made(edit, text)
    if expected is None:
        assert found and text not in found
    else:
        assert found == expected


def test_an_article_follows_the_word_behind_it():
    assert "an orange car" in made(edits.OTHER_PICTURE["colour"], "a red car")
    assert not any("a orange" in text for text in made(edits.OTHER_PICTURE["colour"], "a red car"))


def test_a_word_is_never_exchanged_for_one_that_may_mean_the_same():
    assert not made(edits.OTHER_PICTURE["thing"], "a boy") & {"a child", "a kid", "a little boy"}
    assert not made(edits.OTHER_PICTURE["place"], "a cat in the snow") & {"a cat in winter", "a cat in snow"}


def test_numbers_change_and_stay_numbers():
    assert made(edits.recounted, "two dogs") <= {f"{word} dogs" for word in edits.WORDED[3:]} | {"eight dogs"}
    assert made(edits.recounted, "3 dogs") == {f"{number} dogs" for number in (2, 4, 5, 6, 7, 8)}


def test_two_edits_on_top_keep_the_label_of_the_first():
    kinds = {
        (pair.kind in edits.SAME_PICTURE, pair.y)
        for seed in range(200)
        if (pair := edits.twice(Random(seed), "two red dogs in the park"))
    }
    assert kinds == {(True, 1), (False, 0)}
