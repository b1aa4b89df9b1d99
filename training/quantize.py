"""Quantize the weights of an ONNX file to eight bits, in one of two ways.

`quantize` halves the time of a model that reads few tokens. Each row of weights has a scale for every 32 numbers. At
run time the states of each token are quantized the same way, so the result for a token does not depend on the rest of
the batch. The operator is MatMulNBits with accuracy level 4:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits

`quantize_per_run` makes a model twice as fast again. Each column of weights has one scale, and so have all inputs of
a matrix product, so a result depends a little on what else is in the same run. Weights have seven bits: with eight,
processors without VNNI would overflow.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

BITS = 8
BLOCK = 32  # numbers that share a scale
ACCURACY_LEVEL = 4  # states are rounded to eight bits as well


@contextmanager
def logging_untouched() -> Iterator[None]:
    """Keep an import from configuring the root logger: `basicConfig` does nothing where a handler exists."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


# ONNX Runtime reads it when it is imported. Otherwise it writes a device id to ~/.cache and reports to Microsoft.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
with logging_untouched():
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # it logs every node


def quantize(path: Path) -> None:
    """Round the weights of all matrix products in the file, in place."""
    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=True, accuracy_level=ACCURACY_LEVEL, bits=BITS
    )
    quantizer = MatMulNBitsQuantizer(onnx.load(path), algo_config=config)
    quantizer.process()
    onnx.save(quantizer.model.model, path)


def quantize_per_run(path: Path) -> None:
    """Round the weights of all matrix products in the file, in place, and the inputs of each at run time."""
    quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
