"""Weigh a judge's networks and the hints of the rules, calibrate the result, and choose the operating point.

This uses pairs that no network was trained on. Captions, everyday rewordings and real requests are different kinds of
pairs: each kind has the same influence, and the operating point must be good enough for the worst of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from memo.errors import BadSetup
from memo.judge.evaluation import threshold
from memo.judge.learned import VETO_FACTOR

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]
RIDGE = 1e-3  # regularization of the logistic regression
NEWTON_STEPS = 50
MIN_WEIGHT = 0.01  # of a network
MIN_HINTED = 50  # pairs with a hint; fewer are not enough to estimate its weight
MIN_POINT = 1e-6
MAX_LOGIT = 60.0


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Labelled pairs, and what networks and rules say about them. The last axis of each array is the pairs."""

    logits: Floats  # (networks, pairs)
    hints: Flags  # (hints, pairs)
    labels: Integers
    kinds: Names
    groups: Names
    vetoed: Flags
    accepted: Flags  # by the rules

    def select(self, rows: Flags) -> "JudgedPairs":
        """Return only these pairs."""
        return JudgedPairs(
            self.logits[:, rows],
            self.hints[:, rows],
            self.labels[rows],
            self.kinds[rows],
            self.groups[rows],
            self.vetoed[rows],
            self.accepted[rows],
        )

    def undecided(self) -> "JudgedPairs":
        """Return the pairs that the rules leave to the networks."""
        return self.select(~(self.vetoed | self.accepted))


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the operating point must achieve."""

    false_hits: float  # largest share of the near misses of each kind that may be accepted
    precision: float  # smallest share of true pairs among the accepted pairs of `precise_kinds`
    precise_kinds: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """How to turn logits and hints into scores, and the score from which on a pair is accepted."""

    weights: Floats  # of the networks; their sum is 1
    hints: Floats  # what each hint adds to the logit; NaN for a hint that is a veto
    slope: float = 1.0
    offset: float = 0.0
    point: float = 0.0

    def apply_vetoes(self, pairs: JudgedPairs) -> JudgedPairs:
        """Mark the pairs as vetoed that have a hint which is a veto."""
        return replace(pairs, vetoed=pairs.vetoed | pairs.hints[np.isnan(self.hints)].any(0))

    def logits(self, pairs: JudgedPairs) -> Floats:
        """Compute the weighted mean logit of each pair, lowered by its hints."""
        return np.asarray(self.weights @ pairs.logits + np.nan_to_num(self.hints) @ pairs.hints)

    def scores(self, pairs: JudgedPairs) -> Floats:
        """Compute the score of each pair, including the effect of vetoes."""
        scores = sigmoid(self.slope * self.logits(pairs) + self.offset)
        scores = np.where(self.apply_vetoes(pairs).vetoed, scores * VETO_FACTOR, scores)
        return np.where(pairs.accepted, 1.0, scores)


def calibrate(pairs: JudgedPairs, required: Requirements) -> Calibration:
    """Fit a calibration. Raises BadSetup if no operating point has the required precision."""
    fitted = fit_weights(pairs.undecided())
    undecided = fitted.apply_vetoes(pairs).undecided()
    x = np.column_stack([fitted.logits(undecided), np.ones(len(undecided.labels))])
    slope, offset = map(float, regress(x, undecided.labels, balance(undecided.kinds)))
    fitted = replace(fitted, slope=slope, offset=offset)
    return replace(fitted, point=choose_point(fitted.scores(pairs), pairs, required))


def fit_weights(undecided: JudgedPairs) -> Calibration:
    """Estimate the weights of networks and hints by logistic regression. A rare hint becomes a veto."""
    frequent = undecided.hints.sum(1) >= MIN_HINTED
    pairs = undecided.select(~undecided.hints[~frequent].any(0))
    x = np.column_stack([*pairs.logits, *pairs.hints[frequent], np.ones(len(pairs.labels))])
    coefficients = regress(x, pairs.labels, balance(pairs.kinds))
    networks, frequent_hints, _ = np.split(coefficients, [len(pairs.logits), -1])
    networks = np.maximum(networks, MIN_WEIGHT)
    hints = np.full(len(frequent), np.nan)
    hints[frequent] = np.minimum(frequent_hints / networks.sum(), 0)
    return Calibration(networks / networks.sum(), hints)


def choose_point(scores: Floats, pairs: JudgedPairs, required: Requirements) -> float:
    """Choose the lowest score at which every kind of pairs meets the requirements.

    Raises BadSetup if there is none.
    """
    points = []
    for kind in np.unique(pairs.kinds):
        rows = pairs.kinds == kind
        points.append(threshold(scores[rows], pairs.labels[rows], required.false_hits))
        if kind in required.precise_kinds:
            points.append(precise_threshold(scores[rows], pairs.labels[rows], required.precision))
            if np.isinf(points[-1]):
                raise BadSetup(f"no operating point has a precision of {required.precision:.0%} on the {kind} pairs")
    return float(np.clip(max(points), MIN_POINT, 1 - MIN_POINT))


def cross_fit(pairs: JudgedPairs, required: Requirements) -> tuple[Floats, Flags]:
    """Score and judge each half of the pairs with a calibration that was fitted on the other half.

    So the result says what the calibration is worth on new pairs. No group is in both halves. The scores are divided
    by the operating point of their calibration, because the two points differ.
    """
    halves = split_in_halves(pairs.groups)
    scores = np.zeros(len(halves))
    for half in (0, 1):
        rows = halves == half
        fitted = calibrate(pairs.select(~rows), required)
        scores[rows] = fitted.scores(pairs.select(rows)) / fitted.point
    return scores, scores >= 1


def split_in_halves(groups: Names) -> Integers:
    """Assign each group to half 0 or half 1, by a hash of its name."""
    return np.array([hashlib.sha256(group.encode()).digest()[0] % 2 for group in groups])


def balance(kinds: Names) -> Floats:
    """Weigh the pairs so that each kind has the same total weight. The mean weight is 1."""
    names, inverse, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    return np.asarray(len(kinds) / len(names) / counts[inverse])


def precise_threshold(scores: Floats, labels: Integers, precision: float) -> float:
    """Find the lowest threshold at which this share of the accepted pairs is true. Infinite if there is none."""
    order = np.argsort(-scores, kind="stable")
    shares = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(scores[order][1:] < scores[order][:-1], True)
    enough = np.flatnonzero((shares >= precision) & last_of_ties)
    return float(scores[order][enough[-1]]) if len(enough) else np.inf


def regress(x: Floats, labels: Integers, weights: Floats) -> Floats:
    """Fit a logistic regression that predicts the labels from the columns of `x`, and return its coefficients."""
    coefficients = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        probability = sigmoid(x @ coefficients)
        gradient = x.T @ (weights * (labels - probability)) - RIDGE * coefficients
        curvature = weights * probability * (1 - probability)
        hessian = (x * curvature[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
        coefficients = coefficients + np.linalg.solve(hessian, gradient)
    return np.asarray(coefficients)


def sigmoid(logits: Floats) -> Floats:
    """Convert logits to probabilities."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -MAX_LOGIT, MAX_LOGIT))))
