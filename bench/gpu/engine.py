"""The step loop on an accelerator: Stable Diffusion 1.5 at 512 px and SDXL at 1024 px, with random weights.

    python bench/gpu/engine.py                   # on a GPU, from the repository's root; most of it is compiling
    python bench/gpu/engine.py --models toy      # anywhere: that it runs, not how fast

For each architecture: steps of 1 to 16 paintings, as they are and compiled; eight paintings of different steps,
samplers and guidance against the same one by one, `full` while another comes in for each that is done (pictures per
second of a busy worker: what its target means) and `mixed` until the longest is done alone; the share of what a large
matrix product of bfloat16 reaches, measured here; how far what is compiled is from what is not; and whether fixed
paintings keep their bits in any company. The UNet alone: text and decoding stay out, as they stay out of the loop.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import diffusers
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from bench.batching import CONFIG
from worker.engine.batch_size import BatchSizes
from worker.engine.compiled import MODES, Compiled
from worker.engine.denoiser import Conditioning, Denoiser
from worker.engine.device import Device, open_device
from worker.engine.samplers import SAMPLERS, Tables
from worker.engine.step_loop import Loop, Ticket, step_times

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
WIDTHS = (1, 8, 4, 16, 2, 12, 6, 3)  # those that tell most come first
COMPANY = 3  # widths, after which eight paintings are tried: every number of them is filled up to one of these
MIXED = (  # steps, sampler, guidance
    (4, "euler-a", 2.0),
    (8, "euler", 3.0),
    (20, "dpm++2m", 7.5),
    (20, "ddim", 5.0),
    (25, "dpm++2m", 6.0),
    (30, "euler", 7.5),
    (30, "ddim", 9.0),
    (50, "dpm++2m", 7.5),
)
STEPS = 30  # of the pictures that pictures per second counts
LOOKS = 7
TICKS = 60  # steps of slots that are always full
ORDERS = 5


def main() -> None:
    """Print a line for each measurement; the last is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=("sd15", "sdxl"), choices=tuple(MODELS))
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS, help="paintings a step, in this order")
    parser.add_argument("--compile", choices=("0", *MODES), help="as WORKER_COMPILE; 1 on a GPU, else 0")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which no further width is compiled")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args()
    diffusers.logging.set_verbosity_error()
    device = open_device()
    told: dict[str, Any] = {"device": str(device), "torch": torch.__version__}
    if device.cuda:
        told["device"] = f"{torch.cuda.get_device_name()} {device}"
    told["matmul_tflops"] = round(matmul_rate(device) / 1e12, 3)
    mode = options.compile or ("1" if device.cuda else "0")
    for name in options.models:
        bench = Bench(name, device, told["matmul_tflops"] * 1e12)
        for line in bench.lines(options.widths, mode, time.monotonic() + options.seconds / len(options.models)):
            told |= {f"{name}_{key}": value for key, value in line.items()}
            if not options.json:
                print(json.dumps({"model": name, **line}), flush=True)
    print(json.dumps(told))


class Bench:
    """One architecture."""

    def __init__(self, name: str, device: Device, ceiling: float) -> None:
        torch.manual_seed(0)
        self.name, self.device, self.ceiling = name, device, ceiling
        with torch.device(device.name):
            self.unet = device.take(UNet2DConditionModel(**MODELS[name])).eval()
        self.flops, self.alone = row_flops(name), dict[str, float]()  # seconds of a painting's step, by way
        self.side, self.width = self.unet.config.sample_size, self.unet.config.cross_attention_dim
        self.tables = Tables(CONFIG)

    def lines(self, widths: Sequence[int], mode: str, until: float) -> Iterator[dict[str, float]]:
        """One dict of figures after the other; the targets' come before further widths are compiled."""
        yield {"tflop_per_row": float(f"{self.flops / 1e12:.4g}")}
        network = eager = Denoiser(self.unet).eval()
        if mode == "0":
            yield from self.timed("eager", eager, widths, until)
        else:
            network = Denoiser(self.unet).eval()
            network.compiled = Compiled(self.unet, mode)
            yield from self.timed("eager", eager, widths[:1], until)
            yield from self.timed("compiled", network, widths[:COMPANY], until)
            yield {"compiled_difference": self.difference(eager, network)}
        yield from self.company(network)
        yield from self.bits(network)
        if mode != "0":
            yield from self.timed("compiled", network, widths[COMPANY:], until)

    def timed(self, way: str, network: Denoiser, widths: Sequence[int], until: float) -> Iterator[dict[str, float]]:
        """Steps of each width, while the next can be expected to be compiled in time."""
        first = 0.0
        for width in widths:
            if network.compiled and network.compiled.rows and time.monotonic() + first > until:
                yield {f"{way}_{width}_left_out": 1}
                continue
            times, first = self.step_times(network, width)
            if not times:
                yield {f"{way}_{width}_fits": 0}
                continue
            seconds = statistics.median(times)
            if width == 1:
                self.alone[way] = seconds
            yield {f"{way}_{width}_first_s": round(first, 1), **self.figures(way, width, seconds)}

    def company(self, network: Denoiser) -> Iterator[dict[str, float]]:
        """Eight paintings of different steps against the same one by one."""
        full = self.full_seconds(network)
        yield {"full_pictures_per_second": round(1 / (full * STEPS), 3)}
        yield {f"full_vs_{way}_one_by_one": round(step / full, 3) for way, step in self.alone.items()}
        together = self.mixed_seconds(network)
        steps = sum(steps for steps, *_ in MIXED)
        yield {"mixed_pictures_per_second": round(len(MIXED) / together, 3)}
        yield {f"mixed_vs_{way}_one_by_one": round(steps * step / together, 3) for way, step in self.alone.items()}

    @torch.inference_mode()
    def difference(self, eager: Denoiser, network: Denoiser) -> float:
        """Of what they say to eight paintings, relative to its size; not a number if something overflowed."""
        loop = self.loop(network, len(MIXED))
        tickets = [self.ticket(number, *one) for number, one in enumerate(MIXED)]
        said = []
        for loop.network in (eager, network):
            for ticket in tickets:
                loop.begin(ticket)
            rows = torch.stack([ticket.table.rows[0] for ticket in tickets]).to(loop.device)
            said.append(loop.predict(tickets, rows, torch.stack([ticket.latents for ticket in tickets])))
        return float(f"{(said[1] - said[0]).norm() / said[0].norm():.3g}")

    def figures(self, way: str, width: int, seconds: float) -> dict[str, float]:
        """Of steps of one width."""
        name = f"{way}_{width}"
        share = 2 * width * self.flops / seconds / self.ceiling
        rate = width / (STEPS * seconds)
        told = {"ms": 1000 * seconds, "per_second": rate, "mfu": share}
        return {f"{name}_{what}": round(value, 4) for what, value in told.items()}

    def ticket(self, number: int, steps: int, sampler: str, guidance: float = 7.5, *, fixed: bool = False) -> Ticket:
        """A painting that is known by its number."""
        drawn = torch.Generator().manual_seed(number)
        rows = 2 if guidance > 1 else 1
        states = torch.randn(rows, TOKENS, self.width, generator=drawn)
        pooled = frames = None
        if self.name in POOLED:
            pooled = torch.randn(rows, POOLED[self.name], generator=drawn)
            frames = torch.tensor([[8.0 * self.side, 8.0 * self.side, 0, 0, 8.0 * self.side, 8.0 * self.side]] * rows)
        table = self.tables.of(sampler, "native", steps)
        conditioning = Conditioning(states, pooled=pooled, frames=frames)
        return Ticket(table, conditioning, guidance, drawn, sample_shape(self.unet), fixed=fixed)

    def loop(self, network: Denoiser, most: int) -> Loop:
        """A step loop whose steps we take ourselves."""
        buckets = network.compiled.rows if network.compiled else ()
        return Loop(network, BatchSizes({}, most), device=self.device.name, buckets=buckets)

    def step_times(self, network: Denoiser, width: int) -> tuple[list[float], float]:
        """Seconds of some steps of so many paintings, none if memory is too small; and of the step before them."""
        tickets = [self.ticket(number, 1 + LOOKS, "dpm++2m") for number in range(width)]
        begun = time.perf_counter()
        with network.compiled.learning() if network.compiled else nullcontext():
            times = step_times(self.loop(network, width), tickets, LOOKS)
        return times, time.perf_counter() - begun - sum(times)

    def mixed_seconds(self, network: Denoiser) -> float:
        """All of them together, until the longest is done; the second time counts."""
        seconds = 0.0
        for _ in range(2):
            loop = self.loop(network, len(MIXED))
            loop.waiting = [self.ticket(number, *one) for number, one in enumerate(MIXED)]
            begun = time.perf_counter()
            while loop.waiting or loop.active:
                loop.tick()
            seconds = time.perf_counter() - begun
        return seconds

    def full_seconds(self, network: Denoiser) -> float:
        """Of one step of one painting, while eight are always under way: whenever one is done the next comes in."""
        loop, most = self.loop(network, len(MIXED)), len(MIXED)
        coming = [self.ticket(number, *one) for number, one in enumerate(islice(cycle(MIXED), most * TICKS))]
        begun = 0.0
        for _ in range(1 + TICKS):
            free = most - len(loop.active) - len(loop.waiting)
            loop.waiting += [coming.pop() for _ in range(free)]
            loop.tick()
            begun = begun or time.perf_counter()
        return (time.perf_counter() - begun) / (TICKS * most)

    def bits(self, network: Denoiser) -> Iterator[dict[str, float]]:
        """Of fixed paintings, the share whose bits are those of the painting alone: again, and in other company.

        What differs tells why: alone again, calculating is not repeatable; among others at the same place in the
        rows, it is the others; else it is the place.
        """
        alone, drawn = self.end_of(network, [1])[1], random.Random(0)
        orders: dict[str, list[list[int]]] = {"again": [], "same_place": [], "any_place": []}
        for _ in range(ORDERS):
            others = drawn.sample(range(2, 20), 3)
            place = drawn.randrange(1, 4)
            orders["again"].append([1])
            orders["same_place"].append([1, *others])
            orders["any_place"].append([*others[:place], 1, *others[place:]])
        same = {
            name: [bool(torch.equal(self.end_of(network, order)[1], alone)) for order in some]
            for name, some in orders.items()
        }
        yield {f"bits_{name}": sum(found) / ORDERS for name, found in same.items()}
        yield {"bit_identical": sum(sum(found) for found in same.values()) / (3 * ORDERS)}

    def end_of(self, network: Denoiser, numbers: Sequence[int]) -> dict[int, torch.Tensor]:
        """Latents of fixed paintings that came in this order, one a step."""
        loop = self.loop(network, 4)
        tickets = {number: self.ticket(number, 6, sorted(SAMPLERS)[number % 4], fixed=True) for number in numbers}
        for number in numbers:
            loop.waiting.append(tickets[number])
            loop.tick()
        while loop.waiting or loop.active:
            loop.tick()
        return {number: ticket.latents.cpu() for number, ticket in tickets.items()}


@torch.inference_mode()
def row_flops(name: str) -> float:
    """Floating-point operations of one row of this UNet, multiplications and additions counted each.

    Counted without calculating: some devices' attention is one operation that the counter does not know.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = UNet2DConditionModel(**MODELS[name])
        shape, states = sample_shape(unet), torch.empty(1, TOKENS, unet.config.cross_attention_dim)
        more = {"pooled": torch.empty(1, POOLED[name]), "frames": torch.empty(1, 6)} if name in POOLED else {}
        Denoiser(unet)(torch.empty(1, *shape), torch.empty(1), Conditioning(states, **more))
    return float(counter.get_total_flops())


def sample_shape(unet: Any) -> tuple[int, int, int]:
    """Channels, height and width of what it is made for."""
    return unet.config.in_channels, unet.config.sample_size, unet.config.sample_size


def matmul_rate(device: Device) -> float:
    """Operations a second of a large product in the device's numbers, when it is warm: the best of some rounds."""
    side, many = (8192, 10) if device.cuda else (1024, 1)
    one, other = (torch.randn(side, side).to(device.name, device.kind) for _ in range(2))
    times = []
    for _ in range(1 + LOOKS):
        begun = time.perf_counter()
        for _ in range(many):
            one @ other
        if device.cuda:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / many)
    return 2 * side**3 / min(times[1:])


if __name__ == "__main__":
    main()
