"""What a diffusion model learns to predict, and on which noise schedule, with the names of diffusers.

The target is the noise (Ho et al. 2020), v (Salimans & Ho 2022) or the velocity of a straight flow (Liu et al. 2022).
Each is a weighted sum of noise and picture, so one formula covers them all.
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
    """Coefficients by timestep, (1000,) each.

    noisy = alpha · picture + sigma · noise; target = noise_weight · noise + picture_weight · picture;
    `loss_weight` scales the squared error.
    """

    alpha: Tensor
    sigma: Tensor
    noise_weight: Tensor
    picture_weight: Tensor
    loss_weight: Tensor

    def add_noise(self, pictures: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(noisy latents, target) for latents and noise of the same shape, each row at its own timestep."""
        alpha, sigma, noise_weight, picture_weight = (
            table.to(pictures.device)[timesteps].view(-1, 1, 1, 1)
            for table in (self.alpha, self.sigma, self.noise_weight, self.picture_weight)
        )
        return alpha * pictures + sigma * noise, noise_weight * noise + picture_weight * pictures


def make_objective(target: str, schedule: str, snr_cap: float) -> Objective:
    """The objective of a target and a noise schedule; raises BadRecipe if either is unknown.

    A flow is straight, whatever the schedule. The loss weight is min(SNR + 1, cap) / (SNR + 1) for v and
    min(SNR, cap) / SNR for noise (min-SNR, Hang et al. 2023): both limit the influence of nearly clean pictures. For
    a flow it is 1 everywhere.
    """
    check_choice("target", target, tuple(TARGETS))
    check_choice("schedule", schedule, tuple(SCHEDULES))
    if target == "flow":
        sigma = torch.arange(1, STEPS + 1) / STEPS
        ones = torch.ones(STEPS)
        return Objective(1 - sigma, sigma, ones, -ones, ones)
    signal_power = DDPMScheduler(num_train_timesteps=STEPS, beta_schedule=SCHEDULES[schedule]).alphas_cumprod
    alpha, sigma = signal_power.sqrt(), (1 - signal_power).sqrt()
    if target == "epsilon":
        loss_weight = (snr_cap * (1 - signal_power) / signal_power).clamp(max=1.0)
        return Objective(alpha, sigma, torch.ones(STEPS), torch.zeros(STEPS), loss_weight)
    return Objective(alpha, sigma, alpha, -sigma, (snr_cap * (1 - signal_power)).clamp(max=1.0))


def sampler_config(target: str, schedule: str) -> dict[str, Any]:
    """The configuration of `DPMSolverMultistepScheduler` for a model with this target and schedule."""
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
