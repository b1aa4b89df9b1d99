"""Decoding several pictures in one call; each caller gets its own picture or its own error."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from worker.engine.decoder import MAX_BATCH, Decoder


class SlowDecoder:
    """A decoder that doubles its input and records the batch sizes; its first call waits for `go_on`."""

    def __init__(self):
        self.batch_sizes, self.go_on = [], threading.Event()

    def __call__(self, latents):
        self.batch_sizes.append(len(latents))
        assert self.go_on.wait(10)
        if (latents < 0).any():
            raise ValueError("negative")
        return 2 * latents


def decode_all(decoder, slow, numbers, **options):
    """Decode latents of each number in its own thread, the first a moment ahead; returns the finished futures."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        first = pool.submit(decoder, torch.full((1, 4, 2, 2), float(numbers[0])), **options)
        while not slow.batch_sizes:
            time.sleep(0.001)
        rest = [pool.submit(decoder, torch.full((1, 4, 2, 2), float(number)), **options) for number in numbers[1:]]
        while not options and len(decoder.waiting) < len(rest):
            time.sleep(0.001)
        slow.go_on.set()
        return [first, *rest]


def test_pictures_that_arrive_during_a_call_are_decoded_together():
    slow = SlowDecoder()
    futures = decode_all(Decoder(slow), slow, range(7))
    assert [int(future.result()[0, 0, 0, 0]) for future in futures] == [0, 2, 4, 6, 8, 10, 12]
    assert slow.batch_sizes == [1, MAX_BATCH, 2]


def test_pictures_of_different_sizes_are_decoded_separately(caplog):
    slow = SlowDecoder()
    decoder = Decoder(slow)
    sizes = [(2, 2), (2, 2), (4, 2), (2, 2), (4, 2)]
    with ThreadPoolExecutor(len(sizes)) as pool:
        first = pool.submit(decoder, torch.ones(1, 4, *sizes[0]))
        while not slow.batch_sizes:
            time.sleep(0.001)
        rest = [pool.submit(decoder, torch.ones(1, 4, *size)) for size in sizes[1:]]
        while len(decoder.waiting) < len(rest):
            time.sleep(0.001)
        slow.go_on.set()
    assert [future.result().shape[2:] for future in [first, *rest]] == sizes
    assert slow.batch_sizes == [1, 2, 2] and caplog.text == ""


def test_faulty_latents_fail_alone(caplog):
    slow = SlowDecoder()
    futures = decode_all(Decoder(slow), slow, [1, 2, -3, 4])
    with pytest.raises(ValueError, match="negative"):
        futures[2].result()
    assert [int(futures[row].result().max()) for row in (0, 1, 3)] == [2, 4, 8]
    assert "decoding 3 pictures at once failed" in caplog.text


def test_reproducible_latents_get_a_call_of_their_own():
    slow = SlowDecoder()
    futures = decode_all(Decoder(slow), slow, range(5), reproducible=True)
    assert [int(future.result().max()) for future in futures] == [0, 2, 4, 6, 8] and slow.batch_sizes == [1] * 5
