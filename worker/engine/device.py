"""Where networks calculate and in which numbers, and what makes them faster there.

A worker that is to use a GPU and finds none ends; it never paints on the CPU in silence. Knows torch.
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
KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Device:
    """For example cuda:0 and bfloat16."""

    name: str
    kind: torch.dtype

    def __str__(self) -> str:
        """For a picture's record."""
        return f"{self.name} {str(self.kind).removeprefix('torch.')}"

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.name.startswith("cuda")

    @property
    def free(self) -> int:
        """Bytes of memory that nobody uses now, torch's own reserve included."""
        if self.cuda:
            reserve = torch.cuda.memory_reserved(self.name) - torch.cuda.memory_allocated(self.name)
            return int(torch.cuda.mem_get_info(self.name)[0]) + reserve
        return int(psutil.virtual_memory().available)

    def take(self, module: Any) -> Any:
        """The module here, laid out as this device likes it."""
        module = module.to(self.name, self.kind)
        if self.cuda:
            module = module.to(memory_format=torch.channels_last)
        return module


def open_device(name: str = AUTO, kind: str = AUTO) -> Device:
    """`auto`, `cpu`, `cuda` or `cuda:N`, and `auto` or one of KINDS; raises BadSetup naming what is missing.

    Automatic is the first GPU in bfloat16 where there is one, else the CPU in float32.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == AUTO:
        name = "cuda" if there else "cpu"
    if name.startswith("cuda"):
        name = check_gpu(name, there)
    elif name != "cpu":
        raise BadSetup(f"WORKER_DEVICE={name}: it must be auto, cpu, cuda or cuda:N")
    if kind == AUTO:
        kind = "bfloat16" if name != "cpu" else "float32"
    if kind not in KINDS:
        raise BadSetup(f"WORKER_DTYPE={kind}: it must be auto or one of {', '.join(KINDS)}")
    return Device(name, KINDS[kind])


def check_gpu(name: str, there: int) -> str:
    """cuda:N of a GPU that is there; raises BadSetup."""
    number = name.removeprefix("cuda").removeprefix(":") or "0"
    if not number.isdecimal():
        raise BadSetup(f"WORKER_DEVICE={name}: it must be auto, cpu, cuda or cuda:N")
    if int(number) >= there:
        found = f"there are {there}" if there else "torch sees none (nvidia-smi must, and torch be a build for CUDA)"
        raise BadSetup(f"WORKER_DEVICE={name}: no such GPU, {found}; WORKER_DEVICE=cpu paints on the CPU")
    return f"cuda:{number}"


def check_memory(model: str, numbers: int, device: Device) -> None:
    """Raise BadSetup if so many weights do not fit into what is free; what painting takes besides is not known."""
    wanted, free = numbers * device.kind.itemsize, device.free
    if wanted > free:
        wants, there, lacks = (f"{size / 2**30:.1f} GiB" for size in (wanted, free, wanted - free))
        raise BadSetup(
            f"{model} wants {wants} on {device} for its weights alone, {there} are free, {lacks} too few:"
            " end what else uses it, take a smaller model or a larger device"
        )


def weights_in(folder: Path) -> int:
    """How many numbers the safetensors files of a folder hold; of a part in several variants the largest counts."""
    parts: dict[Path, int] = {}
    for path in folder.rglob("*.safetensors"):
        if ADAPTERS not in path.relative_to(folder).parts:
            parts[path.parent] = max(parts.get(path.parent, 0), numbers_in(path))
    return sum(parts.values())


def numbers_in(path: Path) -> int:
    """Of one file, by its header."""
    with safe_open(path, "pt") as opened:
        return sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())
