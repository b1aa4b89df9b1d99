"""The port: a judge decides whether the picture of a remembered prompt is right for a new prompt.

A judge sees words only. `Points.find_candidates` decides by size, model and other settings which pictures it is asked
about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from memo.picture import SHARED


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's decision on one remembered prompt, with the reason as a sentence for users."""

    fits: bool
    reason: str
    confidence: float  # that the picture is right, 0 to 1
    threshold: float = 1.0  # the lowest confidence that fits


class Judge(Protocol):
    """Decides on remembered prompts. In doubt it says no: a wrong picture is worse than painting again."""

    name: str

    def __call__(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[Verdict]:
        """One verdict for each remembered prompt, in order; raises Unavailable when the judge cannot be reached.

        What the judge has read before saves time in the same scope only.
        """


@runtime_checkable
class SharesJudge(Protocol):
    """A judge that also tells how much of a picture two prompts share, from 0 (nothing) to 3 (everything)."""

    @property
    def can_tell_shares(self) -> bool:
        """Whether this judge has what it needs to tell shares."""

    def shares(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[float]:
        """The expected share of each remembered prompt, in order; raises Unavailable like the verdicts."""


def find_shares_judge(judge: object) -> SharesJudge | None:
    """The judge, if it can tell shares."""
    return judge if isinstance(judge, SharesJudge) and judge.can_tell_shares else None
