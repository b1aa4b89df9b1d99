"""A denoising network as `torch.compile` makes it, for the shapes that it was prepared for.

Compiling takes up to minutes for each shape, and one stall is everybody's: so it is done before the first painting,
and what comes in another shape, or wearing an adapter, goes through the network as it is. Without CUDA graphs, for
those that torch records belong to the thread that recorded them. Knows tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

MODES = {"1": "default", "max": "max-autotune-no-cudagraphs"}
MOST = 64  # shapes of one network, beyond which torch would compile no more, and say little about it

Shapes = tuple[tuple[int, ...], ...]


class Compiled:
    """One network's compiled twin; `rows` are the numbers of rows that it is prepared for."""

    def __init__(self, network: nn.Module, mode: str) -> None:
        torch._dynamo.config.recompile_limit = MOST
        self.network = torch.compile(fused(twin(network)), mode=MODES[mode], dynamic=False)
        self.prepared: set[Shapes] = set()
        self.preparing = False

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Whatever shape comes meanwhile is compiled."""
        self.preparing = True
        try:
            yield
        finally:
            self.preparing = False

    def takes(self, tensors: list[Tensor]) -> bool:
        """Whether it is prepared for tensors of these shapes, or is to be now."""
        return self.preparing or shapes_of(tensors) in self.prepared

    def took(self, tensors: list[Tensor]) -> None:
        """It did what it was asked for with tensors of these shapes: from now on it is prepared for them."""
        self.prepared.add(shapes_of(tensors))

    @property
    def rows(self) -> list[int]:
        """In order, without repeats."""
        return sorted({first[0] for first, *_ in self.prepared})


def shapes_of(tensors: list[Tensor]) -> Shapes:
    """Of each."""
    return tuple(tuple(tensor.shape) for tensor in tensors)


def twin(network: nn.Module) -> Any:
    """The same modules over the same weights, so that adapters laid into the network are not in the twin.

    None is to be trained: adapters would say so of the weights later, and compiled code be thrown away for that.
    """
    network.requires_grad_(False)
    return deepcopy(network, {id(part): part for part in chain(network.parameters(), network.buffers())})


def fused(network: Any) -> Any:
    """With queries, keys and values of its attention in one product; an adapter on one of them would not count."""
    if hasattr(network, "fuse_qkv_projections"):
        network.fuse_qkv_projections()
    return network
