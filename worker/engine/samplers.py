"""Samplers as tables: for each step a row of coefficients, read off the stock diffusers scheduler.

Every sampler here is linear in what goes in, whatever its schedule and whatever the network predicts:

    out = network(scale · x, timestep)
    h'  = h_x · x + h_out · out
    x'  = x_x · x + x_out · out + x_h · h + x_noise · noise

h is the picture without noise, as far as the step before could tell: what a multistep sampler keeps, and for the
others what can be shown meanwhile. Fed with unit vectors for x, out and h, a scheduler's own
step answers with the row. Euler's are worked out here: x is as large as its noise, up to some thousand, and what is
left of it cancels out in the scheduler's float32. So pictures at different steps of different samplers advance
together, by one formula. Knows no networks and no pictures.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)
from torch import Tensor

from memo import BadSetup

SAMPLERS = {
    "dpm++2m": DPMSolverMultistepScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler-a": EulerAncestralDiscreteScheduler,
    "lcm": LCMScheduler,
}
COLUMNS = ("timestep", "scale", "h_x", "h_out", "x_x", "x_out", "x_h", "x_noise")
X, OUT, H = torch.eye(3)  # what a scheduler is fed with: its answer's numbers are coefficients
EULER = (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler)
Row = tuple[float, ...]
TABLES = 256  # kept


@dataclass(frozen=True)
class Table:
    """One sampler, schedule and number of steps; without the first of them, if it begins with a picture."""

    rows: Tensor  # (steps, 8) float32, the columns as in COLUMNS
    start: float  # by which the first noise is multiplied
    kept: float = 0.0  # by which the picture is multiplied that it begins with

    def __len__(self) -> int:
        return len(self.rows)


def make_scheduler(config: Mapping[str, Any], sampler: str, schedule: str) -> Any:
    """A fresh diffusers scheduler, for a model's scheduler configuration."""
    options = {"use_karras_sigmas": True} if schedule == "karras" else {}
    if sampler == "euler" and config.get("use_flow_sigmas"):
        return FlowMatchEulerDiscreteScheduler()
    return SAMPLERS[sampler].from_config(dict(config), **options)


def begin(scheduler: Any, steps: int, skipped: int = 0) -> None:
    """Place the steps, and stand before the first that is not skipped."""
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)  # else it searches by timestep, and karras sigmas share timesteps


def read_table(scheduler: Any, steps: int) -> Table:
    """Take a scheduler through its steps."""
    begin(scheduler, steps)
    return Table(read_rows(scheduler, 0), float(getattr(scheduler, "init_noise_sigma", 1.0)))


def read_late_table(scheduler: Any, steps: int, strength: float) -> Table:
    """Take a scheduler through the last of its steps, beginning with a picture under that much noise.

    As diffusers' image-to-image pipelines have it: `strength` is the share of the steps that is taken, at least one.
    """
    skipped = steps - max(1, int(steps * strength))
    begin(scheduler, steps, skipped)
    add = scheduler.add_noise if hasattr(scheduler, "add_noise") else flow_noise(scheduler)
    kept, noise, _ = add(X, OUT, scheduler.timesteps[skipped : skipped + 1]).tolist()
    return Table(read_rows(scheduler, skipped), noise, kept)


def flow_noise(scheduler: Any) -> Any:
    """A flow's way to add noise, called as the others have it."""
    return lambda picture, noise, timestep: scheduler.scale_noise(picture, timestep, noise)


def read_rows(scheduler: Any, skipped: int) -> Tensor:
    """The rows from there on."""
    read = euler_row if isinstance(scheduler, EULER) else lcm_row if isinstance(scheduler, LCMScheduler) else read_row
    steps = list(enumerate(scheduler.timesteps))[skipped:]
    return torch.tensor([read(scheduler, number, timestep) for number, timestep in steps], dtype=torch.float32)


def read_row(scheduler: Any, number: int, timestep: Tensor) -> Row:
    """One step, by asking the scheduler."""
    keeps = getattr(scheduler, "model_outputs", None)  # a multistep sampler's, the newest last
    if keeps and keeps[-1] is not None:
        keeps[-1] = H
    answer = scheduler.step(OUT, timestep, X)
    after = answer.prev_sample.tolist()
    if keeps:
        clean = keeps[-1].tolist()
    elif hasattr(answer, "pred_original_sample"):
        clean = answer.pred_original_sample.tolist()
    else:  # a straight flow: out points from the picture to the noise
        clean = [1.0, -float(scheduler.sigmas[number])]
    return float(timestep), float(scaled(scheduler, X, timestep)[0]), clean[0], clean[1], *after, 0.0


def euler_row(scheduler: Any, number: int, timestep: Tensor) -> Row:
    """One step of Euler's method, or of its ancestral form, from noise of one strength to that of the next."""
    now, after = scheduler.sigmas[number : number + 2].double().tolist()
    up = 0.0
    if isinstance(scheduler, EulerAncestralDiscreteScheduler):
        up = math.sqrt(after**2 * (now**2 - after**2) / now**2)
    down = math.sqrt(after**2 - up**2) / now
    x, out = denoised(scheduler.config.prediction_type, now)
    return float(timestep), 1 / math.sqrt(now**2 + 1), x, out, down + (1 - down) * x, (1 - down) * out, 0.0, up


def lcm_row(scheduler: Any, number: int, timestep: Tensor) -> Row:
    """One step of a consistency model: to the picture without noise, then back to the next strength of noise.

    Latent Consistency Models, https://arxiv.org/abs/2310.04378, with the boundary condition of diffusers' scheduler.
    """
    now = math.sqrt(scheduler.alphas_cumprod[int(timestep)])
    sigma = math.sqrt(1 - now**2) / now
    x, out = denoised(scheduler.config.prediction_type, sigma)
    x /= now  # that was of latents with the picture at full strength
    skip, keep = (float(part) for part in scheduler.get_scalings_for_boundary_condition_discrete(timestep))
    last = number == len(scheduler.timesteps) - 1
    after = 1.0 if last else math.sqrt(scheduler.alphas_cumprod[int(scheduler.timesteps[number + 1])])
    up = 0.0 if last else math.sqrt(1 - after**2)
    return float(timestep), 1.0, x, out, after * (keep * x + skip), after * keep * out, 0.0, up


def denoised(predicted: str, sigma: float) -> tuple[float, float]:
    """How the picture without noise follows from x and from what the network predicts; raises BadSetup."""
    if predicted == "epsilon":
        return 1.0, -sigma
    if predicted == "v_prediction":
        return 1 / (sigma**2 + 1), -sigma / math.sqrt(sigma**2 + 1)
    raise BadSetup(f"Euler's samplers know the predictions epsilon and v_prediction, not {predicted!r}")


def scaled(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """The latents as the network was taught them; those of a straight flow already are."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents
    return torch.as_tensor(scheduler.scale_model_input(latents, timestep))


class Tables:
    """The tables of one model, each made once."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.of = lru_cache(TABLES)(self.make)
        self.late = lru_cache(TABLES)(self.make_late)

    def make(self, sampler: str, schedule: str, steps: int) -> Table:
        """The table of a sampler, a schedule and a number of steps."""
        return read_table(make_scheduler(self.config, sampler, schedule), steps)

    def make_late(self, sampler: str, schedule: str, steps: int, strength: float) -> Table:
        """The same for what begins with a picture."""
        return read_late_table(make_scheduler(self.config, sampler, schedule), steps, strength)


def advance(rows: Tensor, x: Tensor, out: Tensor, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """x' and h' of n pictures, each by its own row (n, 8); all else (n, channels, height, width)."""
    _, _, h_x, h_out, x_x, x_out, x_h, x_noise = rows.t()[..., None, None, None]
    return x_x * x + x_out * out + x_h * h + x_noise * noise, h_x * x + h_out * out
