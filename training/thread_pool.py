"""Threads that each take a part of a batch from beginning to end.

On a machine that others use, too, threads that meet at every operation wait for each other most of the time; these
meet once a step. The sum of two parts does not depend on which comes first, so runs stay exactly repeatable.
"""

from concurrent.futures import ThreadPoolExecutor

import torch


def open_pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads compute with one core each."""
    torch.set_num_threads(1)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
