"""A judge's figures, compared with counts made by hand."""

import numpy as np
import pytest

from memo.judge.evaluation import auc, figures, share, threshold, wilson_interval
from memo.judge.labelled_pairs import Pair

HUNDRED = [row / 100 for row in range(100)]


def labelled(labels, kinds, sources=None):
    """Pairs of which only label, kind and source matter."""
    sources = sources or [""] * len(labels)
    return [Pair("a", "b", y, kind, "", source) for y, kind, source in zip(labels, kinds, sources, strict=True)]


@pytest.mark.parametrize(
    ("misses", "allowed", "passing"),
    [
        (HUNDRED, 0.01, [0.99]),
        (HUNDRED, 0.05, [0.95, 0.96, 0.97, 0.98, 0.99]),
        (HUNDRED, 0.0, []),
        (HUNDRED, 0.999, HUNDRED[1:]),
        (HUNDRED, 1.0, HUNDRED),
        ([0.1, 0.2, 0.3], 0.01, []),
        ([0.1, 0.2, 0.3, 0.4], 0.25, [0.4]),
        ([0.1, 0.9, 0.9, 0.9], 0.5, []),
        ([0.1, 0.2, 0.9, 0.9], 0.5, [0.9, 0.9]),
        ([0.0, 0.0, 0.0, 0.0], 0.5, []),
    ],
)
def test_at_most_the_allowed_share_of_near_misses_passes_and_ties_do_not(misses, allowed, passing):
    scores = np.array([0.5, *misses, 1.0])
    y = np.array([1, *(0 for _ in misses), 1])
    low = threshold(scores, y, allowed)
    assert [score for score in misses if score >= low] == passing


def test_the_threshold_is_the_lowest_that_keeps_to_the_share():
    scores, y = np.array([0.1, 0.4, 0.4, 0.41]), np.array([0, 0, 0, 1])
    assert threshold(scores, y, 0.34) == np.nextafter(0.4, 1)
    assert threshold(scores, y, 0.01) == np.nextafter(0.4, 1)
    assert threshold(scores, y, 0.67) == np.nextafter(0.1, 1)


@pytest.mark.parametrize(
    ("true", "misses", "area"),
    [
        ([0.8, 0.9], [0.1, 0.2], 1.0),
        ([0.1, 0.2], [0.8, 0.9], 0.0),
        ([0.5, 0.5], [0.5, 0.5, 0.5], 0.5),
        ([0.9, 0.4], [0.5, 0.1], 0.75),
        ([0.5], [0.5, 0.1], 0.75),
        ([0.9, 0.5, 0.5], [0.5, 0.2], 5 / 6),
        ([0.3], [0.1, 0.2, 0.3, 0.4], 2.5 / 4),
    ],
)
def test_the_auc_is_the_share_of_correctly_ordered_pairs_and_ties_count_half(true, misses, area):
    scores, y = np.array(true + misses), np.array([1] * len(true) + [0] * len(misses))
    assert auc(scores, y) == pytest.approx(area)
    assert auc(scores[::-1], y[::-1]) == pytest.approx(area)


def test_decisions_and_operating_points_are_counted_separately():
    pairs = labelled([1, 1, 1, 1, 0, 0, 0], ["colour", "colour", "number", "number", "colour", "number", "number"])
    measured = figures(
        scores=[0.9, 0.6, 0.4, 0.3, 0.7, 0.1, 0.2], fits=[True, False, True, False, True, False, False], pairs=pairs
    )
    kinds = measured.pop("kinds")
    assert measured.pop("sources") == {}
    assert measured == {
        "pairs": 7,
        "true_hit": 0.5,
        "false_hit": 0.3333,
        "true_hit_at_1pct": 0.25,
        "true_hit_at_5pct": 0.25,
        "precision_at_point": 0.6667,
        "auc": 0.75,
    }
    assert list(kinds) == ["colour", "number"]
    assert kinds["colour"] == {
        "pairs": 3,
        "true_hit": 0.5,
        "false_hit": 1.0,
        "true_hit_at_1pct": 0.5,
        "true_hit_at_5pct": 0.5,
    }
    assert kinds["number"] == {
        "pairs": 4,
        "true_hit": 0.5,
        "false_hit": 0.0,
        "true_hit_at_1pct": 0.0,
        "true_hit_at_5pct": 0.0,
    }


def test_each_source_has_figures_of_its_own_and_its_own_near_misses_set_its_points():
    """In the second source every near miss scores above every pair of the first."""
    pairs = labelled([1, 1, 0, 0, 1, 0, 1], [""] * 7, ["one", "one", "one", "one", "two", "two", ""])
    measured = figures([0.5, 0.3, 0.2, 0.1, 0.9, 0.8, 0.7], [True, False, False, False, True, True, True], pairs)
    one, two = measured["sources"]["one"], measured["sources"]["two"]
    assert list(measured["sources"]) == ["one", "two"]
    assert one == {
        "pairs": 4,
        "true_hit": 0.5,
        "false_hit": 0.0,
        "true_hit_at_1pct": 1.0,
        "true_hit_at_5pct": 1.0,
        "precision_at_point": 1.0,
        "auc": 1.0,
    }
    assert (two["precision_at_point"], two["auc"]) == (0.5, 1.0)
    assert (measured["true_hit_at_1pct"], measured["precision_at_point"]) == (0.25, 0.75)


def test_one_and_five_per_cent_refer_to_all_near_misses():
    true = [0.995, 0.985, 0.955, 0.945]
    measured = figures([*HUNDRED, *true], [False] * 104, labelled([0] * 100 + [1] * 4, ["a"] * 50 + ["b"] * 54))
    assert (measured["true_hit_at_1pct"], measured["true_hit_at_5pct"]) == (0.5, 1.0)
    assert measured["kinds"]["a"]["true_hit_at_5pct"] is None and measured["kinds"]["b"]["true_hit_at_5pct"] == 1.0


@pytest.mark.parametrize(("label", "present", "absent"), [(1, "true_hit", "false_hit"), (0, "false_hit", "true_hit")])
def test_figures_that_need_both_labels_are_none_without_them(label, present, absent):
    measured = figures([0.9, 0.1], [True, False], labelled([label, label], ["", ""]))
    assert measured[present] == measured["kinds"][""][present] == 0.5
    for name in (absent, "true_hit_at_1pct", "true_hit_at_5pct"):
        assert measured[name] is None and measured["kinds"][""][name] is None
    assert measured["auc"] is None and measured["pairs"] == 2


def test_the_share_of_nothing_is_none():
    assert (share(np.array([], bool)), share(np.array([True, False, False]))) == (None, 0.3333)


def test_the_wilson_interval_agrees_with_published_figures():
    """Figures from Newcombe 1998, table I (81 of 263; 15 of 148; 0 of 20; 1 of 29)."""
    for count, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(count, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)
