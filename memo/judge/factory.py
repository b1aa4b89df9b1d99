"""Whether the picture of a remembered prompt is right for a new prompt: the port, and which judges there are.

Knows words only; which pictures are compared at all is decided by the fields that `Index.nearest` filters by.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from memo.embed import open_onnx
from memo.errors import BadSetup

from .cross_encoder import open_cross_encoder
from .learned import LearnedJudge, open_learned
from .llm import open_bedrock, open_chat
from .rules import core
from .verdict import Verdict, by_rule

SHIPPED = Path(__file__).with_name("weights")


class Judge(Protocol):
    """Decides on remembered prompts. Unsure means no: a wrong picture is worse than painting again."""

    name: str

    def __call__(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """One verdict for each remembered prompt; raises Unavailable when the judge cannot be asked."""


class RulesJudge:
    """The same words in the same order, up to what no one sees; else no, with a reason."""

    name = "rules"

    def __call__(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """See Judge."""
        return [self.verdict(wanted, old) for old in remembered]

    def verdict(self, wanted: str, old: str) -> Verdict:
        """On one remembered prompt."""
        return by_rule(old, wanted) or Verdict(False, difference(core(old), core(wanted)), 0.0)


def difference(old: Sequence[str], new: Sequence[str]) -> str:
    """The words that differ, in a sentence."""
    added = [word for word in new if word not in old]
    missing = [word for word in old if word not in new]
    if not added and not missing:
        return f"the remembered {' '.join(old)!r} has the same words in another order or number"
    parts = [f"new is {', '.join(map(repr, added))}"] if added else []
    parts += [f"missing is {', '.join(map(repr, missing))}"] if missing else []
    return f"compared with the remembered {' '.join(old)!r}, {' and '.join(parts)}"


def scored(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """How sure a judge is of each (remembered, wanted), and what it decides."""
    if isinstance(judge, LearnedJudge):
        return [(score, score >= judge.card.threshold) for score in judge.scores(pairs)]
    verdicts = [judge(wanted, [old])[0] for old, wanted in pairs]
    return [(verdict.confidence, verdict.fits) for verdict in verdicts]


def open_judge(spec: str, text_folder: Path, key: str | None = None, states: Path | None = None) -> Judge:
    """The judge of this name; `text_folder` holds the exported text model, `states` what it made of prompts.

    `key` opens a server. Raises BadSetup.
    """
    name, _, rest = spec.partition(":")
    if spec == "rules":
        return RulesJudge()
    if name == "learned":
        return open_learned(Path(rest) if rest else SHIPPED, open_onnx(text_folder, states))
    if name == "cross-encoder" and rest:
        return open_cross_encoder(rest)
    if name == "llm":
        return open_chat(rest, key)
    if name == "bedrock":
        return open_bedrock(rest)
    known = "learned, learned:FOLDER, rules, cross-encoder:HUB_ID, llm:URL#MODEL, bedrock:MODEL"
    raise BadSetup(f"the judge {spec!r} is unknown; there are {known}")
