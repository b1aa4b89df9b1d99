"""In a pass, large groups and sources do not outweigh the small ones, and pairs are mirrored where that is right."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from memo.errors import BadSetup
from memo.judge.labelled_pairs import Pair
from training.pairs.pair_sources import kind_of
from training.pairs.relation_pair import RelationPair
from training.pairs.sampling import SOURCE_QUOTAS, draw_pass, read_training_pairs, sample_kinds


def pairs_of(source, possible, count, group="1"):
    return [RelationPair(f"{source} {row}", f"other {row}", possible, "any", source, group) for row in range(count)]


def draw(pairs):
    return draw_pass(pairs, Random(1))


def test_each_authored_group_gives_a_few_pairs_of_each_relation():
    groups = [pair for group in "12" for s in "SMLD" for pair in pairs_of("authored-E", s, 20, group)]
    drawn = Counter((pair.group, pair.possible) for pair in draw(groups))
    assert drawn == {(group, s): n for group in "12" for s, n in {"S": 4, "M": 1, "L": 1, "D": 6}.items()}


def test_authored_pairs_keep_their_direction():
    pairs = pairs_of("relaxed", "M", 1)
    assert draw(pairs) == pairs


def test_real_pairs_are_used_in_both_directions():
    pair = replace(pairs_of("real", "L", 1)[0], share=2)
    mirror = replace(pair, a=pair.b, b=pair.a, possible="MD")
    assert sorted(draw([pair]), key=lambda pair: pair.a) == sorted([pair, mirror], key=lambda pair: pair.a)


def test_other_pairs_are_used_in_one_direction():
    drawn = draw(pairs := pairs_of("snli_becel", "D", 200))
    assert len(drawn) == 200 and 50 < sum(pair.a.startswith("other") for pair in drawn) < 150
    assert {frozenset((pair.a, pair.b)) for pair in drawn} == {frozenset((pair.a, pair.b)) for pair in pairs}
    assert all(pair.possible == ("LD" if pair.a.startswith("other") else "D") for pair in drawn)


def test_a_large_source_gives_its_quota():
    assert len(draw(pairs_of("cxc_sts", "MLD", 3000))) == SOURCE_QUOTAS["cxc_sts", "MLD"]


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="training.pairs.splits"):
        read_training_pairs(tmp_path)


def test_the_sample_of_each_kind_is_limited_and_always_the_same():
    pairs = [
        Pair(f"{source} {row}", "other", 0, source=source) for source in ("scpp", "valse", "real") for row in range(9)
    ]
    sample = sample_kinds(pairs, 10)
    assert Counter(kind_of(pair.source) for pair in sample) == {"captions": 10, "real": 9}
    assert sample == sample_kinds(pairs[::-1], 10)


def test_natural_rewordings_are_a_kind_of_their_own():
    assert [kind_of(source) for source in ("authored-E", "authored-A", "scpp", "valse", "real")] == [
        *("natural", "authored", "captions", "captions", "real"),
    ]
