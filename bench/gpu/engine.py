"""The step loop on an accelerator: Stable Diffusion 1.5 at 512 px and SDXL at 1024 px, with random weights.

    python bench/gpu/engine.py                   # on a GPU, from the repository's root; most of it is compiling
    python bench/gpu/engine.py --models toy      # anywhere: that it runs, not how fast

For each architecture: steps of 1 to 16 paintings, as they are and compiled; eight paintings of different steps,
samplers and guidance, one by one and together; the share of what a large matrix product of bfloat16 reaches, measured
here; and whether fixed paintings keep their bits in any company. The UNet alone: text and decoding stay out, as they
stay out of the loop.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import diffusers
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from bench.batching import CONFIG
from worker.painters.denoiser import Denoiser, Given
from worker.painters.device import Device, compiled, open_device
from worker.painters.loop import Loop, Ticket
from worker.painters.samplers import SAMPLERS, Tables
from worker.painters.width import Widths

SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SMALL = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
TOY = {
    **SMALL,
    "sample_size": 8,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
TOY_XL = {**TOY, "addition_embed_type": "text_time", "addition_time_embed_dim": 8}
TOY_XL["projection_class_embeddings_input_dim"] = 6 * 8 + 16
MODELS: dict[str, dict[str, Any]] = {"sd15": SD15, "sdxl": SDXL, "toy": TOY, "toy-xl": TOY_XL}
TOKENS, POOLED = 77, {"sdxl": 1280, "toy-xl": 16}
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16)
MIXED = ((4, "euler-a"), (8, "euler"), (20, "dpm++2m"), (20, "ddim"), (25, "dpm++2m"), (30, "euler"), (30, "ddim"))
STEPS = 30  # of the pictures that pictures per second counts
LOOKS = 7
ORDERS = 5


def main() -> None:
    """Print a line for each measurement; the last is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=("sd15", "sdxl"), choices=tuple(MODELS))
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    given = parser.parse_args()
    diffusers.logging.set_verbosity_error()
    device = open_device()
    told: dict[str, Any] = {"device": str(device), "torch": torch.__version__}
    if device.cuda:
        told["device"] = f"{torch.cuda.get_device_name()} {device}"
    told["matmul_tflops"] = round(matmul_rate(device) / 1e12, 3)
    compiling = device.cuda if given.compile is None else given.compile
    for name in given.models:
        bench = Bench(name, device, told["matmul_tflops"] * 1e12)
        for line in bench.lines(given.widths, compiling=compiling):
            told |= {f"{name}_{key}": value for key, value in line.items()}
            if not given.json:
                print(json.dumps({"model": name, **line}), flush=True)
    print(json.dumps(told))


class Bench:
    """One architecture."""

    def __init__(self, name: str, device: Device, ceiling: float) -> None:
        torch.manual_seed(0)
        self.name, self.device, self.ceiling = name, device, ceiling
        with torch.device(device.name):
            self.unet = device.take(UNet2DConditionModel(**MODELS[name])).eval()
        self.side, self.width = self.unet.config.sample_size, self.unet.config.cross_attention_dim
        self.tables = Tables(CONFIG)

    def lines(self, widths: Sequence[int], *, compiling: bool) -> Any:
        """One dict of figures after the other."""
        flops = self.flops()
        yield {"tflop_per_row": round(flops / 1e12, 4)}
        ways = [("eager", self.unet)]
        if compiling:
            ways.append(("compiled", compiled(self.unet, self.device)))
        alone: dict[str, float] = {}
        for way, unet in ways:
            for width in widths if way == ways[-1][0] else widths[:1]:
                seconds = self.step_seconds(unet, width)
                alone.setdefault(way, seconds)
                yield self.figures(way, width, seconds, flops)
        together = self.mixed_seconds(ways[-1][1])
        steps = sum(steps for steps, _ in self.mixed())
        yield {"mixed_pictures_per_second": round(len(self.mixed()) / together, 3)}
        yield {f"mixed_vs_{way}_one_by_one": round(steps * alone[way] / together, 3) for way, _ in ways}
        yield {"bit_identical": self.bit_identical(ways[-1][1])}

    def figures(self, way: str, width: int, seconds: float, flops: float) -> dict[str, float]:
        """Of steps of one width."""
        name = f"{way}_{width}"
        share = 2 * width * flops / seconds / self.ceiling
        rate = width / (STEPS * seconds)
        told = {"ms": 1000 * seconds, "per_second": rate, "mfu": share}
        return {f"{name}_{what}": round(value, 4) for what, value in told.items()}

    def ticket(self, number: int, steps: int, sampler: str, *, guidance: float = 7.5, fixed: bool = False) -> Ticket:
        """A painting that is known by its number."""
        drawn = torch.Generator().manual_seed(number)
        rows = 2 if guidance > 1 else 1
        states = torch.randn(rows, TOKENS, self.width, generator=drawn)
        pooled = frames = None
        if self.name in POOLED:
            pooled = torch.randn(rows, POOLED[self.name], generator=drawn)
            frames = torch.tensor([[8.0 * self.side, 8.0 * self.side, 0, 0, 8.0 * self.side, 8.0 * self.side]] * rows)
        table = self.tables.of(sampler, "native", steps)
        shape = (self.unet.config.in_channels, self.side, self.side)
        return Ticket(table, Given(states, pooled=pooled, frames=frames), guidance, drawn, shape, fixed=fixed)

    def loop(self, unet: Any, most: int) -> Loop:
        """A step loop whose steps we take ourselves."""
        denoiser = Denoiser(unet).eval()
        buckets = [2 * width for width in WIDTHS if width <= most]
        return Loop(denoiser, Widths({}, most), device=self.device.name, buckets=buckets)

    def step_seconds(self, unet: Any, width: int) -> float:
        """The median of some steps of so many paintings."""
        loop = self.loop(unet, width)
        loop.waiting = [self.ticket(number, 3 + LOOKS, "dpm++2m") for number in range(width)]
        times = []
        for _ in range(3 + LOOKS):
            begun = time.perf_counter()
            loop.tick()
            times.append(time.perf_counter() - begun)
        return statistics.median(times[3:])

    def mixed(self) -> list[tuple[int, str]]:
        """Eight paintings as users ask for them."""
        return [*MIXED, (50, "dpm++2m")]

    def mixed_seconds(self, unet: Any) -> float:
        """All of them together; the widths were seen before, so nothing is compiled now."""
        seconds = 0.0
        for _ in range(2):
            loop = self.loop(unet, len(self.mixed()))
            loop.waiting = [self.ticket(number, *one) for number, one in enumerate(self.mixed())]
            begun = time.perf_counter()
            while loop.waiting or loop.active:
                loop.tick()
            seconds = time.perf_counter() - begun
        return seconds

    def bit_identical(self, unet: Any) -> float:
        """Of fixed paintings in other company and order, the share whose bits are those of the painting alone."""
        alone = self.end_of(unet, [1])[1]
        drawn = random.Random(0)
        same = 0
        for _ in range(ORDERS):
            order = [1, *drawn.sample(range(2, 20), 3)]
            drawn.shuffle(order)
            same += bool(torch.equal(self.end_of(unet, order)[1], alone))
        return same / ORDERS

    def end_of(self, unet: Any, numbers: Sequence[int]) -> dict[int, torch.Tensor]:
        """Latents of fixed paintings that came in this order, one a step."""
        loop = self.loop(unet, 4)
        tickets = {number: self.ticket(number, 6, sorted(SAMPLERS)[number % 4], fixed=True) for number in numbers}
        for number in numbers:
            loop.waiting.append(tickets[number])
            loop.tick()
        while loop.waiting or loop.active:
            loop.tick()
        return {number: ticket.latents.cpu() for number, ticket in tickets.items()}

    @torch.inference_mode()
    def flops(self) -> float:
        """Floating-point operations of one row of the UNet, multiplications and additions counted each."""
        ticket = self.ticket(0, 1, "ddim", guidance=1.0)
        given = ticket.given.to(self.device.name)
        noisy = torch.randn(1, *ticket.shape).to(self.device.name)
        with FlopCounterMode(display=False) as counter:
            Denoiser(self.unet)(noisy, torch.tensor([500.0], device=self.device.name), given)
        return float(counter.get_total_flops())


def matmul_rate(device: Device) -> float:
    """Operations a second of a large product in the device's numbers, the best of some."""
    side = 8192 if device.cuda else 1024
    one, other = (torch.randn(side, side).to(device.name, device.kind) for _ in range(2))
    times = []
    for _ in range(LOOKS):
        begun = time.perf_counter()
        one @ other
        if device.cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return 2 * side**3 / min(times)


if __name__ == "__main__":
    main()
