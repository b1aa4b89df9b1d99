"""A denoising network compiled by `torch.compile`, for the shapes that it was prepared for.

Compiling takes up to minutes per shape, and would stall every painting: so it happens before the first painting. Any
other shape, and anything with an adapter, goes through the uncompiled network. CUDA graphs stay off, because torch
ties them to the thread that recorded them. Knows tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

MODES = {"1": "default", "max": "max-autotune-no-cudagraphs"}
RECOMPILE_LIMIT = 64  # shapes of one network; beyond its limit torch silently stops compiling

Shapes = tuple[tuple[int, ...], ...]


class CompiledNetwork:
    """The compiled copy of a network, and the input shapes that it is compiled for."""

    def __init__(self, network: nn.Module, mode: str) -> None:
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        self.network = torch.compile(fuse_projections(copy_sharing_weights(network)), mode=MODES[mode], dynamic=False)
        self.shapes: set[Shapes] = set()
        self.is_compiling = False

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Compile every new shape that is used in this context."""
        self.is_compiling = True
        try:
            yield
        finally:
            self.is_compiling = False

    def accepts(self, tensors: list[Tensor]) -> bool:
        """Whether it is compiled for tensors of these shapes, or may compile now."""
        return self.is_compiling or shapes_of(tensors) in self.shapes

    def record_call(self, tensors: list[Tensor]) -> None:
        """Remember the shapes of a successful call as compiled."""
        self.shapes.add(shapes_of(tensors))

    @property
    def row_counts(self) -> list[int]:
        """The numbers of rows that it is compiled for, ascending."""
        return sorted({first[0] for first, *_ in self.shapes})


def shapes_of(tensors: list[Tensor]) -> Shapes:
    """The shape of each tensor."""
    return tuple(tuple(tensor.shape) for tensor in tensors)


def copy_sharing_weights(network: nn.Module) -> Any:
    """A copy of the modules over the same weights: adapters that the original loads later are not in the copy.

    Gradients are turned off first: loading an adapter would turn them off later, and torch would discard the compiled
    code because of that change.
    """
    network.requires_grad_(False)
    return deepcopy(network, {id(part): part for part in chain(network.parameters(), network.buffers())})


def fuse_projections(network: Any) -> Any:
    """The network with queries, keys and values of its attention in one product; adapters no longer apply to it."""
    if hasattr(network, "fuse_qkv_projections"):
        network.fuse_qkv_projections()
    return network
