"""Pairs of the grammar: no wording of a meaning is ever a wording of an edited meaning."""

from itertools import islice
from random import Random

import pytest

from training.judge.grammar import EDITS, Meaning, NothingToEdit, Thing, draw_meaning, grammar_pairs, write_prompt

DOG, MAN, CAR = ("dog",), ("man", "guy"), ("car", "automobile")


def wordings(meaning, count=300):
    return {write_prompt(Random(seed), meaning).strip(".").lower() for seed in range(count)}


def make_pairs(kind, count):
    """Draw `count` meanings to which this edit applies, each with the edited meaning."""
    pairs, random = [], Random(7)
    while len(pairs) < count:
        meaning = draw_meaning(random)
        try:
            pairs.append((meaning, EDITS[kind][0](random, meaning)))
        except NothingToEdit:
            continue
    return pairs


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_meaning_shares_no_wording_with_the_original(kind):
    for meaning, edited in make_pairs(kind, 12):
        assert not wordings(meaning) & wordings(edited), (meaning, edited)


def test_the_same_seed_gives_the_same_pairs():
    assert list(islice(grammar_pairs(Random(3)), 50)) == list(islice(grammar_pairs(Random(3)), 50))


def test_half_of_the_pairs_mean_the_same_and_the_others_use_every_edit():
    pairs = list(islice(grammar_pairs(Random(1)), 4000))
    assert 0.45 < sum(pair.y for pair in pairs) / len(pairs) < 0.55
    assert {pair.kind for pair in pairs} == {"reworded", *EDITS}
    assert all(pair.a != pair.b for pair in pairs)


def test_active_and_passive_wordings_keep_who_does_what():
    texts = wordings(Meaning((Thing(MAN), Thing(DOG)), "chase"))
    passive = {text for text in texts if " by " in text}
    assert passive and passive != texts
    assert all(text.index("dog") < text.index(" by ") for text in passive)
    assert all("chas" in text for text in texts)


def test_a_relation_is_worded_from_the_side_of_either_thing():
    texts = wordings(Meaning((Thing(DOG), Thing(CAR)), "left of"))
    car_first = {text for text in texts if min(text.find(word) % 999 for word in CAR) < text.index("dog")}
    assert car_first and all("right" in text for text in car_first)
    assert all("left" in text for text in texts - car_first)


def test_a_number_stands_before_the_thing_it_counts():
    for text in wordings(Meaning((Thing(DOG, 3), Thing(CAR)), "and")):
        assert "3 dogs" in text or "three dogs" in text
