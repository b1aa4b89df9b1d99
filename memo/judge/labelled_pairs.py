"""Labelled pairs of prompts in JSON lines, with which judges are trained, chosen and measured."""

import json
from dataclasses import dataclass
from pathlib import Path

from memo.errors import BadSetup


@dataclass(frozen=True, slots=True)
class Pair:
    """Two prompts; `y` is 1 if the picture of the remembered `a` is right for the new `b`, else 0.

    Pairs of one `group` share texts, so that a split must keep them together.
    """

    a: str
    b: str
    y: int
    kind: str = ""
    group: str = ""
    source: str = ""  # where the pair comes from


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file; raises BadSetup with the number of a bad line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetup(f"cannot read {path}: {error}") from error
    pairs = [parse_pair(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise BadSetup(f"{path} holds no pairs")
    return pairs


def parse_pair(path: Path, number: int, line: str) -> Pair:
    """The pair in one line; raises BadSetup."""
    try:
        row = json.loads(line)
        kind, group, source = (str(row.get(key, "")) for key in ("kind", "group", "source"))
        pair = Pair(row["a"], row["b"], row["y"], kind, group or str(number), source)
        good = isinstance(pair.a, str) and isinstance(pair.b, str) and pair.y in (0, 1)
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise BadSetup(f'{path}, line {number}: expected {{"a": text, "b": text, "y": 0 or 1}}, not {line[:80]!r}')
    return pair
