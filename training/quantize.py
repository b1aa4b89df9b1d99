"""Weights of eight bits in an ONNX file: half the time where weights are read for a few tokens only.

Each row of weights has a scale for every 32 numbers, and so have, while it runs, the states of every token: a token's
result does not depend on what else is computed with it. Knows no model. Product of MatMulNBits, level 4:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

BITS = 8
BLOCK = 32  # numbers that share a scale
STATES_TOO = 4  # accuracy level: states are rounded to eight bits as well


@contextmanager
def logging_untouched() -> Iterator[None]:
    """For imports that set up the whole process's logging: they leave it alone where it seems to be set up."""
    root, there = logging.getLogger(), logging.NullHandler()
    root.addHandler(there)
    try:
        yield
    finally:
        root.removeHandler(there)


with logging_untouched():
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # it tells of every node


def quantize(path: Path) -> None:
    """Round the weights of all matrix products in the file, in place."""
    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=STATES_TOO, bits=BITS)
    quantizer = MatMulNBitsQuantizer(onnx.load(path), algo_config=config)
    quantizer.process()
    onnx.save(quantizer.model.model, path)
