"""Labelled pairs are read line by line, and an error names the bad line."""

import json

import pytest

from memo import BadSetup
from memo.judge.labelled_pairs import Pair, read_pairs

GOOD = {"a": "a fox", "b": "a vixen", "y": 1, "kind": "synonym", "group": "g7"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "pairs.jsonl"


def test_pairs_are_read_in_order_with_kind_and_group(file):
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps({**GOOD, 'y': 0, 'group': 8})}\n")
    assert read_pairs(file) == [
        Pair("a fox", "a vixen", 1, "synonym", "g7"),
        Pair("a fox", "a vixen", 0, "synonym", "8"),
    ]


def test_a_pair_without_a_group_forms_its_own(file):
    row = json.dumps({"a": "a fox", "b": "fox", "y": 1})
    file.write_text(f"{row}\n\n  \n{row}")
    assert read_pairs(file) == [Pair("a fox", "fox", 1, "", "1"), Pair("a fox", "fox", 1, "", "4")]


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\x0cb", "a\rb\nc", "naïve 狐 🐱", ""])
def test_a_text_may_hold_any_characters(file, text):
    for ascii_only in (True, False):
        file.write_text(json.dumps({**GOOD, "a": text}, ensure_ascii=ascii_only) + "\r\n", encoding="utf-8")
        assert [pair.a for pair in read_pairs(file)] == [text]


@pytest.mark.parametrize(
    "line",
    [
        '{"a": "a fox", "b": "fox", "y": 1',
        "a fox\tfox\t1",
        "[]",
        "null",
        '["a fox", "fox", 1]',
        *(json.dumps({name: value for name, value in GOOD.items() if name != left_out}) for left_out in "aby"),
        *(json.dumps({**GOOD, "y": y}) for y in (2, -1, 0.5, "1", None, [1])),
        *(json.dumps({**GOOD, side: text}) for side in "ab" for text in (None, 7, ["a fox"])),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line_number(file, line):
    file.write_text(f"{json.dumps(GOOD)}\n\n{line}\n{json.dumps(GOOD)}\n")
    with pytest.raises(BadSetup) as refused:
        read_pairs(file)
    assert str(refused.value).startswith(f"{file}, line 3: expected") and line[:80] in str(refused.value).replace(
        "\\t", "\t"
    )


def test_a_long_bad_line_is_shortened_in_the_error(file):
    file.write_text("x" * 10_000)
    with pytest.raises(BadSetup) as refused:
        read_pairs(file)
    assert len(str(refused.value)) < len(str(file)) + 200


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(BadSetup, match=r"pairs\.jsonl holds no pairs"):
        read_pairs(file)


def test_a_missing_or_binary_file_is_refused(file):
    with pytest.raises(BadSetup, match=r"cannot read .*pairs\.jsonl"):
        read_pairs(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSetup, match=r"cannot read .*pairs\.jsonl"):
        read_pairs(file)
    with pytest.raises(BadSetup, match="cannot read"):
        read_pairs(file.parent)
