"""Networks are weighed and the operating point is chosen so that it holds in the worst kind of pairs."""

from dataclasses import replace

import numpy as np
import pytest

from memo.errors import BadSetup
from training.judge.calibration import (
    Calibration,
    JudgedPairs,
    Requirements,
    balance,
    calibrate,
    cross_fit,
    precise_threshold,
    split_in_halves,
)

LOOSE = Requirements(0.01, 0.95)
STRICT = Requirements(0.01, 0.95, ("real",))


def draw(seed=1, size=4000, *, kind="captions", slopes=(0.7, 0.35), offset=-1.0):
    """Logits of two networks, and labels that follow a known combination of them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (len(slopes), size))
    labels = random.random(size) < 1 / (1 + np.exp(-(np.array(slopes) @ logits + offset)))
    nobody = np.zeros(size, bool)
    groups = np.array([f"{kind} {row // 4}" for row in range(size)])
    return JudgedPairs(
        logits, nobody[None].copy(), labels.astype(int), np.array([kind] * size), groups, nobody, nobody.copy()
    )


def join(*parts):
    return JudgedPairs(
        np.concatenate([part.logits for part in parts], 1),
        np.concatenate([part.hints for part in parts], 1),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "kinds", "groups", "vetoed", "accepted")
        ),
    )


def test_weights_slope_and_offset_are_recovered():
    fitted = calibrate(draw(), LOOSE)
    assert fitted.weights == pytest.approx([2 / 3, 1 / 3], abs=0.05) and fitted.weights.sum() == pytest.approx(1)
    assert fitted.slope == pytest.approx(1.05, abs=0.1) and fitted.offset == pytest.approx(-1, abs=0.15)


def test_a_network_that_knows_nothing_has_hardly_any_weight():
    assert calibrate(draw(slopes=(0.7, -0.2)), LOOSE).weights[1] < 0.02


def test_a_hint_lowers_the_sum_as_the_pairs_show():
    pairs = draw(size=8000)
    pairs.hints[0] = np.arange(8000) % 4 == 0
    pairs.labels[pairs.hints[0] & (np.arange(8000) % 8 == 0)] = 0  # half of the true pairs with a hint
    assert -3 < calibrate(pairs, LOOSE).hints[0] < -0.3


def test_a_hint_that_is_too_rare_to_be_weighed_becomes_a_veto():
    pairs = draw()
    pairs.hints[0, :10] = True
    fitted = calibrate(pairs, LOOSE)
    assert np.isnan(fitted.hints[0]) and fitted.scores(pairs)[:10].max() <= 0.01


def test_the_point_holds_in_the_worst_kind():
    worse = draw(2, kind="real", slopes=(0.2, 0.1))
    pairs = join(draw(), worse)
    fitted = calibrate(pairs, LOOSE)
    passed = fitted.scores(pairs) >= fitted.point
    shares = [passed[(pairs.kinds == kind) & (pairs.labels == 0)].mean() for kind in ("captions", "real")]
    assert max(shares) == pytest.approx(0.01, abs=0.002) and min(shares) < 0.005


def test_precise_kinds_are_precise_enough():
    pairs = draw(kind="real", slopes=(0.2, 0.1))
    loose, strict = (calibrate(pairs, replace(which, false_hits=0.2)) for which in (LOOSE, STRICT))
    assert strict.point > loose.point
    assert pairs.labels[strict.scores(pairs) >= strict.point].mean() >= 0.95


def test_a_precision_that_no_threshold_reaches_is_refused():
    pairs = draw(kind="real")
    pairs.labels[:] = 0
    with pytest.raises(BadSetup, match="no operating point has a precision of 95% on the real pairs"):
        calibrate(pairs, STRICT)


def test_precision_counts_tied_pairs_together():
    scores, labels = np.array([0.9, 0.8, 0.8, 0.7]), np.array([1, 1, 0, 1])
    assert precise_threshold(scores, labels, 0.7) == 0.7
    assert precise_threshold(scores, labels, 0.8) == 0.9
    assert precise_threshold(scores, 1 - labels, 0.8) == np.inf


def test_vetoed_pairs_score_low_and_accepted_ones_highest():
    pairs = draw(size=3)
    pairs.vetoed[0] = pairs.accepted[1] = True
    vetoed, accepted, _ = Calibration(np.array([0.5, 0.5]), np.zeros(1), 1.0, 0.0, 0.5).scores(pairs)
    assert vetoed <= 0.01 and accepted == 1


def test_the_networks_are_weighed_on_pairs_that_the_rules_leave_to_them():
    pairs, ruled = draw(), draw(3)
    ruled.logits[:] = 9  # of near misses, which the rules veto
    ruled.labels[:], ruled.vetoed[:] = 0, True
    assert calibrate(join(pairs, ruled), LOOSE).weights == pytest.approx([2 / 3, 1 / 3], abs=0.05)


def test_all_kinds_count_alike():
    weights = balance(np.array(["a", "a", "a", "b"]))
    assert weights == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2]) and weights.mean() == pytest.approx(1)


def test_each_half_is_pairs_with_what_was_fitted_on_the_other():
    pairs = draw()
    scores, passed = cross_fit(pairs, LOOSE)
    assert (passed == (scores >= 1)).all()
    assert 0 < passed[pairs.labels == 0].mean() < 0.03
    by_half = {half: calibrate(pairs.select(split_in_halves(pairs.groups) != half), LOOSE) for half in (0, 1)}
    for half, fitted in by_half.items():
        rows = split_in_halves(pairs.groups) == half
        assert scores[rows] == pytest.approx(fitted.scores(pairs.select(rows)) / fitted.point)
