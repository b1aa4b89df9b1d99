"""How good a judge is, from its scores: true hits at a share of false hits, area under the curve, by kind."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def threshold(scores: Floats, y: NDArray[np.int64], share: float) -> float:
    """The lowest score whose acceptance lets through at most that share of the near misses."""
    misses = np.sort(scores[y == 0])[::-1]
    allowed = int(share * len(misses))
    return float(np.nextafter(misses[allowed], np.inf)) if allowed < len(misses) else -np.inf


def auc(scores: Floats, y: NDArray[np.int64]) -> float:
    """The chance that a true pair scores above a near miss (ties count half)."""
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
    """True and false hits by a judge's decisions, and where 1 % and 5 % of all near misses pass; the same by kind."""
    values, passed = np.asarray(scores, float), np.asarray(fits, bool)
    y, kind = np.asarray(labels), np.asarray(kinds)
    both = len(set(labels)) == 2
    low, high = (threshold(values, y, part) if both else np.inf for part in (0.01, 0.05))

    def of(rows: NDArray[np.bool_]) -> dict[str, Any]:
        true, false = rows & (y == 1), rows & (y == 0)
        return {
            "pairs": int(rows.sum()),
            "true_hit": share(passed[true]),
            "false_hit": share(passed[false]),
            "true_hit_at_1pct": share(values[true] >= low) if both else None,
            "true_hit_at_5pct": share(values[true] >= high) if both else None,
        }

    by_kind = {name: of(kind == name) for name in sorted(set(kinds))}
    return {**of(np.ones(len(y), bool)), "auc": round(auc(values, y), 4) if both else None, "kinds": by_kind}


def share(passed: NDArray[np.bool_]) -> float | None:
    """Of all; None of none."""
    return round(float(passed.mean()), 4) if len(passed) else None


def wilson(wrong: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that holds a share with 95 % (Wilson 1927); (0, 1) when nothing was looked at."""
    if of == 0:
        return 0.0, 1.0
    part, room = wrong / of, z * z / of
    middle = (part + room / 2) / (1 + room)
    half = z * math.sqrt(part * (1 - part) / of + room / (4 * of)) / (1 + room)
    return max(0.0, middle - half), min(1.0, middle + half)
