"""Measure the step loop on an accelerator: Stable Diffusion 1.5 at 512 px and SDXL at 1024 px, with random weights.

    python bench/gpu/engine.py                   # on a GPU, from the repository's root; mostly compiles
    python bench/gpu/engine.py --models toy      # anywhere: shows that it runs, not how fast

It measures for each architecture:

- steps of 1 to 16 paintings, uncompiled and compiled;
- eight paintings of different steps, samplers and guidance, relative to the same ones painted one by one: `full`
  admits a new painting for each that ends (this gives the pictures per second of a busy worker, to which the target
  refers), `mixed` runs until the longest painting is done, at last alone;
- the operations per second, as a share of those of a large bfloat16 matrix product, which is measured too;
- how far compiled predictions are from uncompiled ones;
- whether reproducible paintings keep their bits in any batch.

It runs the UNet alone: text encoding and decoding happen outside the loop.
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
from worker.engine.compiled import MODES, CompiledNetwork
from worker.engine.denoiser import Conditioning, Denoiser
from worker.engine.device import Device, open_device
from worker.engine.samplers import SAMPLERS, StepTables
from worker.engine.step_loop import Painting, StepLoop, time_steps

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
BATCH_SIZES = (1, 8, 4, 16, 2, 12, 6, 3)  # the most informative ones come first
FIRST_SIZES = 3  # sizes to compile before the eight paintings: batches of fewer of them are padded to one of these
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
STEPS = 30  # steps of a picture, for pictures per second
TIMED_STEPS = 7
TICKS = 60  # ticks of a loop that is always full
ORDERS = 5  # repetitions of each kind in `compare_bits`


def main() -> None:
    """Print a line per measurement; the last line is a JSON object with all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=("sd15", "sdxl"), choices=tuple(MODELS))
    parser.add_argument(
        "--batch-sizes", type=int, nargs="*", default=BATCH_SIZES, help="paintings per step, in this order"
    )
    parser.add_argument("--compile", choices=("0", *MODES), help="as WORKER_COMPILE; by default 1 on a GPU, else 0")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="time after which no further batch size is compiled"
    )
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args()
    diffusers.logging.set_verbosity_error()
    device = open_device()
    figures: dict[str, Any] = {"device": str(device), "torch": torch.__version__}
    if device.cuda:
        figures["device"] = f"{torch.cuda.get_device_name()} {device}"
    figures["matmul_tflops"] = round(measure_matmul_rate(device) / 1e12, 3)
    mode = options.compile or ("1" if device.cuda else "0")
    for name in options.models:
        bench = Bench(name, device, figures["matmul_tflops"] * 1e12)
        until = time.monotonic() + options.seconds / len(options.models)
        for line in bench.measure(options.batch_sizes, mode, until):
            figures |= {f"{name}_{key}": value for key, value in line.items()}
            if not options.json:
                print(json.dumps({"model": name, **line}), flush=True)
    print(json.dumps(figures))


class Bench:
    """Measures one architecture."""

    def __init__(self, name: str, device: Device, matmul_rate: float) -> None:
        torch.manual_seed(0)
        self.name, self.device, self.matmul_rate = name, device, matmul_rate
        with torch.device(device.name):
            self.unet = device.move(UNet2DConditionModel(**MODELS[name])).eval()
        self.flops = row_flops(name)
        self.single_seconds = dict[str, float]()  # of a step of one painting: "eager", "compiled"
        self.side, self.width = self.unet.config.sample_size, self.unet.config.cross_attention_dim
        self.tables = StepTables(CONFIG)

    def measure(self, sizes: Sequence[int], mode: str, until: float) -> Iterator[dict[str, float]]:
        """Yield figures, one dict after the other; those with targets come before further sizes are compiled."""
        yield {"tflop_per_row": float(f"{self.flops / 1e12:.4g}")}
        network = eager = Denoiser(self.unet).eval()
        if mode == "0":
            yield from self.time_sizes("eager", eager, sizes, until)
        else:
            network = Denoiser(self.unet).eval()
            network.compiled = CompiledNetwork(self.unet, mode)
            yield from self.time_sizes("eager", eager, sizes[:1], until)
            yield from self.time_sizes("compiled", network, sizes[:FIRST_SIZES], until)
            yield {"compiled_difference": self.difference(eager, network)}
        yield from self.compare_batches(network)
        yield from self.compare_bits(network)
        if mode != "0":
            yield from self.time_sizes("compiled", network, sizes[FIRST_SIZES:], until)

    def time_sizes(
        self, way: str, network: Denoiser, sizes: Sequence[int], until: float
    ) -> Iterator[dict[str, float]]:
        """Time the steps of each batch size, as long as the next size can be expected to compile before `until`."""
        first = 0.0
        for size in sizes:
            if network.compiled and network.compiled.row_counts and time.monotonic() + first > until:
                yield {f"{way}_{size}_left_out": 1}
                continue
            times, first = self.time_steps(network, size)
            if not times:
                yield {f"{way}_{size}_fits": 0}
                continue
            seconds = statistics.median(times)
            if size == 1:
                self.single_seconds[way] = seconds
            yield {f"{way}_{size}_first_s": round(first, 1), **self.figures(way, size, seconds)}

    def compare_batches(self, network: Denoiser) -> Iterator[dict[str, float]]:
        """Measure eight paintings of different steps relative to the same ones one by one."""
        single = self.single_seconds.items()
        full = self.full_seconds(network)
        yield {"full_pictures_per_second": round(1 / (full * STEPS), 3)}
        yield {f"full_vs_{way}_one_by_one": round(step / full, 3) for way, step in single}
        together = self.mixed_seconds(network)
        steps = sum(steps for steps, *_ in MIXED)
        yield {"mixed_pictures_per_second": round(len(MIXED) / together, 3)}
        yield {f"mixed_vs_{way}_one_by_one": round(steps * step / together, 3) for way, step in single}

    @torch.inference_mode()
    def difference(self, eager: Denoiser, network: Denoiser) -> float:
        """The difference of two networks' predictions for eight paintings, relative to their norm.

        It is NaN if something overflowed.
        """
        loop = self.loop(network, len(MIXED))
        paintings = [self.painting(number, *settings) for number, settings in enumerate(MIXED)]
        predictions = []
        for loop.network in (eager, network):
            for painting in paintings:
                loop.start(painting)
            rows = torch.stack([painting.table.rows[0] for painting in paintings]).to(loop.device)
            predictions.append(
                loop.predict(paintings, rows, torch.stack([painting.latents for painting in paintings]))
            )
        eager_prediction, prediction = predictions
        return float(f"{(prediction - eager_prediction).norm() / eager_prediction.norm():.3g}")

    def figures(self, way: str, size: int, seconds: float) -> dict[str, float]:
        """The figures of steps of one batch size; `mfu` is the share of the matrix product's rate."""
        share = 2 * size * self.flops / seconds / self.matmul_rate
        rate = size / (STEPS * seconds)
        figures = {"ms": 1000 * seconds, "per_second": rate, "mfu": share}
        return {f"{way}_{size}_{name}": round(value, 4) for name, value in figures.items()}

    def painting(
        self, number: int, steps: int, sampler: str, guidance: float = 7.5, *, reproducible: bool = False
    ) -> Painting:
        """A painting whose conditioning and noise follow from its number."""
        generator = torch.Generator().manual_seed(number)
        rows = 2 if guidance > 1 else 1
        states = torch.randn(rows, TOKENS, self.width, generator=generator)
        pooled = time_ids = None
        if self.name in POOLED:
            pooled = torch.randn(rows, POOLED[self.name], generator=generator)
            time_ids = torch.tensor(
                [[8.0 * self.side, 8.0 * self.side, 0, 0, 8.0 * self.side, 8.0 * self.side]] * rows
            )
        table = self.tables.text_to_image(sampler, "native", steps)
        conditioning = Conditioning(states, pooled=pooled, time_ids=time_ids)
        return Painting(table, conditioning, guidance, generator, sample_shape(self.unet), reproducible=reproducible)

    def loop(self, network: Denoiser, max_size: int) -> StepLoop:
        """A step loop whose ticks the bench calls itself."""
        buckets = network.compiled.row_counts if network.compiled else ()
        return StepLoop(network, BatchSizes({}, max_size), device=self.device.name, buckets=buckets)

    def time_steps(self, network: Denoiser, size: int) -> tuple[list[float], float]:
        """Seconds of each step at a batch size, empty if memory is too small; and seconds of the first step."""
        paintings = [self.painting(number, 1 + TIMED_STEPS, "dpm++2m") for number in range(size)]
        started = time.perf_counter()
        with network.compiled.compiling() if network.compiled else nullcontext():
            times = time_steps(self.loop(network, size), paintings, TIMED_STEPS)
        return times, time.perf_counter() - started - sum(times)

    def mixed_seconds(self, network: Denoiser) -> float:
        """Seconds until all eight paintings are done, in the second of two runs."""
        seconds = 0.0
        for _ in range(2):
            loop = self.loop(network, len(MIXED))
            loop.waiting = [self.painting(number, *settings) for number, settings in enumerate(MIXED)]
            started = time.perf_counter()
            while loop.waiting or loop.active:
                loop.tick()
            seconds = time.perf_counter() - started
        return seconds

    def full_seconds(self, network: Denoiser) -> float:
        """Seconds per step and painting while eight are always active, because each that ends is replaced at once."""
        loop, count = self.loop(network, len(MIXED)), len(MIXED)
        settings = islice(cycle(MIXED), count * TICKS)
        pending = [self.painting(number, *values) for number, values in enumerate(settings)]
        started = 0.0
        for _ in range(1 + TICKS):
            free = count - len(loop.active) - len(loop.waiting)
            loop.waiting += [pending.pop() for _ in range(free)]
            loop.tick()
            started = started or time.perf_counter()  # after the first tick, which warms up
        return (time.perf_counter() - started) / (TICKS * count)

    def compare_bits(self, network: Denoiser) -> Iterator[dict[str, float]]:
        """The share of reproducible paintings with the bits of the painting alone, in three kinds of repetition.

        The first kind with a share below 1 shows the reason. `again` (alone): the computation is not repeatable.
        `same_place` in the batch: the other paintings matter. `any_place`: the place in the batch matters.
        """
        alone, chance = self.paint_all(network, [1])[1], random.Random(0)
        orders: dict[str, list[list[int]]] = {"again": [], "same_place": [], "any_place": []}
        for _ in range(ORDERS):
            others = chance.sample(range(2, 20), 3)
            place = chance.randrange(1, 4)
            orders["again"].append([1])
            orders["same_place"].append([1, *others])
            orders["any_place"].append([*others[:place], 1, *others[place:]])
        same = {
            kind: [bool(torch.equal(self.paint_all(network, order)[1], alone)) for order in of_kind]
            for kind, of_kind in orders.items()
        }
        yield {f"bits_{kind}": sum(results) / ORDERS for kind, results in same.items()}
        yield {"bit_identical": sum(sum(results) for results in same.values()) / (3 * ORDERS)}

    def paint_all(self, network: Denoiser, numbers: Sequence[int]) -> dict[int, torch.Tensor]:
        """The final latents of reproducible paintings that arrive in this order, one per tick."""
        loop = self.loop(network, 4)
        paintings = {
            number: self.painting(number, 6, sorted(SAMPLERS)[number % 4], reproducible=True) for number in numbers
        }
        for number in numbers:
            loop.waiting.append(paintings[number])
            loop.tick()
        while loop.waiting or loop.active:
            loop.tick()
        return {number: painting.latents.cpu() for number, painting in paintings.items()}


@torch.inference_mode()
def row_flops(name: str) -> float:
    """The floating-point operations of a UNet for one row of a batch; a multiplication and an addition count as two.

    They are counted on the meta device: on some devices attention is a single operation that the counter misses.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = UNet2DConditionModel(**MODELS[name])
        shape, states = sample_shape(unet), torch.empty(1, TOKENS, unet.config.cross_attention_dim)
        pooled, time_ids = (torch.empty(1, POOLED[name]), torch.empty(1, 6)) if name in POOLED else (None, None)
        Denoiser(unet)(torch.empty(1, *shape), torch.empty(1), Conditioning(states, pooled=pooled, time_ids=time_ids))
    return float(counter.get_total_flops())


def sample_shape(unet: Any) -> tuple[int, int, int]:
    """The channels, height and width of the latents that a UNet is made for."""
    return unet.config.in_channels, unet.config.sample_size, unet.config.sample_size


def measure_matmul_rate(device: Device) -> float:
    """Operations per second of a large matrix product in the device's dtype: the best round after a warm-up."""
    side, repeats = (8192, 10) if device.cuda else (1024, 1)
    left, right = (torch.randn(side, side).to(device.name, device.dtype) for _ in range(2))
    times = []
    for _ in range(1 + TIMED_STEPS):
        started = time.perf_counter()
        for _ in range(repeats):
            left @ right
        if device.cuda:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / repeats)
    return 2 * side**3 / min(times[1:])


if __name__ == "__main__":
    main()
