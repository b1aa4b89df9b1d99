"""Samplers as tables: for each step a row of coefficients, read from the stock diffusers scheduler.

Every sampler here is linear in its inputs, whatever its schedule and whatever the network predicts:

    out = network(scale · x, timestep)
    h'  = h_x · x + h_out · out
    x'  = x_x · x + x_out · out + x_h · h + x_noise · noise

h is the denoised picture as the previous step estimated it. A multistep sampler uses it; for the others it serves as
a preview. Given unit vectors for x, out and h, a scheduler's own step returns the row. Euler's rows are computed here
instead: its x is mostly noise, of up to some thousands, and in the scheduler's float32 the small remainder would be
lost to cancellation. So pictures at different steps of different samplers advance together, by one formula. Knows
no networks and no pictures.
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
X, OUT, H = torch.eye(3)  # inputs for a scheduler; the numbers of its result are then the coefficients
EULER = (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler)
Row = tuple[float, ...]
CACHED_TABLES = 256  # of each kind


@dataclass(frozen=True)
class StepTable:
    """The steps of one sampler, schedule and number of steps; image to image skips the first of them."""

    rows: Tensor  # (steps, 8) float32, the columns as in COLUMNS
    noise_scale: float  # factor of the first noise
    init_scale: float = 0.0  # factor of the init image's latents

    def __len__(self) -> int:
        return len(self.rows)


def make_scheduler(config: Mapping[str, Any], sampler: str, schedule: str) -> Any:
    """A new diffusers scheduler for a model's scheduler configuration."""
    options = {"use_karras_sigmas": True} if schedule == "karras" else {}
    if sampler == "euler" and config.get("use_flow_sigmas"):
        return FlowMatchEulerDiscreteScheduler()
    return SAMPLERS[sampler].from_config(dict(config), **options)


def set_timesteps(scheduler: Any, steps: int, skipped: int = 0) -> None:
    """Set a scheduler's timesteps, and its position to the first step that is not skipped."""
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)  # otherwise it searches by timestep, and Karras sigmas share timesteps


def read_table(scheduler: Any, steps: int) -> StepTable:
    """The table of all steps of a scheduler."""
    set_timesteps(scheduler, steps)
    return StepTable(read_rows(scheduler, 0), float(getattr(scheduler, "init_noise_sigma", 1.0)))


def read_image_to_image_table(scheduler: Any, steps: int, strength: float) -> StepTable:
    """The table of a scheduler's last steps, for an init image to which the noise of the first of them is added.

    As in diffusers' image-to-image pipelines, `strength` is the share of the steps that is taken, at least one step.
    """
    skipped = steps - max(1, int(steps * strength))
    set_timesteps(scheduler, steps, skipped)
    add_noise = scheduler.add_noise if hasattr(scheduler, "add_noise") else flow_add_noise(scheduler)
    init_scale, noise_scale, _ = add_noise(X, OUT, scheduler.timesteps[skipped : skipped + 1]).tolist()
    return StepTable(read_rows(scheduler, skipped), noise_scale, init_scale)


def flow_add_noise(scheduler: Any) -> Any:
    """A flow scheduler's `scale_noise` with the arguments of the others' `add_noise`."""
    return lambda picture, noise, timestep: scheduler.scale_noise(picture, timestep, noise)


def read_rows(scheduler: Any, skipped: int) -> Tensor:
    """The rows (steps - skipped, 8) after the skipped steps."""
    read = euler_row if isinstance(scheduler, EULER) else lcm_row if isinstance(scheduler, LCMScheduler) else read_row
    steps = list(enumerate(scheduler.timesteps))[skipped:]
    return torch.tensor([read(scheduler, number, timestep) for number, timestep in steps], dtype=torch.float32)


def read_row(scheduler: Any, number: int, timestep: Tensor) -> Row:
    """The row of one step, read from the result of the scheduler's own `step`."""
    history = getattr(scheduler, "model_outputs", None)  # of a multistep sampler, the newest last
    if history and history[-1] is not None:
        history[-1] = H
    result = scheduler.step(OUT, timestep, X)
    next_x = result.prev_sample.tolist()
    if history:
        denoised = history[-1].tolist()
    elif hasattr(result, "pred_original_sample"):
        denoised = result.pred_original_sample.tolist()
    else:  # a straight flow: out points from the picture to the noise
        denoised = [1.0, -float(scheduler.sigmas[number])]
    return float(timestep), float(scale_input(scheduler, X, timestep)[0]), denoised[0], denoised[1], *next_x, 0.0


def euler_row(scheduler: Any, number: int, timestep: Tensor) -> Row:
    """The row of one step of Euler's method, or of its ancestral form, from one sigma to the next."""
    sigma, next_sigma = scheduler.sigmas[number : number + 2].double().tolist()
    up = 0.0
    if isinstance(scheduler, EulerAncestralDiscreteScheduler):
        up = math.sqrt(next_sigma**2 * (sigma**2 - next_sigma**2) / sigma**2)
    down = math.sqrt(next_sigma**2 - up**2) / sigma
    x, out = denoised_coefficients(scheduler.config.prediction_type, sigma)
    return float(timestep), 1 / math.sqrt(sigma**2 + 1), x, out, down + (1 - down) * x, (1 - down) * out, 0.0, up


def lcm_row(scheduler: Any, number: int, timestep: Tensor) -> Row:
    """The row of one step of a consistency model: to the denoised picture, then back to the next noise level.

    Latent Consistency Models, https://arxiv.org/abs/2310.04378, with the boundary condition of diffusers' scheduler.
    """
    alpha = math.sqrt(scheduler.alphas_cumprod[int(timestep)])
    sigma = math.sqrt(1 - alpha**2) / alpha
    x, out = denoised_coefficients(scheduler.config.prediction_type, sigma)
    x /= alpha  # the coefficients are for latents that hold the picture at full strength
    skip, keep = (float(part) for part in scheduler.get_scalings_for_boundary_condition_discrete(timestep))
    last = number == len(scheduler.timesteps) - 1
    next_alpha = 1.0 if last else math.sqrt(scheduler.alphas_cumprod[int(scheduler.timesteps[number + 1])])
    up = 0.0 if last else math.sqrt(1 - next_alpha**2)
    return float(timestep), 1.0, x, out, next_alpha * (keep * x + skip), next_alpha * keep * out, 0.0, up


def denoised_coefficients(prediction_type: str, sigma: float) -> tuple[float, float]:
    """The factors of x and of the network's output in the denoised picture; raises BadSetup for an unknown type."""
    if prediction_type == "epsilon":
        return 1.0, -sigma
    if prediction_type == "v_prediction":
        return 1 / (sigma**2 + 1), -sigma / math.sqrt(sigma**2 + 1)
    raise BadSetup(f"Euler's samplers need the prediction type epsilon or v_prediction, not {prediction_type!r}")


def scale_input(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """The latents scaled as the network expects them; a straight flow's need no scaling."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents
    return torch.as_tensor(scheduler.scale_model_input(latents, timestep))


class StepTables:
    """The tables of one model, each computed once and cached."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.text_to_image = lru_cache(CACHED_TABLES)(self.make_text_to_image)
        self.image_to_image = lru_cache(CACHED_TABLES)(self.make_image_to_image)

    def make_text_to_image(self, sampler: str, schedule: str, steps: int) -> StepTable:
        """The table of all steps, starting from noise."""
        return read_table(make_scheduler(self.config, sampler, schedule), steps)

    def make_image_to_image(self, sampler: str, schedule: str, steps: int, strength: float) -> StepTable:
        """The table of the last steps, starting from an init image; see `read_image_to_image_table`."""
        return read_image_to_image_table(make_scheduler(self.config, sampler, schedule), steps, strength)


def advance(rows: Tensor, x: Tensor, out: Tensor, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """x' and h' of n pictures, each by its own row; `rows` is (n, 8), all else (n, channels, height, width)."""
    _, _, h_x, h_out, x_x, x_out, x_h, x_noise = rows.t()[..., None, None, None]
    return x_x * x + x_out * out + x_h * h + x_noise * noise, h_x * x + h_out * out
