"""Threads that each process one part of a batch from start to end.

On a shared machine, threads that synchronise at every operation spend most of their time waiting for each other;
these synchronise once a step. The sum of two parts does not depend on their order, so runs stay exactly repeatable.
"""

from concurrent.futures import ThreadPoolExecutor

import torch


def open_pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads use one core each."""
    torch.set_num_threads(1)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
