"""Labelled pairs of prompts, with every relation that the two prompts may have.

    S   same: the picture of the remembered prompt is right for the new one, and the other way round
    M   more: it is right for the new prompt, and shows harmless things that the prompt does not mention
    L   less: it lacks something that the new prompt asks for
    D   different: anything else, such as a picture with surprising extras

Most sources say less than one relation: of two captions that people found unlike, nobody knows whether one shows
less or something else.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

RELATIONS = "SMLD"
MIRROR = {
    "S": "S",
    "M": "L",
    "L": "MD",
    "D": "LD",
}  # after a swap; what was lacking may be a harmless or an odd extra


@dataclass(frozen=True, slots=True)
class RelationPair:
    """One ordered pair: `a` is the remembered prompt and `b` the new one."""

    a: str
    b: str
    possible: str  # the relations it may have, in the order of RELATIONS
    kind: str
    source: str
    group: str  # pairs of one group share texts
    share: int | None = None  # how much of the picture the two share, 0 (nothing) to 3 (nearly all); None if unknown

    @property
    def relation(self) -> str | None:
        """The relation, if only one is possible."""
        return self.possible if len(self.possible) == 1 else None

    @property
    def y(self) -> int | None:
        """1 if the prompts mean the same, 0 if they do not, None if that is unknown."""
        if self.possible == "S":
            return 1
        return None if "S" in self.possible else 0

    @property
    def texts(self) -> tuple[str, str]:
        """The words of both prompts."""
        return words_only(self.a), words_only(self.b)

    def to_dict(self) -> dict[str, Any]:
        """The pair as a line of a JSON file holds it; `memoaized judge` reads `a`, `b`, `y`, `kind` and `source`."""
        return {"a": self.a, "b": self.b, "y": self.y, "relation": self.relation, **asdict(self)}


def mirrored(possible: str) -> str:
    """The relations of (b, a) if (a, b) has one of `possible`."""
    reachable = "".join(MIRROR[relation] for relation in possible)
    return "".join(relation for relation in RELATIONS if relation in reachable)


def words_only(text: str) -> str:
    """The words in lower case, so that prompts with other punctuation count as the same text."""
    return " ".join(re.findall(r"\w+", text.lower()))
