"""Edits of human-written prompts: their results on known texts, and the texts they refuse."""

from random import Random

import pytest

from training.judge import edits
from training.judge.grammar import NothingToEdit


def apply_edit(edit, text, count=60):
    """Apply an edit with `count` seeds; returns the different results."""
    texts = set()
    for seed in range(count):
        try:
            texts.add(edit(Random(seed), text))
        except NothingToEdit:
            continue
    return texts


@pytest.mark.parametrize(
    ("edit", "text", "expected"),
    [
        (edits.move_place_to_front, "a dog sleeping in the park", {"in the park, a dog sleeping"}),
        (edits.change_verb_form, "a man is riding a horse", {"a man riding a horse"}),
        (edits.reverse_order, "a red car and a blue bus", {"a blue bus and a red car"}),
        (
            edits.reverse_order,
            "a cat to the left of a box",
            {"a box " + way + " a cat" for way in edits.RELATIONS["right of"]},
        ),
        (edits.reword_style, "a sketch of a train", set()),
        (edits.reword_style, "pixel art of a train", {"a train, pixel art", "a train in pixel art style"}),
        (
            edits.swap_words,
            "a red car near a blue bus",
            {"a blue car near a red bus", "a red bus near a blue car"},
        ),
        (edits.swap_words, "a cat and a dog", set()),
        (edits.swap_phrases, "a man bites a dog", {"a dog bites a man"}),
        (edits.swap_phrases, "a man next to a dog", set()),
        (edits.negate, "a man with a hat", {"a man without a hat"}),
        (edits.negate, "a man", set()),
        (edits.change_number, "a cat in 4k", set()),
        (edits.add_style, "an oil painting of a cat", set()),
        (edits.drop_detail, "a small red car", {"a small car"}),
        (edits.shuffle_tags, "a cat, red, 4k, sharp", None),
    ],
)
def test_an_edit_gives_the_expected_texts(edit, text, expected):
    texts = apply_edit(edit, text)
    if expected is None:
        assert texts and text not in texts
    else:
        assert texts == expected


def test_an_article_agrees_with_the_new_word_after_it():
    assert "an orange car" in apply_edit(edits.OTHER_PICTURE["colour"], "a red car")
    assert not any("a orange" in text for text in apply_edit(edits.OTHER_PICTURE["colour"], "a red car"))


def test_a_word_is_never_replaced_by_one_that_may_mean_the_same():
    assert not apply_edit(edits.OTHER_PICTURE["thing"], "a boy") & {"a child", "a kid", "a little boy"}
    assert not apply_edit(edits.OTHER_PICTURE["place"], "a cat in the snow") & {"a cat in winter", "a cat in snow"}


def test_numbers_change_and_stay_numbers():
    assert apply_edit(edits.change_number, "two dogs") <= {f"{word} dogs" for word in edits.NUMBER_WORDS[3:]} | {
        "eight dogs"
    }
    assert apply_edit(edits.change_number, "3 dogs") == {f"{number} dogs" for number in (2, 4, 5, 6, 7, 8)}


def test_a_second_harmless_edit_keeps_the_label_of_the_first():
    kinds = {
        (pair.kind in edits.SAME_PICTURE, pair.y)
        for seed in range(200)
        if (pair := edits.make_twice_edited_pair(Random(seed), "two red dogs in the park"))
    }
    assert kinds == {(True, 1), (False, 0)}
