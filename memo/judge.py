"""Whether the picture of a remembered prompt is right for a new prompt.

Knows words only; which pictures are compared at all is decided by the fields that `Index.nearest` filters by.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from .errors import BadSetup

NEAR = 0.97  # cosine of the embeddings
FILLERS = frozenset({"a", "an", "the", "please"})
WORD = re.compile(r"\w+(?:['’-]\w+)*", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fits`, and why in words that a user reads."""

    fits: bool
    reason: str


class Judge(Protocol):
    """Decides on one remembered prompt. Unsure means no: a wrong picture is worse than painting again."""

    def __call__(self, remembered: str, wanted: str, cosine: float) -> Verdict:
        """`cosine` is that of the two prompts' embeddings."""


class StrictJudge:
    """Nearly the same embedding, and the same content words in the same order."""

    def __call__(self, remembered: str, wanted: str, cosine: float) -> Verdict:
        """See Judge."""
        old, new = content_words(remembered), content_words(wanted)
        if old != new:
            return Verdict(False, difference(old, new))
        if cosine < NEAR:
            return Verdict(False, f"the wording is too far from {remembered!r} (similarity {cosine:.3f} < {NEAR})")
        return Verdict(True, f"it says the same as {remembered!r} (similarity {cosine:.3f}, the same content words)")


def content_words(prompt: str) -> list[str]:
    """Lower-case words in order, without articles and politeness."""
    return [word for word in WORD.findall(prompt.casefold()) if word not in FILLERS]


def difference(old: list[str], new: list[str]) -> str:
    """The first words that differ, in a sentence."""
    added = [word for word in new if word not in old]
    missing = [word for word in old if word not in new]
    if not added and not missing:
        return f"the remembered {' '.join(old)!r} has the same words in another order or number"
    parts = [f"new is {', '.join(map(repr, added))}"] if added else []
    parts += [f"missing is {', '.join(map(repr, missing))}"] if missing else []
    return f"compared with the remembered {' '.join(old)!r}, {' and '.join(parts)}"


def open_judge(spec: str) -> Judge:
    """The judge of this name; raises BadSetup."""
    if spec == "strict":
        return StrictJudge()
    raise BadSetup(f"the judge {spec!r} is unknown; there is: strict")
