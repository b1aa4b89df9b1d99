"""Measures how good a judge is: its hit rates, overall and by kind, and the area under the ROC curve."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .learned import LearnedJudge
from .port import Judge

Floats = NDArray[np.float64]


def score_pairs(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """The judge's confidence in each (remembered, wanted) pair, and its decision."""
    if isinstance(judge, LearnedJudge):
        return [(score, score >= judge.card.threshold) for score in judge.scores(pairs)]
    verdicts = [judge(wanted, [old])[0] for old, wanted in pairs]
    return [(verdict.confidence, verdict.fits) for verdict in verdicts]


def threshold(scores: Floats, y: NDArray[np.int64], share: float) -> float:
    """The lowest threshold at which at most this share of the near misses (y = 0) passes."""
    misses = np.sort(scores[y == 0])[::-1]
    allowed = int(share * len(misses))
    return float(np.nextafter(misses[allowed], np.inf)) if allowed < len(misses) else -np.inf


def auc(scores: Floats, y: NDArray[np.int64]) -> float:
    """The area under the ROC curve: the chance that a true pair scores above a near miss; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = np.empty(len(scores))
    ranks[order] = ((ends - counts + 1 + ends) / 2)[inverse]
    true = int((y == 1).sum())
    return float((ranks[y == 1].sum() - true * (true + 1) / 2) / (true * (len(y) - true)))


def figures(
    scores: Sequence[float], fits: Sequence[bool], labels: Sequence[int], kinds: Sequence[str]
) -> dict[str, Any]:
    """The shares of true and false hits, overall and by kind, as a JSON-able dictionary.

    `true_hit` and `false_hit` follow the judge's decisions; `true_hit_at_1pct` and `true_hit_at_5pct` are measured
    where 1 % and 5 % of all near misses pass. A figure is None where there is nothing to measure it on.
    """
    values, passed = np.asarray(scores, float), np.asarray(fits, bool)
    y, kind = np.asarray(labels), np.asarray(kinds)
    has_both = len(set(labels)) == 2  # true pairs and near misses
    low, high = (threshold(values, y, part) if has_both else np.inf for part in (0.01, 0.05))

    def measure(rows: NDArray[np.bool_]) -> dict[str, Any]:
        true, false = rows & (y == 1), rows & (y == 0)
        return {
            "pairs": int(rows.sum()),
            "true_hit": share(passed[true]),
            "false_hit": share(passed[false]),
            "true_hit_at_1pct": share(values[true] >= low) if has_both else None,
            "true_hit_at_5pct": share(values[true] >= high) if has_both else None,
        }

    by_kind = {name: measure(kind == name) for name in sorted(set(kinds))}
    overall = measure(np.ones(len(y), bool))
    return {**overall, "auc": round(auc(values, y), 4) if has_both else None, "kinds": by_kind}


def share(passed: NDArray[np.bool_]) -> float | None:
    """The share of true values, to four digits; None for an empty array."""
    return round(float(passed.mean()), 4) if len(passed) else None


def wilson_interval(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927); (0, 1) if nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    part, correction = count / total, z * z / total
    middle = (part + correction / 2) / (1 + correction)
    half = z * math.sqrt(part * (1 - part) / total + correction / (4 * total)) / (1 + correction)
    return max(0.0, middle - half), min(1.0, middle + half)
