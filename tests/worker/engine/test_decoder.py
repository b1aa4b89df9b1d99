"""Decoding for all who wait, in few calls; each gets its own picture, or its own error."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from worker.engine.decoder import MOST, Decoder


class Slow:
    """Doubles, and notes how many came at once; the first call waits until it may go on."""

    def __init__(self):
        self.widths, self.go_on = [], threading.Event()

    def __call__(self, latents):
        self.widths.append(len(latents))
        assert self.go_on.wait(10)
        if (latents < 0).any():
            raise ValueError("negative")
        return 2 * latents


def asked(decoder, slow, numbers, **how):
    """All of them in threads of their own, the first a moment ahead."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        first = pool.submit(decoder, torch.full((1, 4, 2, 2), float(numbers[0])), **how)
        while not slow.widths:
            time.sleep(0.001)
        rest = [pool.submit(decoder, torch.full((1, 4, 2, 2), float(number)), **how) for number in numbers[1:]]
        while not how and len(decoder.waiting) < len(rest):
            time.sleep(0.001)
        slow.go_on.set()
        return [first, *rest]


def test_who_waits_meanwhile_is_served_together():
    slow = Slow()
    found = asked(Decoder(slow), slow, range(7))
    assert [int(one.result()[0, 0, 0, 0]) for one in found] == [0, 2, 4, 6, 8, 10, 12]
    assert slow.widths == [1, MOST, 2]


def test_pictures_of_different_sizes_are_decoded_apart(caplog):
    slow = Slow()
    decoder = Decoder(slow)
    sizes = [(2, 2), (2, 2), (4, 2), (2, 2), (4, 2)]
    with ThreadPoolExecutor(len(sizes)) as pool:
        first = pool.submit(decoder, torch.ones(1, 4, *sizes[0]))
        while not slow.widths:
            time.sleep(0.001)
        rest = [pool.submit(decoder, torch.ones(1, 4, *size)) for size in sizes[1:]]
        while len(decoder.waiting) < len(rest):
            time.sleep(0.001)
        slow.go_on.set()
    assert [one.result().shape[2:] for one in [first, *rest]] == sizes
    assert slow.widths == [1, 2, 2] and caplog.text == ""


def test_a_faulty_one_fails_alone(caplog):
    slow = Slow()
    found = asked(Decoder(slow), slow, [1, 2, -3, 4])
    with pytest.raises(ValueError, match="negative"):
        found[2].result()
    assert [int(found[place].result().max()) for place in (0, 1, 3)] == [2, 4, 8]
    assert "decoding 3 pictures at once failed" in caplog.text


def test_alone_is_alone():
    slow = Slow()
    found = asked(Decoder(slow), slow, range(5), alone=True)
    assert [int(one.result().max()) for one in found] == [0, 2, 4, 6, 8] and slow.widths == [1] * 5
