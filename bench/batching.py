"""Compare the step loop with static batches and with painting one by one.

The network is a micro UNet, and one painting does not fill it, just as at 512 px one painting does not fill a GPU.
Paintings of 4, 20, 30 and 50 steps arrive at random (Poisson) at 0.8 and 1.2 times the rate that painting one by one
can sustain. Every step is really computed. The clock counts the processor time of the work, so that other programs on
the machine do not matter, and skips idle times. The bench also measures how far a painting in a batch is from
diffusers' own loop, and whether reproducible paintings keep their bits.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler, UNet2DConditionModel
from torch import Tensor

from worker.engine.batch_size import BatchSizes, measure_batch_sizes
from worker.engine.denoiser import Conditioning, Denoiser
from worker.engine.samplers import SAMPLERS, StepTables, make_scheduler, scale_input, set_timesteps
from worker.engine.step_loop import Painting, StepLoop, time_steps

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
}
STEPS, SHARES = (4, 20, 30, 50), (0.25, 0.25, 0.3, 0.2)
SHAPE, TOKENS, WIDTH = (4, 8, 8), 24, 32
MAX_BATCH, WAIT = 8, 0.05  # paintings in a batch; seconds that a static batch waits for more of them
LOADS = (0.8, 1.2)
SEEDS = (1, 2, 3)
ROUNDS = 3  # of the comparison with painting alone


@dataclass(frozen=True)
class Arrival:
    """One painting of a trace."""

    number: int
    arrives_at: float
    steps: int
    sampler: str
    guidance_scale: float

    @property
    def states(self) -> Tensor:
        """Token states: with guidance two rows, the negative prompt's first; without it one."""
        rows = 2 if self.guidance_scale > 1 else 1
        return torch.randn(rows, TOKENS, WIDTH, generator=torch.Generator().manual_seed(self.number))

    def painting(self, tables: StepTables, *, reproducible: bool = False) -> Painting:
        """This arrival as a painting for the step loop."""
        table = tables.text_to_image(self.sampler, "native", self.steps)
        generator = torch.Generator().manual_seed(self.number)
        return Painting(
            table,
            Conditioning(self.states),
            self.guidance_scale,
            generator,
            SHAPE,
            reproducible=reproducible,
            arrived_at=self.arrives_at,
        )


class WorkClock:
    """Counts seconds of processor time since its start, plus skipped idle time."""

    def __init__(self) -> None:
        self.offset = -time.process_time()

    def __call__(self) -> float:
        return self.offset + time.process_time()

    def skip_to(self, moment: float) -> None:
        """Move forward to this moment; never back."""
        self.offset += max(0.0, moment - self())


def main() -> None:
    """Print the figures as a table, or with --json as one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paintings", type=int, default=80, help="in each trace")
    parser.add_argument("--orders", type=int, default=200, help="random orders of arrival to compare bits in")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = make_network()
    figures = {
        **measure_latencies(network, options.paintings),
        **compare_with_diffusers(network),
        **compare_bits(network, options.orders),
    }
    print(json.dumps(figures) if options.json else "\n".join(f"{name:28} {value}" for name, value in figures.items()))


def make_network() -> Denoiser:
    """A UNet whose step costs hardly more for a batch than for one painting."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return Denoiser(unet).eval()


def make_trace(count: int, rate: float, seed: int, samplers: Sequence[str] = ("euler", "ddim")) -> list[Arrival]:
    """Random arrivals at an average of `rate` paintings per second."""
    random_numbers = np.random.default_rng(seed)
    moments = np.cumsum(random_numbers.exponential(1 / rate, count))
    steps = random_numbers.choice(STEPS, count, p=SHARES)
    names = random_numbers.choice(list(samplers), count)
    scales = random_numbers.choice([5.0, 7.5], count)
    return [
        Arrival(number, float(moments[number]), int(steps[number]), str(names[number]), float(scales[number]))
        for number in range(count)
    ]


def measure_latencies(network: Denoiser, count: int) -> dict[str, Any]:
    """Milliseconds from arrival to the finished painting at each load, and ratios between the three ways to paint."""
    run_one_by_one(network, make_trace(4, 1e3, 9))
    full = make_trace(count, 1e6, 1)
    capacity = count / max(run_one_by_one(network, full))
    figures: dict[str, Any] = {"one_by_one_per_second": round(capacity, 2)}
    for load in LOADS:
        for name, run in (("serial", run_one_by_one), ("static", run_static_batches), ("steps", run_step_loop)):
            seconds = [run(network, make_trace(count, load * capacity, seed)) for seed in SEEDS]
            p95 = float(np.mean([np.percentile(of_trace, 95) for of_trace in seconds]))
            figures[f"{name}_mean_ms_{load}"] = round(1000 * float(np.mean(seconds)), 1)
            figures[f"{name}_p95_ms_{load}"] = round(1000 * p95, 1)
    for figure in ("mean", "p95"):
        ratios = [figures[f"static_{figure}_ms_{load}"] / figures[f"steps_{figure}_ms_{load}"] for load in LOADS]
        figures[f"{figure}_ratio_vs_static"] = round(min(ratios), 3)
    figures["mean_ratio_vs_serial"] = round(figures["serial_mean_ms_0.8"] / figures["steps_mean_ms_0.8"], 3)
    figures["solo_ratio"] = round(solo_ratio(network, make_trace(count, 0.1 * capacity, 1)), 3)
    return figures


def solo_ratio(network: Denoiser, arrivals: Sequence[Arrival]) -> float:
    """The mean time in the step loop relative to that in diffusers' loop, for arrivals so rare that each is alone.

    Both loops run in turn, because the machine's speed changes meanwhile.
    """
    alone, stepped = [], []
    for _ in range(ROUNDS):
        alone += [run_one_by_one(network, [replace(arrival, arrives_at=0.0)])[0] for arrival in arrivals]
        stepped += run_step_loop(network, arrivals)
    return float(np.mean(stepped) / np.mean(alone))


def run_one_by_one(network: Denoiser, arrivals: Sequence[Arrival]) -> list[float]:
    """Seconds from arrival to the end of each painting, painted by diffusers' own loop in the order of arrival."""
    clock, durations = WorkClock(), []
    for arrival in arrivals:
        clock.skip_to(arrival.arrives_at)
        paint_by_scheduler(network, [arrival])
        durations.append(clock() - arrival.arrives_at)
    return durations


def run_static_batches(network: Denoiser, arrivals: Sequence[Arrival]) -> list[float]:
    """Seconds from arrival to the end of each painting, in batches of up to eight equal ones that wait for more."""
    clock, durations, pending = WorkClock(), {}, list(arrivals)
    while pending:
        clock.skip_to(pending[0].arrives_at)
        batch = next_batch(pending, clock())
        if len(batch) < MAX_BATCH and clock() < pending[0].arrives_at + WAIT:
            following = next((arrival.arrives_at for arrival in pending if arrival.arrives_at > clock()), np.inf)
            clock.skip_to(min(pending[0].arrives_at + WAIT, following))
            continue
        paint_by_scheduler(network, batch)
        for arrival in batch:
            durations[arrival.number] = clock() - arrival.arrives_at
            pending.remove(arrival)
    return [durations[arrival.number] for arrival in arrivals]


def next_batch(pending: Sequence[Arrival], moment: float) -> list[Arrival]:
    """The first arrival, and the others until this moment that have its sampler and number of steps."""
    settings = (pending[0].sampler, pending[0].steps)
    present = [arrival for arrival in pending if arrival.arrives_at <= moment]
    return [arrival for arrival in present if (arrival.sampler, arrival.steps) == settings][:MAX_BATCH]


@torch.inference_mode()
def paint_by_scheduler(network: Denoiser, arrivals: Sequence[Arrival]) -> Tensor:
    """The latents of paintings with equal sampler and steps, all with guidance or all without, as in a pipeline."""
    scheduler = make_scheduler(CONFIG, arrivals[0].sampler, "native")
    set_timesteps(scheduler, arrivals[0].steps)
    generators = [torch.Generator().manual_seed(arrival.number) for arrival in arrivals]
    x = (
        torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
        * scheduler.init_noise_sigma
    )
    states = torch.stack([arrival.states for arrival in arrivals], 1).flatten(0, 1)  # all negative prompts first
    scales = torch.tensor([arrival.guidance_scale for arrival in arrivals])[:, None, None, None]
    options = (
        {"generator": generators} if isinstance(scheduler, EulerAncestralDiscreteScheduler | LCMScheduler) else {}
    )
    for timestep in scheduler.timesteps:
        noisy = scale_input(scheduler, x, timestep).repeat(len(states) // len(arrivals), 1, 1, 1)
        output = network.predict(noisy, timestep.expand(len(noisy)), Conditioning(states), [])
        if len(states) > len(arrivals):
            negative, positive = output.chunk(2)
            output = negative + scales * (positive - negative)
        x = scheduler.step(output, timestep, x, **options).prev_sample
    return torch.as_tensor(x)


def run_step_loop(network: Denoiser, arrivals: Sequence[Arrival]) -> list[float]:
    """Seconds from arrival to the end of each painting in the step loop, whose ticks are called directly."""
    tables = StepTables(CONFIG)
    for arrival in arrivals:
        tables.text_to_image(arrival.sampler, "native", arrival.steps)
    clock = WorkClock()
    loop = StepLoop(network, measure_step_times(network, tables), clock=clock)
    clock.offset -= clock()
    durations, pending = {}, [(arrival, arrival.painting(tables)) for arrival in arrivals]
    under_way: list[tuple[Arrival, Painting]] = []
    while pending or under_way:
        if not under_way:
            clock.skip_to(pending[0][0].arrives_at)
        while pending and pending[0][0].arrives_at <= clock():
            loop.waiting.append(pending[0][1])
            under_way.append(pending.pop(0))
        loop.tick()
        for arrival, painting in under_way:
            if painting.step == len(painting.table):
                durations[arrival.number] = clock() - arrival.arrives_at
        under_way = [pair for pair in under_way if pair[0].number not in durations]
    return [durations[arrival.number] for arrival in arrivals]


def measure_step_times(network: Denoiser, tables: StepTables) -> BatchSizes:
    """The step times by batch size, as a worker measures them at its start."""

    def time_batch(size: int) -> list[float]:
        loop = StepLoop(network, BatchSizes({}, MAX_BATCH), clock=time.process_time)
        return time_steps(loop, [Arrival(number, 0.0, 20, "euler", 5.0).painting(tables) for number in range(size)])

    return measure_batch_sizes(time_batch, MAX_BATCH)


def compare_with_diffusers(network: Denoiser) -> dict[str, Any]:
    """The largest difference from diffusers' own loop, as a share of the largest number in the latents."""
    tables, figures = StepTables(CONFIG), {}
    for sampler in SAMPLERS:
        arrivals = [
            Arrival(number, 0.0, steps, sampler, scale)
            for number, (steps, scale) in enumerate((n, s) for n in (4, 7, 20, 30) for s in (1.0, 5.0, 7.5))
        ]
        mixed = make_trace(len(arrivals), 1e6, 5, tuple(SAMPLERS))
        latents = run_at_random(network, [arrival.painting(tables) for arrival in (*arrivals, *mixed)])
        expected = [paint_by_scheduler(network, [arrival])[0] for arrival in arrivals]
        figures[sampler] = max(
            float((ours - theirs).abs().max() / theirs.abs().max())
            for ours, theirs in zip(latents[: len(arrivals)], expected, strict=True)
        )
    by_sampler = {f"difference_{name}": difference for name, difference in figures.items()}
    return {"max_relative_difference": max(figures.values()), **by_sampler}


def compare_bits(network: Denoiser, orders: int) -> dict[str, Any]:
    """The share of orders of arrival in which all reproducible paintings keep their bits."""
    tables = StepTables(CONFIG)
    arrivals = [Arrival(n, 0.0, (4, 7, 10)[n % 3], sorted(SAMPLERS)[n % 4], (1.0, 5.0)[n % 2]) for n in range(12)]
    first = run_at_random(network, [arrival.painting(tables, reproducible=True) for arrival in arrivals])
    same = 0
    for seed in range(orders):
        order = random.Random(seed).sample(range(len(arrivals)), len(arrivals))
        latents = run_at_random(
            network, [arrivals[number].painting(tables, reproducible=True) for number in order], seed
        )
        same += all(torch.equal(first[number], other) for number, other in zip(order, latents, strict=True))
    return {"orders": orders, "bit_identical": same / orders if orders else None}


def run_at_random(network: Denoiser, paintings: Sequence[Painting], seed: int = 0) -> list[Tensor]:
    """The latents of paintings that arrive one after another, a random number of steps apart."""
    loop, chance, pending = StepLoop(network, BatchSizes({}, MAX_BATCH)), random.Random(seed), list(paintings)
    while pending or loop.waiting or loop.active:
        while pending and chance.random() < 0.7:
            loop.waiting.append(pending.pop(0))
        loop.tick()
    return [painting.latents for painting in paintings]


if __name__ == "__main__":
    main()
