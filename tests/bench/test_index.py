"""The index bench, at a size where the right results are known."""

import numpy as np
import pytest

from bench.index import LIMIT, measure_filters, measure_graphs

SIZE, DIMENSION = 300, 16


@pytest.fixture(scope="module")
def vectors():
    raw = np.random.default_rng(1).standard_normal((SIZE, DIMENSION)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def find_nearest(vectors, queries):
    return [set(np.argsort(-(vectors @ query))[:LIMIT].tolist()) for query in queries]


def test_without_a_graph_recall_is_one_and_wrong_neighbours_make_it_zero(vectors):
    queries = vectors[:5]
    nearest = find_nearest(vectors, queries)
    wrong = [{SIZE + 1} for _ in queries]
    assert [line["recall"] for line in measure_graphs(vectors, queries, nearest, ())][:1] == [1.0]
    assert [line["recall"] for line in measure_graphs(vectors, queries, wrong, ())][:1] == [0.0]


def test_each_graph_is_measured_with_every_search_width(vectors):
    lines = measure_graphs(vectors, vectors[:5], find_nearest(vectors, vectors[:5]), (8,))
    graphs = [line for line in lines if line["graph"] != "none"]
    assert [line["graph"] for line in graphs] == [f"m 8, ef {ef}" for ef in (32, 64, 128, 256)]
    assert all("built_s" in line and line["recall"] > 0.9 for line in graphs)


def test_no_filter_excludes_a_point(vectors):
    lines = measure_filters(vectors, vectors[:5], find_nearest(vectors, vectors[:5]))
    assert [line["recall"] for line in lines] == [1.0, 1.0, 1.0]
