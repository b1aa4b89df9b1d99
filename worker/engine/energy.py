"""What painting costs in joules: a GPU's own counter where it has one, else an estimate that is called one.

Knows neither pictures nor queues.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

log = logging.getLogger(__name__)

CPU_WATTS, GPU_WATTS = 10.0, 350.0  # of one busy core, and of a GPU at work: assumed where nothing can be measured


class Meter:
    """Joules of a device since some moment; `measured` by the device itself, or estimated.

    It tells what all have used, so those who use it at the same time share that.
    """

    def __init__(self, joules: Callable[[], float], *, measured: bool) -> None:
        self.joules, self.measured = joules, measured
        self.lock = threading.Lock()
        self.shares: list[list[float]] = []  # of those who use it now
        self.seen = 0.0

    @contextmanager
    def used(self) -> Iterator[Callable[[], float]]:
        """Joules of one's own since it began, as a function."""
        mine = [0.0]
        with self.lock:
            self.settle()
            self.shares.append(mine)
        try:
            yield lambda: self.share_of(mine)
        finally:
            with self.lock:
                self.settle()
                self.shares = [share for share in self.shares if share is not mine]

    def share_of(self, mine: list[float]) -> float:
        """What has come together there by now."""
        with self.lock:
            self.settle()
        return mine[0]

    def settle(self) -> None:
        """Share in equal parts what was used since the last time; for whoever holds the lock."""
        now = self.joules()
        for share in self.shares:
            share[0] += (now - self.seen) / len(self.shares)
        self.seen = now


@cache
def open_meter(device: str, watts: float | None = None) -> Meter:
    """Of `cpu` or `cuda:N`, the same for all of this process.

    Estimates are `watts` for each second of a core's work, or of a GPU's time.
    """
    if not device.startswith("cuda"):
        return Meter(lambda: (watts or CPU_WATTS) * time.process_time(), measured=False)
    try:
        return Meter(nvml_counter(int(device.partition(":")[2] or 0)), measured=True)
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("the GPU's energy counter cannot be read, so energy is estimated: %s", error)
        return Meter(lambda: (watts or GPU_WATTS) * time.monotonic(), measured=False)


def nvml_counter(number: int) -> Callable[[], float]:
    """nvmlDeviceGetTotalEnergyConsumption (Volta and newer): millijoules since the driver was loaded.

    Of the whole card, whoever uses it. It moves every 20 to 100 ms: rough for single steps, right for sums. Raises
    RuntimeError where there is no such counter.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise RuntimeError(f"NVML: {error}") from error
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
