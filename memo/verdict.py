"""What a judge says of one remembered prompt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fits`, why in words that a user reads, how sure the judge is (0 to 1), and how sure it must be."""

    fits: bool
    reason: str
    sure: float
    needed: float = 1.0
