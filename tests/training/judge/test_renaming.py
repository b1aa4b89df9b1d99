"""Groups of checked pairs keep their labels when things are renamed; only words with one known meaning change."""

from itertools import islice
from random import Random

import pytest

from memo.judge.labelled_pairs import Pair
from training.judge.renaming import draw_exchange, exchange_words, find_entries, rename_groups

GROUP = [
    Pair("Two dogs chase a cat.", "A cat is chased by two dogs.", 1, "swap_obj", "1"),
    Pair("Two dogs chase a cat.", "A cat chases two dogs.", 0, "swap_obj", "1"),
    Pair("A cat is chased by two dogs.", "A cat chases two dogs.", 0, "swap_obj", "1"),
]


@pytest.mark.parametrize("seed", range(20))
def test_all_texts_of_a_group_get_the_same_new_things(seed):
    [group] = islice(rename_groups(Random(seed), [GROUP]), 1)
    assert [(pair.y, pair.kind) for pair in group] == [(pair.y, pair.kind) for pair in GROUP]
    things = [find_entries(text) for pair in group for text in (pair.a, pair.b)]
    assert all(entries == things[0] for entries in things) and len(things[0]) == 2
    assert things[0] != find_entries(GROUP[0].a)
    assert group[0].a == group[1].a and group[0].b == group[2].a and group[1].b == group[2].b


def test_other_words_stay_and_articles_agree():
    [(kind, cat)] = find_entries("a cat")
    [(_, elephant)] = find_entries("an elephant")
    assert (
        exchange_words("A cat sat near the cats.", {(kind, cat): (kind, elephant)})
        == "An elephant sat near the elephants."
    )


def test_a_thing_that_only_the_near_miss_names_stays_and_is_not_used_as_a_new_thing():
    group = [
        Pair("a book on a chair", "on a chair lies a book", 1, "replace_obj", "1"),
        Pair("a book on a chair", "a cup on a chair", 0, "replace_obj", "1"),
    ]
    for renamed in islice(rename_groups(Random(1), [group]), 50):
        cup, thing = find_entries("cup"), find_entries(renamed[0].a)
        assert renamed[1].b.startswith("a cup on ") and thing == find_entries(renamed[0].b) and not cup & thing


def test_a_thing_named_in_one_text_only_stays():
    """The other text may name it by a word that is not in the lexicon."""
    group = [Pair("a puppy and a horse", "a pup and a horse", 1, "message", "1")]
    for renamed in islice(rename_groups(Random(1), [group]), 20):
        assert "puppy" in renamed[0].a and "pup " in renamed[0].b and "horse" not in renamed[0].a


def test_a_word_with_two_meanings_stays():
    assert find_entries("an orange fish") == set()


def test_in_a_group_of_near_misses_only_the_shared_things_are_exchanged():
    group = [Pair("two dogs on a bed", "three dogs on a bed", 0, "counting", "1")]
    [renamed] = islice(rename_groups(Random(2), [group]), 1)
    assert renamed[0].a.split()[0] == "two" and renamed[0].b.split()[0] == "three"
    assert renamed[0].a.split()[1:] == renamed[0].b.split()[1:] != ["dogs", "on", "a", "bed"]


def test_a_group_without_known_words_is_skipped():
    assert draw_exchange(Random(1), [Pair("justice", "liberty", 0, "thing", "1")]) == {}
    [renamed] = islice(rename_groups(Random(1), [[Pair("justice", "liberty", 0, "thing", "2")], GROUP]), 1)
    assert renamed[0].group.startswith("1/")


def test_rare_kinds_are_drawn_more_often_than_they_occur():
    common = [[Pair("a dog runs", "a dog sleeps", 0, "action", str(n))] for n in range(400)]
    rare = [[Pair("a dog and a cat", "a cat, a dog", 1, "order", "r")] for _ in range(4)]
    renamed = list(islice(rename_groups(Random(1), [*common, *rare]), 1000))
    # The square root of a kind's frequency counts: 2 of 22, not 4 of 404.
    assert 50 < sum(group[0].kind == "order" for group in renamed) < 150
