"""A labelled pair of prompts. The label says how the picture of the remembered prompt relates to the new prompt.

    S   same: the two prompts ask for the same picture
    M   more: the picture fits, and also shows harmless extras
    L   less: the picture lacks something that the new prompt asks for
    D   different: the picture is wrong in another way, for example because of surprising extras

Many data sets do not tell these four apart. If people only marked two captions as dissimilar, the relation may be
M, L or D. So a pair lists all relations that are possible.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

RELATIONS = "SMLD"
# The possible relations after swapping the two prompts. What was missing becomes an extra, harmless (M) or not (D).
MIRROR = {"S": "S", "M": "L", "L": "MD", "D": "LD"}


@dataclass(frozen=True, slots=True)
class RelationPair:
    """A remembered prompt `a`, a new prompt `b`, and what is known about their relation."""

    a: str
    b: str
    possible: str  # all relations that the pair may have, in the order of RELATIONS
    kind: str
    source: str
    group: str  # pairs with texts in common have the same group
    share: int | None = None  # how similar the two pictures are, from 0 (unrelated) to 3 (nearly identical)

    @property
    def relation(self) -> str | None:
        """The relation, or None if several are possible."""
        return self.possible if len(self.possible) == 1 else None

    @property
    def y(self) -> int | None:
        """1 if the prompts ask for the same picture, 0 if they do not, None if that is unknown."""
        if self.possible == "S":
            return 1
        return None if "S" in self.possible else 0

    @property
    def texts(self) -> tuple[str, str]:
        """Both prompts, reduced to their words."""
        return words_only(self.a), words_only(self.b)

    def to_dict(self) -> dict[str, Any]:
        """The pair as a JSON object, in a format that `memoaized judge` can read."""
        return {"a": self.a, "b": self.b, "y": self.y, "relation": self.relation, **asdict(self)}


def mirrored(possible: str) -> str:
    """The possible relations after swapping the two prompts."""
    reachable = "".join(MIRROR[relation] for relation in possible)
    return "".join(relation for relation in RELATIONS if relation in reachable)


def words_only(text: str) -> str:
    """The lower-case words of a text. Texts that differ only in punctuation or case become equal."""
    return " ".join(re.findall(r"\w+", text.lower()))
