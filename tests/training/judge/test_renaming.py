"""Checked pairs told of other things keep their labels, and only what is surely known is exchanged."""

from itertools import islice
from random import Random

import pytest

from memo.judge.labelled_pairs import Pair
from training.judge.renaming import drawn, entries, renamed, told

GROUP = [
    Pair("Two dogs chase a cat.", "A cat is chased by two dogs.", 1, "swap_obj", "1"),
    Pair("Two dogs chase a cat.", "A cat chases two dogs.", 0, "swap_obj", "1"),
    Pair("A cat is chased by two dogs.", "A cat chases two dogs.", 0, "swap_obj", "1"),
]


@pytest.mark.parametrize("seed", range(20))
def test_all_texts_of_a_group_tell_of_the_same_other_things(seed):
    [group] = islice(renamed(Random(seed), [GROUP]), 1)
    assert [(pair.y, pair.kind) for pair in group] == [(pair.y, pair.kind) for pair in GROUP]
    things = [entries(text) for pair in group for text in (pair.a, pair.b)]
    assert all(some == things[0] for some in things) and len(things[0]) == 2
    assert things[0] != entries(GROUP[0].a)
    assert group[0].a == group[1].a and group[0].b == group[2].a and group[1].b == group[2].b


def test_the_words_around_stay_and_articles_agree():
    [(kind, cat)] = entries("a cat")
    [(_, elephant)] = entries("an elephant")
    assert told("A cat sat near the cats.", {(kind, cat): (kind, elephant)}) == "An elephant sat near the elephants."


def test_what_only_a_near_miss_speaks_of_stays_and_is_not_taken_for_another():
    group = [
        Pair("a book on a chair", "on a chair lies a book", 1, "replace_obj", "1"),
        Pair("a book on a chair", "a cup on a chair", 0, "replace_obj", "1"),
    ]
    for made in islice(renamed(Random(1), [group]), 50):
        cup, thing = entries("cup"), entries(made[0].a)
        assert made[1].b.startswith("a cup on ") and thing == entries(made[0].b) and not cup & thing


def test_what_one_side_calls_otherwise_stays():
    """The other side may speak of it in words that are not known."""
    group = [Pair("a puppy and a horse", "a pup and a horse", 1, "message", "1")]
    for made in islice(renamed(Random(1), [group]), 20):
        assert "puppy" in made[0].a and "pup " in made[0].b and "horse" not in made[0].a


def test_a_word_of_two_meanings_stays():
    assert entries("an orange fish") == set()


def test_near_misses_alone_are_told_of_what_both_speak_of():
    group = [Pair("two dogs on a bed", "three dogs on a bed", 0, "counting", "1")]
    [made] = islice(renamed(Random(2), [group]), 1)
    assert made[0].a.split()[0] == "two" and made[0].b.split()[0] == "three"
    assert made[0].a.split()[1:] == made[0].b.split()[1:] != ["dogs", "on", "a", "bed"]


def test_a_group_of_nothing_known_is_left_out():
    assert drawn(Random(1), [Pair("justice", "liberty", 0, "thing", "1")]) == {}
    [made] = islice(renamed(Random(1), [[Pair("justice", "liberty", 0, "thing", "2")], GROUP]), 1)
    assert made[0].group.startswith("1/")


def test_rare_kinds_are_told_more_often_than_they_are():
    common = [[Pair("a dog runs", "a dog sleeps", 0, "action", str(n))] for n in range(400)]
    rare = [[Pair("a dog and a cat", "a cat, a dog", 1, "order", "r")] for _ in range(4)]
    made = list(islice(renamed(Random(1), [*common, *rare]), 1000))
    assert 50 < sum(group[0].kind == "order" for group in made) < 150  # 2 of 22, not 4 of 404
