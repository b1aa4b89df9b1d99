"""Misspelt names."""

import pytest

from worker.stickers.spelling import edit_distance, find_misspelt_name

NAMES = ("fox", "cat", "kitten", "elephant", "poodle", "bone", "shark", "squirrel", "bicycle", "penguin", "station")
WORDS = frozenset("sharp elegant".split())


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("kiten", "kitten"),
        ("elefant", "elephant"),
        ("pengiun", "penguin"),
        ("bycicle", "bicycle"),
        ("squirel", "squirrel"),
        ("sharp", ""),  # another word
        ("sharped", ""),  # a form of another word
        ("doodle", ""),  # the first letter differs
        ("artstation", ""),
        ("elegant", ""),
        ("elegance", ""),  # three letters differ
        ("blone", ""),  # short names must be spelled right but for one letter
        ("cta", ""),
    ],
)
def test_plain_misspellings_of_names_are_corrected(word, name):
    assert find_misspelt_name(word, NAMES, WORDS.__contains__) == name


def test_a_word_between_two_names_is_neither():
    assert find_misspelt_name("staren", ("starer", "stares"), WORDS.__contains__) == ""


@pytest.mark.parametrize(
    ("first", "second", "distance"), [("", "", 0), ("ab", "ba", 1), ("abc", "", 3), ("elefant", "elephant", 2)]
)
def test_the_edit_distance_counts_letters(first, second, distance):
    assert edit_distance(first, second) == distance
