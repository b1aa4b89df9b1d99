"""Quantized weights: fewer bytes, nearly the same product, each row independent of the others."""

import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.quantize import logging_untouched, quantize

WEIGHTS = np.random.default_rng(1).normal(size=(64, 48)).astype(np.float32)
ROWS = np.random.default_rng(2).normal(size=(5, 64)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    """An ONNX file with one matrix product."""
    product = helper.make_node("MatMul", ["x", "weights"], ["y"])
    inputs, outputs = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", w]) for n, w in (("x", 64), ("y", 48))
    )
    graph = helper.make_graph(
        [product], "product", [inputs], [outputs], [numpy_helper.from_array(WEIGHTS, "weights")]
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def run(path, rows):
    return onnxruntime.InferenceSession(path).run(None, {"x": rows})[0]


def test_the_product_stays_nearly_the_same_in_less_than_a_third_of_the_bytes(file):
    exact, before = run(file, ROWS), file.stat().st_size
    quantize(file)
    assert 0 < np.abs(run(file, ROWS) - exact).max() < 0.02 * np.abs(exact).max()
    assert file.stat().st_size < before / 3


def test_a_row_gives_the_same_result_alone_and_in_a_batch(file):
    quantize(file)
    assert np.array_equal(run(file, ROWS), np.concatenate([run(file, row[None]) for row in ROWS]))


def test_an_import_cannot_configure_logging():
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        root.handlers.clear()
        with logging_untouched():
            logging.basicConfig(level=logging.DEBUG)
        assert root.level == level and root.handlers == []
    finally:
        root.handlers[:] = handlers
