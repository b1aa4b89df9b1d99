"""Pairs of the grammar: whatever words chance chooses, what means the same is never what means something else."""

from itertools import islice
from random import Random

import pytest

from training.judge.grammar import EDITS, Meaning, NotHere, Thing, draw, pairs, say

DOG, MAN, CAR = ("dog",), ("man", "guy"), ("car", "automobile")


def sayings(meaning, count=300):
    return {say(Random(seed), meaning).strip(".").lower() for seed in range(count)}


def edited(kind, count):
    """Meanings that this edit changes, and what it makes of them."""
    found, random = [], Random(7)
    while len(found) < count:
        meaning = draw(random)
        try:
            found.append((meaning, EDITS[kind][0](random, meaning)))
        except NotHere:
            continue
    return found


@pytest.mark.parametrize("kind", EDITS)
def test_nothing_that_an_edited_meaning_says_is_said_by_the_first(kind):
    for meaning, other in edited(kind, 12):
        assert not sayings(meaning) & sayings(other), (meaning, other)


def test_one_seed_makes_the_same_pairs():
    assert list(islice(pairs(Random(3)), 50)) == list(islice(pairs(Random(3)), 50))


def test_half_of_the_pairs_mean_the_same_and_every_edit_is_among_the_others():
    found = list(islice(pairs(Random(1)), 4000))
    assert 0.45 < sum(pair.y for pair in found) / len(found) < 0.55
    assert {pair.kind for pair in found} == {"said again", *EDITS}
    assert all(pair.a != pair.b for pair in found)


def test_a_deed_is_told_in_both_voices_by_the_same_doer():
    said = sayings(Meaning((Thing(MAN), Thing(DOG)), "chase"))
    passive = {text for text in said if " by " in text}
    assert passive and passive != said
    assert all(text.index("dog") < text.index(" by ") for text in passive)
    assert all("chas" in text for text in said)


def test_a_place_is_told_from_both_ends():
    said = sayings(Meaning((Thing(DOG), Thing(CAR)), "left of"))
    of_car = {text for text in said if min(text.find(word) % 999 for word in CAR) < text.index("dog")}
    assert of_car and all("right" in text for text in of_car)
    assert all("left" in text for text in said - of_car)


def test_a_number_is_said_of_what_it_counts():
    for text in sayings(Meaning((Thing(DOG, 3), Thing(CAR)), "and")):
        assert "3 dogs" in text or "three dogs" in text
