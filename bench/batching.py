"""What stepping paintings together brings: the step loop against static batches and against one by one.

A micro UNet that one painting does not fill, as a large one does not fill a GPU at 512 px; paintings of 4, 20, 30 and
50 steps come by chance (Poisson) at 0.8 and 1.2 times what can be painted one by one. All is really calculated; the
clock is the processor time that this took, so that other users of the machine do not count, and idle times are leapt
over. Beside it: how far a painting in company is from diffusers' own loop alone, and whether fixed ones keep their
bits.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler, UNet2DConditionModel
from torch import Tensor

from worker.engine.batch_size import BatchSizes, measured
from worker.engine.denoiser import Conditioning, Denoiser
from worker.engine.samplers import SAMPLERS, Tables, begin, make_scheduler, scaled
from worker.engine.step_loop import Loop, Ticket, step_times

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
MOST, WAIT = 8, 0.05  # paintings at once; seconds that a static batch waits for company
LOADS = (0.8, 1.2)
SEEDS = (1, 2, 3)
ROUNDS = 3  # of the comparison with paintings alone


@dataclass(frozen=True)
class Wish:
    """One painting of a trace."""

    number: int
    arrives: float
    steps: int
    sampler: str
    guidance: float

    @property
    def states(self) -> Tensor:
        """Two rows where it is guided, the negative prompt's first."""
        rows = 2 if self.guidance > 1 else 1
        return torch.randn(rows, TOKENS, WIDTH, generator=torch.Generator().manual_seed(self.number))

    def ticket(self, tables: Tables, *, fixed: bool = False) -> Ticket:
        """For the loop."""
        table = tables.of(self.sampler, "native", self.steps)
        generator = torch.Generator().manual_seed(self.number)
        return Ticket(
            table, Conditioning(self.states), self.guidance, generator, SHAPE, fixed=fixed, came=self.arrives
        )


class Clock:
    """Seconds of processor time since it began, and what was leapt over."""

    def __init__(self) -> None:
        self.leapt = -time.process_time()

    def __call__(self) -> float:
        return self.leapt + time.process_time()

    def leap(self, moment: float) -> None:
        """Not before this moment."""
        self.leapt += max(0.0, moment - self())


Run = Callable[[Denoiser, Sequence[Wish]], list[float]]


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paintings", type=int, default=80, help="of each trace")
    parser.add_argument("--orders", type=int, default=200, help="of arrival, for the bits of fixed paintings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = micro()
    told = {**latencies(network, options.paintings), **fidelity(network), **bits(network, options.orders)}
    print(json.dumps(told) if options.json else "\n".join(f"{name:28} {value}" for name, value in told.items()))


def micro() -> Denoiser:
    """A UNet whose step costs much alone and little more in company."""
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


def trace(many: int, rate: float, seed: int, samplers: Sequence[str] = ("euler", "ddim")) -> list[Wish]:
    """Paintings that come at so many a second."""
    drawn = np.random.default_rng(seed)
    moments = np.cumsum(drawn.exponential(1 / rate, many))
    steps, names = drawn.choice(STEPS, many, p=SHARES), drawn.choice(list(samplers), many)
    guidance = drawn.choice([5.0, 7.5], many)
    return [
        Wish(number, float(moments[number]), int(steps[number]), str(names[number]), float(guidance[number]))
        for number in range(many)
    ]


def latencies(network: Denoiser, many: int) -> dict[str, Any]:
    """Seconds from coming to being painted, compared at each load."""
    one_by_one(network, trace(4, 1e3, 9))
    full = trace(many, 1e6, 1)
    capacity = many / max(one_by_one(network, full))
    told: dict[str, Any] = {"one_by_one_per_second": round(capacity, 2)}
    for load in LOADS:
        for name, run in (("serial", one_by_one), ("static", static), ("steps", stepwise)):
            found = [run(network, trace(many, load * capacity, seed)) for seed in SEEDS]
            told[f"{name}_mean_ms_{load}"] = round(1000 * float(np.mean(found)), 1)
            told[f"{name}_p95_ms_{load}"] = round(1000 * float(np.mean([np.percentile(one, 95) for one in found])), 1)
    for figure in ("mean", "p95"):
        ratios = [told[f"static_{figure}_ms_{load}"] / told[f"steps_{figure}_ms_{load}"] for load in LOADS]
        told[f"{figure}_ratio_vs_static"] = round(min(ratios), 3)
    told["mean_ratio_vs_serial"] = round(told["serial_mean_ms_0.8"] / told["steps_mean_ms_0.8"], 3)
    told["solo_ratio"] = round(solo_ratio(network, trace(many, 0.1 * capacity, 1)), 3)
    return told


def solo_ratio(network: Denoiser, lonely: Sequence[Wish]) -> float:
    """The mean by the step loop against the mean alone; in turn, for the machine's speed changes meanwhile."""
    alone, stepped = [], []
    for _ in range(ROUNDS):
        alone += [one_by_one(network, [Wish(**{**vars(wish), "arrives": 0.0})])[0] for wish in lonely]
        stepped += stepwise(network, lonely)
    return float(np.mean(stepped) / np.mean(alone))


def one_by_one(network: Denoiser, wishes: Sequence[Wish]) -> list[float]:
    """Each by diffusers' own loop, in the order in which they come."""
    clock, took = Clock(), []
    for wish in wishes:
        clock.leap(wish.arrives)
        by_scheduler(network, [wish])
        took.append(clock() - wish.arrives)
    return took


def static(network: Denoiser, wishes: Sequence[Wish]) -> list[float]:
    """Batches of one sampler and one number of steps, of eight at most, which wait a moment for company."""
    clock, took, left = Clock(), {}, list(wishes)
    while left:
        clock.leap(left[0].arrives)
        batch = alike(left, clock())
        if len(batch) < MOST and clock() < left[0].arrives + WAIT:
            following = next((wish.arrives for wish in left if wish.arrives > clock()), np.inf)
            clock.leap(min(left[0].arrives + WAIT, following))
            continue
        by_scheduler(network, batch)
        for wish in batch:
            took[wish.number] = clock() - wish.arrives
            left.remove(wish)
    return [took[wish.number] for wish in wishes]


def alike(left: Sequence[Wish], moment: float) -> list[Wish]:
    """The first, and who is there already and can be painted with it."""
    kind = (left[0].sampler, left[0].steps)
    return [wish for wish in left if (wish.sampler, wish.steps) == kind and wish.arrives <= moment][:MOST]


@torch.inference_mode()
def by_scheduler(network: Denoiser, wishes: Sequence[Wish]) -> Tensor:
    """Latents of paintings of one sampler and one number of steps, all guided or none, as a pipeline makes them."""
    scheduler = make_scheduler(CONFIG, wishes[0].sampler, "native")
    begin(scheduler, wishes[0].steps)
    generators = [torch.Generator().manual_seed(wish.number) for wish in wishes]
    x = torch.stack([torch.randn(SHAPE, generator=one) for one in generators]) * scheduler.init_noise_sigma
    states = torch.stack([wish.states for wish in wishes], 1).flatten(0, 1)  # all negative prompts first
    guidance = torch.tensor([wish.guidance for wish in wishes])[:, None, None, None]
    options = (
        {"generator": generators} if isinstance(scheduler, EulerAncestralDiscreteScheduler | LCMScheduler) else {}
    )
    for timestep in scheduler.timesteps:
        noisy = scaled(scheduler, x, timestep).repeat(len(states) // len(wishes), 1, 1, 1)
        output = network.predict(noisy, timestep.expand(len(noisy)), Conditioning(states), [])
        if len(states) > len(wishes):
            negative, positive = output.chunk(2)
            output = negative + guidance * (positive - negative)
        x = scheduler.step(output, timestep, x, **options).prev_sample
    return torch.as_tensor(x)


def stepwise(network: Denoiser, wishes: Sequence[Wish]) -> list[float]:
    """By the step loop, which is driven by hand."""
    tables = Tables(CONFIG)
    for wish in wishes:
        tables.of(wish.sampler, "native", wish.steps)
    clock = Clock()
    loop = Loop(network, widths(network, tables), clock=clock)
    clock.leapt -= clock()
    took, left = {}, [(wish, wish.ticket(tables)) for wish in wishes]
    under_way: list[tuple[Wish, Ticket]] = []
    while left or under_way:
        if not under_way:
            clock.leap(left[0][0].arrives)
        while left and left[0][0].arrives <= clock():
            loop.waiting.append(left[0][1])
            under_way.append(left.pop(0))
        loop.tick()
        for wish, ticket in under_way:
            if ticket.step == len(ticket.table):
                took[wish.number] = clock() - wish.arrives
        under_way = [one for one in under_way if one[0].number not in took]
    return [took[wish.number] for wish in wishes]


def widths(network: Denoiser, tables: Tables) -> BatchSizes:
    """What steps of some widths take, as a worker measures it at its start."""

    def looks(width: int) -> list[float]:
        loop = Loop(network, BatchSizes({}, MOST), clock=time.process_time)
        return step_times(loop, [Wish(number, 0.0, 20, "euler", 5.0).ticket(tables) for number in range(width)])

    return measured(looks, MOST)


def fidelity(network: Denoiser) -> dict[str, Any]:
    """The largest difference from diffusers' own loop alone, as a share of the largest number in the latents."""
    tables, told = Tables(CONFIG), {}
    for sampler in SAMPLERS:
        wishes = [
            Wish(number, 0.0, steps, sampler, guidance)
            for number, (steps, guidance) in enumerate((s, g) for s in (4, 7, 20, 30) for g in (1.0, 5.0, 7.5))
        ]
        mixed = trace(len(wishes), 1e6, 5, tuple(SAMPLERS))
        found = painted(network, [*(w.ticket(tables) for w in wishes), *(w.ticket(tables) for w in mixed)])
        expected = [by_scheduler(network, [wish])[0] for wish in wishes]
        told[sampler] = max(
            float((one - other).abs().max() / other.abs().max())
            for one, other in zip(found[: len(wishes)], expected, strict=True)
        )
    return {"max_relative_difference": max(told.values()), **{f"difference_{name}": told[name] for name in told}}


def bits(network: Denoiser, orders: int) -> dict[str, Any]:
    """The share of fixed paintings that are the same to the bit whatever order they come in."""
    tables = Tables(CONFIG)
    wishes = [Wish(n, 0.0, (4, 7, 10)[n % 3], sorted(SAMPLERS)[n % 4], (1.0, 5.0)[n % 2]) for n in range(12)]
    first = painted(network, [wish.ticket(tables, fixed=True) for wish in wishes])
    same = 0
    for seed in range(orders):
        order = random.Random(seed).sample(range(len(wishes)), len(wishes))
        found = painted(network, [wishes[number].ticket(tables, fixed=True) for number in order], seed)
        same += all(torch.equal(first[number], latents) for number, latents in zip(order, found, strict=True))
    return {"orders": orders, "bit_identical": same / orders if orders else None}


def painted(network: Denoiser, tickets: Sequence[Ticket], seed: int = 0) -> list[Tensor]:
    """Latents of paintings that come one after another, some steps apart by chance."""
    loop, drawn, left = Loop(network, BatchSizes({}, MOST)), random.Random(seed), list(tickets)
    while left or loop.waiting or loop.active:
        while left and drawn.random() < 0.7:
            loop.waiting.append(left.pop(0))
        loop.tick()
    return [ticket.latents for ticket in tickets]


if __name__ == "__main__":
    main()
