"""The judge `rules`: says yes to the same words only, and needs no network."""

from collections.abc import Sequence

from memo.picture import SHARED

from .port import Verdict
from .rules import decide_by_rules, find_hints
from .words import explain_difference, visible_words


class RulesJudge:
    """Accepts prompts with the same visible words in the same order, and names the difference otherwise."""

    name = "rules"

    def __call__(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[Verdict]:
        """See Judge."""
        return [self.judge_one(old, wanted) for old in remembered]

    def judge_one(self, old: str, wanted: str) -> Verdict:
        """The verdict on one remembered prompt."""
        before, after = set(visible_words(old)), set(visible_words(wanted))
        difference = (
            next(iter(find_hints(old, wanted).values()), None)
            or explain_difference(before - after, after - before)
            or "has the same words in another order or number"
        )
        return decide_by_rules(old, wanted) or Verdict(False, f"the remembered prompt {old!r} {difference}", 0.0)
