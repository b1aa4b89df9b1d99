"""The judge's pairs are split so that no text, group, photo or caller's prompt is in two splits."""

from collections import defaultdict

import pytest

from memo.errors import BadSetup
from memo.judge.labelled_pairs import read_pairs
from training.pairs.pair_sources import read_rows
from training.pairs.relation_pair import RelationPair, mirrored
from training.pairs.splits import (
    SPLITS,
    Knobs,
    drop_leaks,
    drop_repeats,
    place_by_photo,
    place_by_text,
    split,
    texts_by_caller,
)


@pytest.fixture
def rows(judge_data, tmp_path):
    """The lines of each split."""
    split(Knobs(judge_data, tmp_path / "out"))
    return {
        name: [row for path in (tmp_path / "out" / name).glob("*.jsonl") for row in read_rows(path)]
        for name in SPLITS
    }


def test_no_text_is_in_two_splits_and_no_split_is_empty(rows):
    found = defaultdict(set)
    for name in SPLITS:
        for row in rows[name]:
            found[row["a"]].add(name)
            found[row["b"]].add(name)
    assert {len(names) for names in found.values()} == {1}
    assert min(len(rows[name]) for name in SPLITS) > 50


def test_nothing_that_a_licence_forbids_is_trained_on(rows):
    assert not {"sick", "winoground_t2i"} & {row["source"] for row in rows["train"]}
    assert {"sick", "winoground_t2i"} <= {row["source"] for row in rows["dev"]}


def test_the_given_dev_set_stays_whole_and_its_texts_leave_training(rows):
    numbers = {name: {row["group"] for row in rows[name] if row["source"] == "scpp"} for name in SPLITS}
    assert numbers["dev"] == {f"scpp:{number}" for number in range(10)}
    assert not numbers["dev"] & (numbers["train"] | numbers["test"])


def test_a_groups_rewordings_are_the_same_and_its_near_misses_are_not(rows):
    pairs = {(row["a"], row["b"]): row for name in SPLITS for row in rows[name]}
    base, more, blue, part = "a red thing 7", "a red thing 7 on a table", "a blue thing 7", "a red part 7"
    expected = {
        (base, "thing 7, red"): ("S", 1),
        ("thing 7, red", base): ("S", 1),
        (more, base): ("M", 0),
        (base, more): ("L", 0),
        (base, blue): ("D", 0),
        (base, part): ("MD", 0),
        (part, base): ("LD", 0),
        ("an orange fox 7 with a gun", "a fox 7"): ("LD", 0),
    }
    assert {texts: (pairs[texts]["possible"], pairs[texts]["y"]) for texts in expected} == expected
    assert (pairs[base, part]["relation"], pairs[base, blue]["relation"]) == (None, "D")


def test_the_result_is_the_same_every_time_and_the_judge_reads_it(judge_data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert split(Knobs(judge_data, one)) == split(Knobs(judge_data, two))
    files = [path.relative_to(one) for path in one.rglob("*.*")]
    assert files and all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    assert {pair.source for pair in read_pairs(one / "dev" / "real.jsonl")} == {"real"}


def test_missing_and_malformed_data_are_named(judge_data, tmp_path):
    (judge_data / "reuse" / "dev.jsonl").write_text('{"a": "a fox"}\n')
    with pytest.raises(BadSetup, match=rf"{judge_data} is not as expected: KeyError"):
        split(Knobs(judge_data, tmp_path / "out"))
    (judge_data / "reuse" / "dev.jsonl").unlink()
    with pytest.raises(BadSetup, match=r"reuse/dev\.jsonl"):
        split(Knobs(judge_data, tmp_path / "out"))


def test_all_prompts_of_a_caller_are_in_one_split(judge_data):
    pairs = [
        RelationPair(f"real one {number}", f"other {number}", "D", "D", "real", str(number)) for number in range(60)
    ]
    placed = place_by_text(pairs, dev=0.3, test=0.3, links=texts_by_caller(pairs, judge_data / "traces"))
    by_caller = defaultdict(set)
    for name, pair in placed:
        by_caller[int(pair.group) // 10].add(name)
    assert all(len(names) == 1 for names in by_caller.values()) and len(set.union(*by_caller.values())) > 1


def test_pairs_whose_photos_are_in_two_splits_are_left_out():
    pairs = [RelationPair(f"a {n}", f"b {n}", "S", "", "cxc_sts", f"coco:{n}+{n + 1}") for n in range(200)]
    by_photo = defaultdict(set)
    placed = place_by_photo(pairs, dev=0.3, test=0.3)
    for name, pair in placed:
        for photo in pair.group.removeprefix("coco:").split("+"):
            by_photo[photo].add(name)
    assert 20 < len(placed) < 150 and all(len(names) == 1 for names in by_photo.values())


def pair_of(a, b, possible="S", source="any"):
    return RelationPair(a, b, possible, "", source, "g")


def test_a_text_of_the_test_set_is_in_no_other_split():
    of_test = ("test", pair_of("a fox", "y"))
    kept, dropped = drop_leaks([("train", pair_of("A fox.", "x")), ("dev", pair_of("z", "y")), of_test])
    assert kept == [of_test] and dropped == {"any": 2}


def test_the_texts_of_the_given_dev_set_are_not_even_in_the_test_set():
    given = ("dev", pair_of("a fox", "y", source="scpp"))
    kept, dropped = drop_leaks([("test", pair_of("a fox", "z")), given])
    assert kept == [given] and dropped == {"any": 1}


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ([("a", "b", "S"), ("A.", "b", "S")], 1),
        ([("a", "b", "S"), ("a", "b", "D")], 0),
        ([("a", "b", "LD"), ("a", "b", "D")], 1),
        ([("a", "A!", "S")], 0),
        ([("a", "b", "S"), ("b", "a", "S")], 2),
    ],
)
def test_of_repeated_pairs_one_is_kept_and_of_contradictory_ones_none(pairs, kept):
    assert len(drop_repeats([("train", pair_of(*pair)) for pair in pairs])[0]) == kept


@pytest.mark.parametrize(
    ("possible", "other"), [("S", "S"), ("M", "L"), ("L", "MD"), ("D", "LD"), ("MD", "LD"), ("SM", "SL")]
)
def test_the_relations_after_a_swap(possible, other):
    assert mirrored(possible) == other
