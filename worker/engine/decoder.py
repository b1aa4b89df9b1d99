"""Decodes latents to pictures outside the step loop, several in one call of the autoencoder.

Paintings that end at about the same time are decoded together: on a GPU that takes hardly longer than decoding one,
and it disturbs the loop's steps less often. Knows tensors.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MAX_BATCH = 4  # decoding needs more memory than a step
Decode = Callable[[Tensor], Tensor]  # (n, channels, h, w) to (n, 3, height, width)


class Decoder:
    """Decodes for several threads; the first thread to get the autoencoder decodes for all that are waiting."""

    def __init__(self, decode: Decode, max_batch: int = MAX_BATCH) -> None:
        self.decode, self.max_batch = decode, max_batch
        self.decoding, self.lock = threading.Lock(), threading.Lock()
        self.waiting: list[tuple[Tensor, Future[Tensor]]] = []

    def __call__(self, latents: Tensor, *, reproducible: bool = False) -> Tensor:
        """The picture (1, 3, height, width) of latents (1, channels, h, w).

        `reproducible` latents get a call of their own, so that no other picture can change the bits.
        """
        if reproducible:
            with self.decoding:
                return self.decode(latents)
        future: Future[Tensor] = Future()
        with self.lock:
            self.waiting.append((latents, future))
        while not future.done():
            with self.decoding:
                if not future.done():
                    self.decode_batch()
        return future.result()

    def decode_batch(self) -> None:
        """Decode the first waiting latents and others of their size; if that fails, decode each one alone."""
        with self.lock:
            size = self.waiting[0][0].shape
            batch = [entry for entry in self.waiting if entry[0].shape == size][: self.max_batch]
            self.waiting = [entry for entry in self.waiting if not any(entry is taken for taken in batch)]
        try:
            pictures = self.decode(torch.cat([latents for latents, _ in batch]))
        except Exception as error:
            log.exception("decoding %d pictures at once failed", len(batch))
            self.decode_each(batch, error)
            return
        for (_, future), picture in zip(batch, pictures, strict=True):
            future.set_result(picture[None])

    def decode_each(self, batch: list[tuple[Tensor, Future[Tensor]]], error: Exception) -> None:
        """Decode one by one after `error`, so that only faulty latents fail."""
        for latents, future in batch:
            if len(batch) == 1:
                future.set_exception(error)
                return
            try:
                future.set_result(self.decode(latents))
            except Exception as own_error:
                log.exception("decoding one picture failed")
                future.set_exception(own_error)
