"""What painting costs in joules: a GPU's own counter where it has one, else an estimate that is called one.

Knows neither pictures nor queues.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

CPU_WATTS, GPU_WATTS = 10.0, 350.0  # of one busy core, and of a GPU at work: assumed where nothing can be measured


@dataclass(frozen=True, slots=True)
class Meter:
    """Joules since some moment; `measured` by the device itself, or estimated."""

    joules: Callable[[], float]
    measured: bool


def open_meter(device: str, watts: float | None = None) -> Meter:
    """Of `cpu` or `cuda:N`. Estimates are `watts` for each second of a core's work, or of a GPU's time."""
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
