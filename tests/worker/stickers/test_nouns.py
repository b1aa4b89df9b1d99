"""Plurals, articles and countable nouns."""

import pytest

from worker.stickers.nouns import add_article, is_countable, plural


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("fox", "foxes"),
        ("puppy", "puppies"),
        ("monkey", "monkeys"),
        ("tropical fish", "tropical fish"),
        ("mouse", "mice"),
        ("snowman", "snowmen"),
        ("wolf", "wolves"),
        ("tomato", "tomatoes"),
        ("piano", "pianos"),
        ("chef", "chefs"),
        ("bus", "buses"),
        ("key", "keys"),
        ("cup of coffee", "cups of coffee"),
        ("slice of pizza", "slices of pizza"),
        ("loaf of bread", "loaves of bread"),
        ("pair of glasses", "pairs of glasses"),
        ("scissors", "scissors"),
        ("statue of liberty", "statue of liberty"),
    ],
)
def test_plurals_are_correct(noun, expected):
    assert plural(noun) == expected


def test_articles_are_correct():
    nouns = ("owl", "fox", "unicorn", "ufo", "jeans", "bread", "loaf of bread", "pair of jeans", "saturn")
    assert [add_article(noun) for noun in nouns] == [
        "an owl",
        "a fox",
        "a unicorn",
        "a ufo",
        "jeans",
        "bread",
        "a loaf of bread",
        "a pair of jeans",
        "saturn",
    ]


def test_substances_pairs_and_unique_things_are_not_countable():
    assert [is_countable(name) for name in ("fox", "loaf of bread", "bread", "jeans", "saturn")] == [
        True,
        True,
        False,
        False,
        False,
    ]
