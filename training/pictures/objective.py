"""What a diffusion model is taught to predict, and on which noise schedule; diffusers' names for both.

Targets: the noise (Ho et al. 2020), v (Salimans & Ho 2022), or the velocity of a straight flow (Liu et al. 2022).
Every target is a mixture of noise and picture, so that one line serves them all. Knows no network.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from memo.recipe import check_choice

STEPS = 1000
TARGETS = {"epsilon": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}
SCHEDULES = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


@dataclass(frozen=True)
class Objective:
    """Tables by timestep, (1000,) each.

    noisy = signal · picture + spread · noise; target = to_noise · noise + to_picture · picture;
    `weight` is what an error counts at that timestep.
    """

    signal: Tensor
    spread: Tensor
    to_noise: Tensor
    to_picture: Tensor
    weight: Tensor

    def noised(self, pictures: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(noisy latents, target) for latents and noise of the same shape, at one timestep each."""
        signal, spread, to_noise, to_picture = (
            table.to(pictures.device)[timesteps].view(-1, 1, 1, 1)
            for table in (self.signal, self.spread, self.to_noise, self.to_picture)
        )
        return signal * pictures + spread * noise, to_noise * noise + to_picture * pictures


def objective(target: str, schedule: str, snr_cap: float) -> Objective:
    """The tables; raises BadRecipe for an unknown target or schedule. A flow is straight whatever the schedule.

    Errors in v count min(SNR + 1, cap) / (SNR + 1), those in noise min(SNR, cap) / SNR (min-SNR, Hang et al. 2023):
    both cap what nearly clean pictures count. A flow's count the same everywhere.
    """
    check_choice("target", target, tuple(TARGETS))
    check_choice("schedule", schedule, tuple(SCHEDULES))
    if target == "flow":
        spread = torch.arange(1, STEPS + 1) / STEPS
        one = torch.ones(STEPS)
        return Objective(1 - spread, spread, one, -one, one)
    power = DDPMScheduler(num_train_timesteps=STEPS, beta_schedule=SCHEDULES[schedule]).alphas_cumprod
    signal, spread = power.sqrt(), (1 - power).sqrt()
    if target == "epsilon":
        weight = (snr_cap * (1 - power) / power).clamp(max=1.0)
        return Objective(signal, spread, torch.ones(STEPS), torch.zeros(STEPS), weight)
    return Objective(signal, spread, signal, -spread, (snr_cap * (1 - power)).clamp(max=1.0))


def sampler_config(target: str, schedule: str) -> dict[str, Any]:
    """How a model so taught is sampled, for `DPMSolverMultistepScheduler`."""
    flow = {"use_flow_sigmas": True, "flow_shift": 1.0} if target == "flow" else {}
    return {
        "num_train_timesteps": STEPS,
        "beta_schedule": SCHEDULES[schedule],
        "prediction_type": TARGETS[target],
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "timestep_spacing": "trailing",
        "steps_offset": 1,
        **flow,
    }
