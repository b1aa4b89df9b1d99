"""The energy that painting takes, in joules: from a GPU's own counter if it has one, otherwise an estimate.

Knows neither pictures nor queues.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

log = logging.getLogger(__name__)

CPU_WATTS, GPU_WATTS = 10.0, 350.0  # assumed power of one busy core and of a busy GPU, if it cannot be measured


class Meter:
    """A device's energy counter in joules; `measured` by the device itself, or estimated.

    The counter covers the whole device, so simultaneous uses share its energy in equal parts.
    """

    def __init__(self, joules: Callable[[], float], *, measured: bool) -> None:
        self.joules, self.measured = joules, measured
        self.lock = threading.Lock()
        self.shares: list[list[float]] = []  # one number per current use
        self.last_joules = 0.0

    @contextmanager
    def measure(self) -> Iterator[Callable[[], float]]:
        """Measure one use of the device; yields a function that returns its energy so far, in joules."""
        share = [0.0]
        with self.lock:
            self.distribute()
            self.shares.append(share)
        try:
            yield lambda: self.read(share)
        finally:
            with self.lock:
                self.distribute()
                self.shares = [other for other in self.shares if other is not share]

    def read(self, share: list[float]) -> float:
        """Energy accumulated so far in a share, in joules."""
        with self.lock:
            self.distribute()
        return share[0]

    def distribute(self) -> None:
        """Divide the energy since the last call among the current uses; the caller must hold the lock."""
        joules = self.joules()
        for share in self.shares:
            share[0] += (joules - self.last_joules) / len(self.shares)
        self.last_joules = joules


@cache
def open_meter(device: str, watts: float | None = None) -> Meter:
    """The meter of `cpu` or `cuda:N`; one per device in this process.

    An estimate is `watts` per second of processor time, or per second of wall-clock time on a GPU.
    """
    if not device.startswith("cuda"):
        return Meter(lambda: (watts or CPU_WATTS) * time.process_time(), measured=False)
    try:
        return Meter(nvml_counter(int(device.partition(":")[2] or 0)), measured=True)
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("cannot read the GPU's energy counter, so energy is estimated: %s", error)
        return Meter(lambda: (watts or GPU_WATTS) * time.monotonic(), measured=False)


def nvml_counter(number: int) -> Callable[[], float]:
    """A function that reads a GPU's counter in joules, by nvmlDeviceGetTotalEnergyConsumption (Volta and newer).

    NVML counts millijoules of the whole card since the driver was loaded, for all programs. The counter is updated
    every 20 to 100 ms: rough for single steps, right for sums. Raises RuntimeError if there is no such counter.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise RuntimeError(f"NVML: {error}") from error
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
