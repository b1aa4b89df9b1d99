"""Threads that each process one part of a batch from start to end.

On a shared machine, threads that synchronise at every operation spend most of their time waiting for each other;
these synchronise once a step. With two threads, runs stay exactly repeatable, because the sum of two parts does not
depend on their order.
"""

from concurrent.futures import ThreadPoolExecutor

import torch


def open_pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads use one core each. From then on, torch uses one core in the calling thread too."""
    torch.set_num_threads(1)
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
