"""Networks are weighed and the operating point is chosen so that it holds in the worst kind of pairs."""

import numpy as np
import pytest

from memo.errors import BadSetup
from memo.judge.learned import UNWEIGHED_HINT
from training.judge.calibration import (
    Calibration,
    Measured,
    balance,
    calibrate,
    cross_fit,
    halves_of,
    precise_threshold,
)

PRECISE = ("real",)


def draw(seed=1, pairs=4000, *, kind="captions", slopes=(0.7, 0.35), offset=-1.0):
    """Logits of two networks, and labels that follow a known combination of them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (len(slopes), pairs))
    labels = random.random(pairs) < 1 / (1 + np.exp(-(np.array(slopes) @ logits + offset)))
    nobody = np.zeros(pairs, bool)
    groups = np.array([f"{kind} {row // 4}" for row in range(pairs)])
    return Measured(
        logits, nobody[None].copy(), labels.astype(int), np.array([kind] * pairs), groups, nobody, nobody.copy()
    )


def join(*parts):
    return Measured(
        np.concatenate([part.logits for part in parts], 1),
        np.concatenate([part.hints for part in parts], 1),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "kinds", "groups", "vetoed", "accepted")
        ),
    )


def test_weights_slope_and_offset_are_recovered():
    fitted = calibrate(draw(), 0.01, 0.95, ())
    assert fitted.weights == pytest.approx([2 / 3, 1 / 3], abs=0.05) and fitted.weights.sum() == pytest.approx(1)
    assert fitted.slope == pytest.approx(1.05, abs=0.1) and fitted.offset == pytest.approx(-1, abs=0.15)


def test_a_network_that_knows_nothing_has_hardly_any_weight():
    assert calibrate(draw(slopes=(0.7, -0.2)), 0.01, 0.95, ()).weights[1] < 0.02


def test_a_hint_lowers_the_sum_as_the_pairs_show():
    measured = draw(pairs=8000)
    measured.hints[0] = np.arange(8000) % 4 == 0
    measured.labels[measured.hints[0] & (np.arange(8000) % 8 == 0)] = 0  # half of the true pairs with a hint
    assert -3 < calibrate(measured, 0.01, 0.95, ()).hints[0] < -0.3


def test_a_hint_that_is_too_rare_to_be_weighed_is_nearly_a_veto():
    measured = draw()
    measured.hints[0, :10] = True
    assert calibrate(measured, 0.01, 0.95, ()).hints[0] == UNWEIGHED_HINT


def test_the_point_holds_in_the_worst_kind():
    worse = draw(2, kind="real", slopes=(0.2, 0.1))
    measured = join(draw(), worse)
    fitted = calibrate(measured, 0.01, 0.95, ())
    passed = fitted.scores(measured) >= fitted.threshold
    shares = [passed[(measured.kinds == kind) & (measured.labels == 0)].mean() for kind in ("captions", "real")]
    assert max(shares) == pytest.approx(0.01, abs=0.002) and min(shares) < 0.005


def test_precise_kinds_are_precise_enough():
    measured = draw(kind="real", slopes=(0.2, 0.1))
    loose, strict = (calibrate(measured, 0.2, 0.95, precise) for precise in ((), PRECISE))
    assert strict.threshold > loose.threshold
    assert measured.labels[strict.scores(measured) >= strict.threshold].mean() >= 0.95


def test_a_precision_that_no_threshold_reaches_is_refused():
    measured = draw(kind="real")
    measured.labels[:] = 0
    with pytest.raises(BadSetup, match="at no threshold are 95% of the real pairs that pass true"):
        calibrate(measured, 0.01, 0.95, PRECISE)


def test_precision_counts_tied_pairs_together():
    scores, labels = np.array([0.9, 0.8, 0.8, 0.7]), np.array([1, 1, 0, 1])
    assert precise_threshold(scores, labels, 0.7) == 0.7
    assert precise_threshold(scores, labels, 0.8) == 0.9
    assert precise_threshold(scores, 1 - labels, 0.8) == np.inf


def test_vetoed_pairs_score_low_and_accepted_ones_highest():
    measured = draw(pairs=3)
    measured.vetoed[0] = measured.accepted[1] = True
    vetoed, accepted, _ = Calibration(np.array([0.5, 0.5]), np.zeros(1), 1.0, 0.0, 0.5).scores(measured)
    assert vetoed <= 0.01 and accepted == 1


def test_the_networks_are_weighed_on_pairs_that_the_rules_leave_to_them():
    measured, ruled = draw(), draw(3)
    ruled.logits[:] = 9  # of near misses, which the rules veto
    ruled.labels[:], ruled.vetoed[:] = 0, True
    assert calibrate(join(measured, ruled), 0.01, 0.95, ()).weights == pytest.approx([2 / 3, 1 / 3], abs=0.05)


def test_all_kinds_count_alike():
    weights = balance(np.array(["a", "a", "a", "b"]))
    assert weights == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2]) and weights.mean() == pytest.approx(1)


def test_each_half_is_measured_with_what_was_fitted_on_the_other():
    measured = draw()
    scores, passed = cross_fit(measured, 0.01, 0.95, ())
    assert (passed == (scores >= 1)).all()
    assert 0 < passed[measured.labels == 0].mean() < 0.03
    by_half = {half: calibrate(measured.part(halves_of(measured) != half), 0.01, 0.95, ()) for half in (0, 1)}
    for half, fitted in by_half.items():
        rows = halves_of(measured) == half
        assert scores[rows] == pytest.approx(fitted.scores(measured.part(rows)) / fitted.threshold)
