"""Reads labelled pairs from files of different kinds, and says which relations each source leaves open.

A source may say too little to train on: that a caption is true of a photo does not tell whether a picture painted
from another caption of that photo fits, because a photo shows more than its caption says.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .relation_pair import RelationPair

Row = dict[str, Any]  # a line of a JSON file
AUTHORED_FILES = "ABCDEG"  # the rewordings of E are what people would write, those of the others are more contorted
CHECKED_CAPTIONS = ("scpp", "valse")
EVALUATION_ONLY = ("sick", "winoground_t2i")  # their licences allow no training
PUBLIC_RELATIONS: Mapping[str, Callable[[Row], str]] = {  # by source; "" for pairs that cannot be used
    "cxc_sits": lambda row: "" if row["y"] else "LD",
    "cxc_sts": lambda row: "S" if row["y"] else "MLD",
    "stsb_captions": lambda row: "S" if row["y"] else "MLD",
    "vsr": lambda row: "MLD",
    "colorswap": lambda row: "D",
    # many of its paraphrases do not mean the same picture: "a tall person" and "a tall man"
    "snli_becel": lambda row: "" if row["kind"] == "paraphrase" else "SM" if row["y"] else "D",
    "sick": lambda row: "S" if row["y"] else "MLD",
    "winoground_t2i": lambda row: "D",
}


def read_rows(path: Path) -> list[Row]:
    """The lines of a JSON file; raises OSError and ValueError."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def authored_pairs(group: Row, file: str) -> Iterator[RelationPair]:
    """All ordered pairs of a group written by hand: a prompt, rewordings, one that shows more, and near misses."""

    def pair(a: str, b: str, possible: str, kind: str) -> RelationPair:
        return RelationPair(a, b, possible, kind, f"authored-{file}", group["group"])

    equals = [group["base"], *group["same"]]
    for text in equals:
        yield from (pair(text, other, "S", "same") for other in equals if other is not text)
        yield pair(group["more"], text, "M", "more")
        yield pair(text, group["more"], "L", "less")
        for kind, near_miss in group["near"]:
            forwards, backwards = near_miss_relations(kind)
            yield pair(text, near_miss, forwards, kind)
            yield pair(near_miss, text, backwards, kind)


def near_miss_relations(kind: str) -> tuple[str, str]:
    """The possible relations of (prompt, near miss) and of (near miss, prompt).

    A near miss from which something was dropped may be read as one that shows less, one with something added as more.
    """
    if kind.startswith("dropped"):
        return "MD", "LD"
    return ("LD", "D") if kind.startswith("added") else ("D", "D")


def relaxed_pairs(group: Row) -> Iterator[RelationPair]:
    """Pairs of a prompt and richer ones, whose extras are welcome (`more`) or not (`surprise`)."""
    base, name = group["base"], group["group"]
    for more in group["more"]:
        yield RelationPair(more, base, "M", "more", "relaxed", name)
        yield RelationPair(base, more, "L", "less", "relaxed", name)
    for kind, surprise in group["surprise"]:
        yield RelationPair(surprise, base, "LD", f"surprise-{kind}", "relaxed", name)
        yield RelationPair(base, surprise, "LD", f"surprise-{kind}", "relaxed", name)


def real_pair(row: Row) -> RelationPair:
    """A pair of two requests in a real stream, with the relation and the share that readers gave it."""
    relation = row["kind"]
    return RelationPair(row["a"], row["b"], relation, relation, "real", row["group"], row["share"])


def caption_pair(row: Row) -> RelationPair:
    """A pair of captions. Its label 0 means that the picture of `a` is wrong for `b`, so it is no M either."""
    return RelationPair(row["a"], row["b"], "S" if row["y"] else "LD", row["kind"], row["source"], row["group"])


def public_pairs(rows: list[Row]) -> Iterator[RelationPair]:
    """The usable pairs of a public data set."""
    for row in rows:
        if possible := PUBLIC_RELATIONS[row["source"]](row):
            yield RelationPair(row["a"], row["b"], possible, row["kind"], row["source"], row["group"])
