"""Objectives: with every target and schedule, noisy latents and target determine picture and noise."""

import pytest
import torch
from diffusers import DDPMScheduler

from memo import BadRecipe
from training.pictures.objective import SCHEDULES, STEPS, TARGETS, make_objective


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
def test_picture_and_noise_can_be_recovered_from_latents_and_target(target, schedule):
    objective = make_objective(target, schedule, 5.0)
    picture, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    timesteps = torch.tensor([100, 400, 700])
    noisy, expected = objective.add_noise(picture, noise, timesteps)
    a, b, c, d = (
        t[timesteps].view(-1, 1, 1, 1)
        for t in (objective.alpha, objective.sigma, objective.picture_weight, objective.noise_weight)
    )
    determinant = a * d - b * c
    assert torch.allclose((d * noisy - b * expected) / determinant, picture, atol=1e-3)
    assert torch.allclose((a * expected - c * noisy) / determinant, noise, atol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noisy_latents_and_velocity_equal_those_of_diffusers(schedule):
    ours = make_objective("v", schedule, 5.0)
    theirs = DDPMScheduler(num_train_timesteps=STEPS, beta_schedule=SCHEDULES[schedule])
    picture, noise, timesteps = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2), torch.tensor([10, 900])
    noisy, velocity = ours.add_noise(picture, noise, timesteps)
    assert torch.allclose(noisy, theirs.add_noise(picture, noise, timesteps), atol=1e-6)
    assert torch.allclose(velocity, theirs.get_velocity(picture, noise, timesteps), atol=1e-6)


def test_a_flow_goes_straight_from_picture_to_noise():
    objective = make_objective("flow", "cosine", 5.0)
    picture, noise = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    noisy, velocity = objective.add_noise(picture, noise, torch.tensor([499]))
    assert (noisy.item(), velocity.item()) == (0.5, 1.0)


@pytest.mark.parametrize("target", ["v", "epsilon"])
def test_the_loss_weight_is_small_for_clean_pictures_and_one_for_noise(target):
    weight = make_objective(target, "cosine", 5.0).loss_weight
    assert weight[-1] == 1 and weight[0] < 0.01 and (weight.diff() >= 0).all()


def test_an_unknown_target_or_schedule_is_named():
    with pytest.raises(BadRecipe, match="velocity"):
        make_objective("velocity", "cosine", 5.0)
    with pytest.raises(BadRecipe, match="karras"):
        make_objective("v", "karras", 5.0)
