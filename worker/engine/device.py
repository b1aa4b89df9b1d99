"""The device and dtype that networks compute with.

A worker that is told to use a GPU and finds none stops; it never falls back to the CPU silently. Knows torch.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import safe_open

from jobs.models import ADAPTERS
from memo import BadSetup

AUTO = "auto"
CGROUP = Path("/sys/fs/cgroup")  # of version 2: inside a container, the container's own
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device and a dtype, for example cuda:0 and bfloat16."""

    name: str
    dtype: torch.dtype

    def __str__(self) -> str:
        """As in a picture's metadata, for example "cuda:0 bfloat16"."""
        return f"{self.name} {str(self.dtype).removeprefix('torch.')}"

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.name.startswith("cuda")

    @property
    def free_bytes(self) -> int:
        """Free memory in bytes, including what torch has reserved and not allocated."""
        if self.cuda:
            reserve = torch.cuda.memory_reserved(self.name) - torch.cuda.memory_allocated(self.name)
            return int(torch.cuda.mem_get_info(self.name)[0]) + reserve
        return free_main_memory()

    def move(self, module: Any) -> Any:
        """The module moved to this device and dtype, in the memory layout that is fastest there."""
        module = module.to(self.name, self.dtype)
        if self.cuda:
            module = module.to(memory_format=torch.channels_last)
        return module


def open_device(name: str = AUTO, dtype: str = AUTO) -> Device:
    """The device `cpu`, `cuda` or `cuda:N` in one of DTYPES; raises BadSetup if it is unknown or missing.

    `auto` means the first GPU in bfloat16 if there is one, and the CPU in float32 otherwise.
    """
    gpu_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == AUTO:
        name = "cuda" if gpu_count else "cpu"
    if name.startswith("cuda"):
        name = check_gpu(name, gpu_count)
    elif name != "cpu":
        raise BadSetup(f"WORKER_DEVICE={name}: it must be auto, cpu, cuda or cuda:N")
    if dtype == AUTO:
        dtype = "bfloat16" if name != "cpu" else "float32"
    if dtype not in DTYPES:
        raise BadSetup(f"WORKER_DTYPE={dtype}: it must be auto or one of {', '.join(DTYPES)}")
    return Device(name, DTYPES[dtype])


def check_gpu(name: str, gpu_count: int) -> str:
    """The name in the form cuda:N; raises BadSetup if there is no such GPU."""
    number = name.removeprefix("cuda").removeprefix(":") or "0"
    if not number.isdecimal():
        raise BadSetup(f"WORKER_DEVICE={name}: it must be auto, cpu, cuda or cuda:N")
    if int(number) >= gpu_count:
        reason = (
            f"there are {gpu_count}, numbered from 0"
            if gpu_count
            else "torch sees none (check that nvidia-smi lists it and that torch is a CUDA build)"
        )
        raise BadSetup(f"WORKER_DEVICE={name}: no such GPU, {reason}; WORKER_DEVICE=cpu paints on the CPU")
    return f"cuda:{number}"


def free_main_memory(cgroup: Path = CGROUP) -> int:
    """Free main memory in bytes, and at most what the container's limit leaves.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except OSError:
        return free
    if limit == "max":
        return free
    return min(free, int(limit) - int(used) + int(statistics["inactive_file"]))  # the kernel drops these files' pages


def check_memory(model: str, weight_count: int, device: Device) -> None:
    """Raise BadSetup if a model's weights exceed the free memory. What painting needs besides is not counted."""
    needed, free = weight_count * device.dtype.itemsize, device.free_bytes
    if needed > free:
        needs, has, lacks = (f"{size / 2**30:.1f} GiB" for size in (needed, free, needed - free))
        raise BadSetup(
            f"{model} needs {needs} on {device} for its weights alone, but {has} are free, which is {lacks} too few:"
            " stop other programs that use the device, or choose a smaller model or a larger device"
        )


def count_weights(folder: Path) -> int:
    """The number of weights in a folder's safetensors files, without adapters; of several variants, the largest."""
    parts: dict[Path, int] = {}
    for path in folder.rglob("*.safetensors"):
        if ADAPTERS not in path.relative_to(folder).parts:
            parts[path.parent] = max(parts.get(path.parent, 0), count_file_weights(path))
    return sum(parts.values())


def count_file_weights(path: Path) -> int:
    """The number of weights in one file, read from its header."""
    with safe_open(path, "pt") as opened:
        return sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())
