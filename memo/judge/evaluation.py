"""Measures how good a judge is: hit rates, precision and the area under the ROC curve, by kind and by source."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labelled_pairs import Pair
from .learned import LearnedJudge
from .port import Judge

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Decisions = NDArray[np.bool_]


def score_pairs(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """The judge's confidence in each (remembered, wanted) pair, and its decision."""
    if isinstance(judge, LearnedJudge):
        return [(score, score >= judge.card.threshold) for score in judge.scores(pairs)]
    verdicts = [judge(wanted, [old])[0] for old, wanted in pairs]
    return [(verdict.confidence, verdict.fits) for verdict in verdicts]


def threshold(scores: Floats, y: Labels, share: float) -> float:
    """The lowest threshold at which at most this share of the near misses (y = 0) passes."""
    misses = np.sort(scores[y == 0])[::-1]
    allowed = int(share * len(misses))
    return float(np.nextafter(misses[allowed], np.inf)) if allowed < len(misses) else -np.inf


def auc(scores: Floats, y: Labels) -> float:
    """The area under the ROC curve: the chance that a true pair scores above a near miss; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = np.empty(len(scores))
    ranks[order] = ((ends - counts + 1 + ends) / 2)[inverse]
    true = int((y == 1).sum())
    return float((ranks[y == 1].sum() - true * (true + 1) / 2) / (true * (len(y) - true)))


def figures(scores: Sequence[float], fits: Sequence[bool], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The shares of true and false hits: overall, by kind and by source, as a JSON-able dictionary.

    `true_hit`, `false_hit` and `precision_at_point`, the share of hits that are true, follow the judge's decisions.
    `true_hit_at_1pct` and `true_hit_at_5pct` use thresholds at which 1 % and 5 % of the near misses pass. For a kind
    these are all near misses, for a source only its own. A figure without any pairs to measure it on is None.
    """
    values, passed = np.asarray(scores, float), np.asarray(fits, bool)
    y = np.asarray([pair.y for pair in pairs])
    low, high = points(values, y)
    kinds = {
        kind: hit_shares(values[rows], passed[rows], y[rows], low, high)
        for kind, rows in group_rows([pair.kind for pair in pairs])
    }
    sources = {
        source: overall_figures(values[rows], passed[rows], y[rows])
        for source, rows in group_rows([pair.source for pair in pairs])
        if source
    }
    return {**overall_figures(values, passed, y), "kinds": kinds, "sources": sources}


def group_rows(names: Sequence[str]) -> list[tuple[str, NDArray[np.bool_]]]:
    """The different names in alphabetical order, each with a mask of its rows."""
    array = np.asarray(names)
    return [(name, array == name) for name in sorted(set(names))]


def points(scores: Floats, y: Labels) -> tuple[float | None, float | None]:
    """The thresholds at which 1 % and 5 % of the near misses pass; None without true pairs or near misses."""
    if len(np.unique(y)) < 2:
        return None, None
    return threshold(scores, y, 0.01), threshold(scores, y, 0.05)


def overall_figures(scores: Floats, passed: Decisions, y: Labels) -> dict[str, Any]:
    """Hit rates, precision and AUC of these pairs."""
    return {
        **hit_shares(scores, passed, y, *points(scores, y)),
        "precision_at_point": share(y[passed] == 1),
        "auc": round(auc(scores, y), 4) if len(np.unique(y)) == 2 else None,
    }


def hit_shares(scores: Floats, passed: Decisions, y: Labels, low: float | None, high: float | None) -> dict[str, Any]:
    """The number of pairs, the true and false hit rates, and the true hit rates at two thresholds."""
    return {
        "pairs": len(y),
        "true_hit": share(passed[y == 1]),
        "false_hit": share(passed[y == 0]),
        "true_hit_at_1pct": None if low is None else share(scores[y == 1] >= low),
        "true_hit_at_5pct": None if high is None else share(scores[y == 1] >= high),
    }


def share(passed: Decisions) -> float | None:
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
