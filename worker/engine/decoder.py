"""Latents to pictures outside the step loop, one call of the autoencoder for all that wait meanwhile.

Paintings that end at about the same time are decoded together: on a GPU that is nearly as quick as one alone, and the
loop's steps are disturbed less often. Knows tensors.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MOST = 4  # at once: decoding needs more memory than a step
Decode = Callable[[Tensor], Tensor]  # (n, channels, h, w) to (n, 3, height, width)


class Decoder:
    """For several threads; whoever comes first when the autoencoder is free decodes for all who wait."""

    def __init__(self, decode: Decode, most: int = MOST) -> None:
        self.decode, self.most = decode, most
        self.free, self.lock = threading.Lock(), threading.Lock()
        self.waiting: list[tuple[Tensor, Future[Tensor]]] = []

    def __call__(self, latents: Tensor, *, alone: bool = False) -> Tensor:
        """(1, 3, height, width) of latents (1, channels, h, w); `alone`, so that the bits depend on nobody else."""
        if alone:
            with self.free:
                return self.decode(latents)
        mine: Future[Tensor] = Future()
        with self.lock:
            self.waiting.append((latents, mine))
        while not mine.done():
            with self.free:
                if not mine.done():
                    self.serve()
        return mine.result()

    def serve(self) -> None:
        """Decode for the first of one size who wait; if that fails, each alone, so that only the faulty one does."""
        with self.lock:
            size = self.waiting[0][0].shape
            batch = [entry for entry in self.waiting if entry[0].shape == size][: self.most]
            self.waiting = [entry for entry in self.waiting if not any(entry is one for one in batch)]
        try:
            found = self.decode(torch.cat([latents for latents, _ in batch]))
        except Exception as error:
            log.exception("decoding %d pictures at once failed", len(batch))
            self.one_by_one(batch, error)
            return
        for (_, future), picture in zip(batch, found, strict=True):
            future.set_result(picture[None])

    def one_by_one(self, batch: list[tuple[Tensor, Future[Tensor]]], error: Exception) -> None:
        """Each its own answer, or its own error."""
        for latents, future in batch:
            if len(batch) == 1:
                future.set_exception(error)
                return
            try:
                future.set_result(self.decode(latents))
            except Exception as own:
                log.exception("decoding one picture failed")
                future.set_exception(own)
