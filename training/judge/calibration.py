"""Weighs the networks of a judge and the hints of the rules, calibrates their sum, and chooses the operating point.

All of it is fitted on pairs that no network was trained on. The kinds of pairs are different worlds (captions,
everyday rewordings, real requests), so each counts alike, and the point must hold in the worst of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from memo.errors import BadSetup
from memo.judge.evaluation import threshold
from memo.judge.learned import UNWEIGHED_HINT, VETO_FACTOR

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.bool_]
RIDGE = 1e-3  # of the logistic regression
NEWTON_STEPS = 50
LEAST_WEIGHT = 0.01  # of a network, before they are scaled to a sum of 1
MIN_HINTED = 50  # pairs with a hint that are enough to weigh it
LEAST_POINT = 1e-6
LARGEST_LOGIT = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the networks and rules say of labelled pairs; all arrays have one entry (or column) for each pair."""

    logits: Floats  # (networks, pairs)
    hints: Rows  # (names of hints, pairs)
    labels: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    vetoed: Rows
    accepted: Rows  # by the rules

    def part(self, rows: Rows) -> "Measured":
        """These pairs alone."""
        return Measured(
            self.logits[:, rows],
            self.hints[:, rows],
            self.labels[rows],
            self.kinds[rows],
            self.groups[rows],
            self.vetoed[rows],
            self.accepted[rows],
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of networks (which sum to 1) and hints, slope and offset of their sum, and the operating point."""

    weights: Floats
    hints: Floats
    slope: float
    offset: float
    threshold: float

    def logits(self, measured: Measured) -> Floats:
        """The weighted sum of what networks and hints say of each pair."""
        return np.asarray(self.weights @ measured.logits + self.hints @ measured.hints)

    def scores(self, measured: Measured) -> Floats:
        """The score of each pair, vetoes included."""
        score = sigmoid(self.slope * self.logits(measured) + self.offset)
        score = np.where(measured.vetoed, score * VETO_FACTOR, score)
        return np.where(measured.accepted, 1.0, score)


def calibrate(measured: Measured, false_hits: float, precision: float, precise: Sequence[str]) -> Calibration:
    """Fit everything. In each kind, at most `false_hits` of the near misses pass.

    In the kinds named by `precise`, at least `precision` of what passes is true as well. Raises BadSetup if no
    threshold is high enough for that.
    """
    undecided = measured.part(~(measured.vetoed | measured.accepted))
    balanced, ones = balance(undecided.kinds), np.ones(len(undecided.labels))
    frequent = undecided.hints.sum(1) >= MIN_HINTED
    x = np.column_stack([*undecided.logits, *undecided.hints[frequent], ones])
    networks, hints, _ = np.split(regress(x, undecided.labels, balanced), [len(measured.logits), -1])
    networks = np.maximum(networks, LEAST_WEIGHT)
    hint_weights = np.full(len(frequent), UNWEIGHED_HINT)
    hint_weights[frequent] = np.minimum(hints / networks.sum(), 0)
    fitted = Calibration(networks / networks.sum(), hint_weights, 1.0, 0.0, 0.0)
    x = np.column_stack([fitted.logits(undecided), ones])
    slope, offset = map(float, regress(x, undecided.labels, balanced))
    fitted = replace(fitted, slope=slope, offset=offset)
    scores = fitted.scores(measured)
    points = []
    for kind in np.unique(measured.kinds):
        rows = measured.kinds == kind
        points.append(threshold(scores[rows], measured.labels[rows], false_hits))
        if kind in precise:
            points.append(precise_threshold(scores[rows], measured.labels[rows], precision))
            if np.isinf(points[-1]):
                raise BadSetup(f"at no threshold are {precision:.0%} of the {kind} pairs that pass true")
    return replace(fitted, threshold=float(np.clip(max(points), LEAST_POINT, 1 - LEAST_POINT)))


def cross_fit(measured: Measured, *options: object) -> tuple[Floats, Rows]:
    """Scores and decisions of each pair by a calibration on the other half; no group is in both halves.

    Scores are divided by the point of their half, so that they can be compared.
    """
    halves = halves_of(measured)
    scores = np.zeros(len(halves))
    for half in (0, 1):
        fitted = calibrate(measured.part(halves != half), *options)  # type: ignore[arg-type]
        rows = halves == half
        scores[rows] = fitted.scores(measured.part(rows)) / fitted.threshold
    return scores, scores >= 1


def halves_of(measured: Measured) -> npt.NDArray[np.int64]:
    """The half, 0 or 1, to which each pair belongs, by a hash of its group."""
    return np.array([hashlib.sha256(group.encode()).digest()[0] % 2 for group in measured.groups])


def balance(kinds: npt.NDArray[np.str_]) -> Floats:
    """Weights of the pairs with which all kinds count alike; their mean is 1."""
    names, inverse, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    return np.asarray(len(kinds) / len(names) / counts[inverse])


def precise_threshold(scores: Floats, labels: npt.NDArray[np.int64], precision: float) -> float:
    """The lowest threshold at which at least this share of what passes is true; infinite if there is none."""
    order = np.argsort(-scores, kind="stable")
    shares = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(scores[order][1:] < scores[order][:-1], True)
    enough = np.flatnonzero((shares >= precision) & last_of_ties)
    return float(scores[order][enough[-1]]) if len(enough) else np.inf


def regress(x: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """The coefficients of a weighted logistic regression of labels on the columns of `x`, by Newton's method."""
    coefficients = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        probability = sigmoid(x @ coefficients)
        gradient = x.T @ (weights * (labels - probability)) - RIDGE * coefficients
        curvature = weights * probability * (1 - probability)
        hessian = (x * curvature[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
        coefficients = coefficients + np.linalg.solve(hessian, gradient)
    return np.asarray(coefficients)


def sigmoid(logits: Floats) -> Floats:
    """Probabilities."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))))
