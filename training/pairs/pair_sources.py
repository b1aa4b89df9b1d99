"""Convert data sets with different labels to RelationPairs.

Some labels cannot be used. For example, cxc_sits says whether a caption is true of a photo. That does not tell us
whether a picture painted from another caption of the photo would fit, because a photo shows more than a caption says.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

from .relation_pair import RelationPair

Row = dict[str, Any]  # a line of a JSON file
AUTHORED_FILES = "ABCDEG"  # E has everyday rewordings; those in the other files are harder
CHECKED_CAPTIONS = ("scpp", "valse")
EVALUATION_ONLY = ("sick", "winoground_t2i")  # their licences do not permit training
PUBLIC_RELATIONS: Mapping[str, Callable[[Row], str]] = {  # by source; "" means that the pair cannot be used
    "cxc_sits": lambda row: "" if row["y"] else "LD",
    "cxc_sts": lambda row: "S" if row["y"] else "MLD",
    "stsb_captions": lambda row: "S" if row["y"] else "MLD",
    "vsr": lambda row: "MLD",
    "colorswap": lambda row: "D",
    # its paraphrases are too loose: "a tall person" is paired with "a tall man"
    "snli_becel": lambda row: "" if row["kind"] == "paraphrase" else "SM" if row["y"] else "D",
    "sick": lambda row: "S" if row["y"] else "MLD",
    "winoground_t2i": lambda row: "D",
}


def read_rows(path: Path) -> list[Row]:
    """Read a file that has one JSON object per line. Raises OSError and ValueError."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def authored_pairs(group: Row, file: str) -> Iterator[RelationPair]:
    """Make all pairs of a hand-written group: a prompt, its rewordings, a richer prompt, and near misses."""

    def pair(a: str, b: str, possible: str, kind: str) -> RelationPair:
        return RelationPair(a, b, possible, kind, f"authored-{file}", group["group"])

    equals = [group["base"], *group["same"]]
    for text, other in permutations(equals, 2):
        yield pair(text, other, "S", "same")
    for text in equals:
        yield pair(group["more"], text, "M", "more")
        yield pair(text, group["more"], "L", "less")
        for kind, near_miss in group["near"]:
            forwards, backwards = near_miss_relations(kind)
            yield pair(text, near_miss, forwards, kind)
            yield pair(near_miss, text, backwards, kind)


def near_miss_relations(kind: str) -> tuple[str, str]:
    """The possible relations of (prompt, near miss) and of (near miss, prompt).

    Usually both are D. If the near miss only drops or adds something, readers may also see it as L or M.
    """
    if kind.startswith("dropped"):
        return "MD", "LD"
    return ("LD", "D") if kind.startswith("added") else ("D", "D")


def relaxed_pairs(group: Row) -> Iterator[RelationPair]:
    """Pair a prompt with richer ones, whose extras are either welcome (`more`) or not (`surprise`)."""
    base, name = group["base"], group["group"]
    for more in group["more"]:
        yield RelationPair(more, base, "M", "more", "relaxed", name)
        yield RelationPair(base, more, "L", "less", "relaxed", name)
    for kind, surprise in group["surprise"]:
        yield RelationPair(surprise, base, "LD", f"surprise-{kind}", "relaxed", name)
        yield RelationPair(base, surprise, "LD", f"surprise-{kind}", "relaxed", name)


def real_pair(row: Row) -> RelationPair:
    """Two prompts that users really sent. Human readers labelled their relation and how similar the pictures are."""
    relation = row["kind"]
    return RelationPair(row["a"], row["b"], relation, relation, "real", row["group"], row["share"])


def caption_pair(row: Row) -> RelationPair:
    """Two captions. The label 0 means that the picture of `a` is wrong for `b`, which excludes S and M."""
    return RelationPair(row["a"], row["b"], "S" if row["y"] else "LD", row["kind"], row["source"], row["group"])


def public_pairs(rows: list[Row]) -> Iterator[RelationPair]:
    """Convert the pairs of a public data set, leaving out those that cannot be used."""
    for row in rows:
        if possible := PUBLIC_RELATIONS[row["source"]](row):
            yield RelationPair(row["a"], row["b"], possible, row["kind"], row["source"], row["group"])


def kind_of(source: str) -> str:
    """Return the kind of prompts that a source has. Judges are measured on each kind separately."""
    if source in CHECKED_CAPTIONS:
        return "captions"
    if source.startswith("authored"):
        return "natural" if source == "authored-E" else "authored"
    return source
