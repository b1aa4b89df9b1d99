"""The bench of the index's engine, at a size where everything can be checked by hand."""

import numpy as np
import pytest

from bench.index import LIMIT, filters, ways

SIZE, WIDTH = 300, 16


@pytest.fixture(scope="module")
def kept():
    found = np.random.default_rng(1).standard_normal((SIZE, WIDTH)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def nearest(kept, asked):
    return [set(np.argsort(-(kept @ query))[:LIMIT].tolist()) for query in asked]


def test_without_a_graph_all_of_the_nearest_are_found_and_wrong_ones_are_counted(kept):
    asked = kept[:5]
    right = nearest(kept, asked)
    none = [{SIZE + 1} for _ in asked]
    assert [line["recall"] for line in ways(kept, asked, right, ())][:1] == [1.0]
    assert [line["recall"] for line in ways(kept, asked, none, ())][:1] == [0.0]


def test_a_graph_is_searched_as_widely_as_told(kept):
    told = [line for line in ways(kept, kept[:5], nearest(kept, kept[:5]), (8,)) if line["graph"] != "none"]
    assert [line["graph"] for line in told] == [f"m 8, ef {ef}" for ef in (32, 64, 128, 256)]
    assert all("built_s" in line and line["recall"] > 0.9 for line in told)


def test_every_filter_lets_all_points_pass(kept):
    assert [line["recall"] for line in filters(kept, kept[:5], nearest(kept, kept[:5]))] == [1.0, 1.0, 1.0]
