"""What a judge says of one remembered prompt, and what the rules settle for every judge."""

from dataclasses import dataclass

from .rules import same_words, veto


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fits`, why in words that a user reads, how sure the judge is (0 to 1), and how sure it must be."""

    fits: bool
    reason: str
    confidence: float
    threshold: float = 1.0


def by_rule(old: str, wanted: str) -> Verdict | None:
    """What needs no network: the same words, or a veto."""
    if same_words(old, wanted):
        return Verdict(True, f"it says the same as {old!r}, in nearly the same words", 1.0)
    if reason := veto(old, wanted):
        return Verdict(False, f"not {old!r}: {reason}", 0.0)
    return None
