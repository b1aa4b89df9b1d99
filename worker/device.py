"""Where networks calculate and in which numbers, and what makes them faster there.

A worker that is to use a GPU and finds none ends; it never paints on the CPU in silence. Knows torch.
"""

from dataclasses import dataclass
from typing import Any

import torch

from memo import BadSetup

KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"


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

    def take(self, module: Any) -> Any:
        """The module here, laid out as this device likes it."""
        module = module.to(self.name, self.kind)
        if self.cuda:
            module = module.to(memory_format=torch.channels_last)
            if hasattr(module, "fuse_qkv_projections"):
                module.fuse_qkv_projections()
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


def compiled(module: Any, device: Device) -> Any:
    """The module as `torch.compile` makes it; each new number of rows takes a minute once.

    Without CUDA graphs, for those that torch records belong to the thread that recorded them.
    """
    mode = "max-autotune-no-cudagraphs" if device.cuda else "default"
    return torch.compile(module, mode=mode, dynamic=False)
