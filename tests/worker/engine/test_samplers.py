"""Step tables compared with the loops of diffusers' schedulers, over a small nonlinear network."""

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler

from memo import BadSetup
from memo.recipe import SAMPLERS as NAMES
from worker.engine.samplers import COLUMNS, SAMPLERS, StepTables, advance, make_scheduler, scale_input, set_timesteps

SHAPE = (1, 4, 6, 6)
CONFIGS = {
    "scaled linear, epsilon": {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "timestep_spacing": "leading",
    },
    "linear, epsilon": {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"},
    "cosine, v": {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    },
    "flow": {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
}
WEIGHTS = 0.3 * torch.randn(4, 4, generator=torch.Generator().manual_seed(3))


def network(x, timestep):
    time = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1, 1, 1, 1) / 1000
    return torch.tanh(torch.einsum("oc,nchw->nohw", WEIGHTS, x) + time)


def config(name):
    return {"num_train_timesteps": 1000, "clip_sample": False, **CONFIGS[name]}


def run_scheduler(config, sampler, schedule, steps, seed=7):
    """Run diffusers' scheduler; returns its result and the largest value of its first noise."""
    scheduler, generator = make_scheduler(config, sampler, schedule), torch.Generator().manual_seed(seed)
    set_timesteps(scheduler, steps)
    noisy = isinstance(scheduler, EulerAncestralDiscreteScheduler | LCMScheduler)
    options = {"generator": generator} if noisy else {}
    x = torch.randn(SHAPE, generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    strongest = float(x.abs().max())
    for timestep in scheduler.timesteps:
        output = network(scale_input(scheduler, x, timestep), timestep)
        x = scheduler.step(output, timestep, x, **options).prev_sample
    return x, strongest


def run_table(config, sampler, schedule, steps, seed=7):
    table, generator = StepTables(config).text_to_image(sampler, schedule, steps), torch.Generator().manual_seed(seed)
    assert len(table) == steps and table.rows.shape[1] == len(COLUMNS)
    x = torch.randn(SHAPE, generator=generator) * table.noise_scale
    h = zeros = torch.zeros(SHAPE)
    for row in table.rows:
        noise = torch.randn(SHAPE, generator=generator) if row[-1] else zeros
        x, h = advance(row[None], x, network(row[1] * x, row[0]), h, noise)
    return x


def list_combinations():
    for name in CONFIGS:
        for sampler in SAMPLERS:
            for schedule in ("native", "karras"):
                impossible = name == "flow" and (sampler in ("ddim", "euler-a", "lcm") or schedule == "karras")
                if not impossible and (sampler, schedule) not in (("ddim", "karras"), ("lcm", "karras")):
                    yield name, sampler, schedule


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 20, 50])
@pytest.mark.parametrize(("name", "sampler", "schedule"), list(list_combinations()))
def test_a_table_gives_the_same_result_as_the_scheduler(name, sampler, schedule, steps):
    """Within 1e-5, or within diffusers' own float32 rounding if the first noise is in the thousands."""
    expected, strongest = run_scheduler(config(name), sampler, schedule, steps)
    actual = run_table(config(name), sampler, schedule, steps)
    largest = float(expected.abs().max())
    tolerance = 1e-5 * largest + (2**-23 * strongest if strongest > 1000 else 0)
    assert float((actual - expected).abs().max()) <= tolerance


def run_both_from_init_image(config, sampler, schedule, steps, strength, seed=7):
    """Run scheduler and table from an init image; returns both results and the largest value of the first noise."""
    scheduler, skipped = make_scheduler(config, sampler, schedule), steps - max(1, int(steps * strength))
    picture, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))
    set_timesteps(scheduler, steps, skipped)
    timesteps = scheduler.timesteps[skipped:]
    flow = not hasattr(scheduler, "add_noise")
    x = (
        scheduler.scale_noise(picture, timesteps[:1], noise)
        if flow
        else scheduler.add_noise(picture, noise, timesteps[:1])
    )
    strongest = float(x.abs().max())
    table = StepTables(config).image_to_image(sampler, schedule, steps, strength)
    y, h = table.init_scale * picture + table.noise_scale * noise, torch.zeros(SHAPE)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    noisy = isinstance(scheduler, EulerAncestralDiscreteScheduler | LCMScheduler)
    for timestep, row in zip(timesteps, table.rows, strict=True):
        options = {"generator": generators[0]} if noisy else {}
        x = scheduler.step(network(scale_input(scheduler, x, timestep), timestep), timestep, x, **options).prev_sample
        added = torch.randn(SHAPE, generator=generators[1]) if row[-1] else torch.zeros(SHAPE)
        y, h = advance(row[None], y, network(row[1] * y, row[0]), h, added)
    return x, y, strongest


@pytest.mark.parametrize(("steps", "strength"), [(1, 0.5), (4, 0.2), (10, 0.3), (10, 0.75), (7, 1.0)])
@pytest.mark.parametrize(("name", "sampler", "schedule"), list(list_combinations()))
def test_from_an_init_image_a_table_gives_the_same_result_as_the_scheduler(name, sampler, schedule, steps, strength):
    expected, actual, strongest = run_both_from_init_image(config(name), sampler, schedule, steps, strength)
    tolerance = 1e-5 * float(expected.abs().max()) + (2**-23 * strongest if strongest > 1000 else 0)
    assert float((actual - expected).abs().max()) <= tolerance


def test_every_sampler_of_a_recipe_has_a_table():
    assert set(NAMES) == set(SAMPLERS)


def test_pictures_of_different_samplers_advance_together_as_they_do_alone():
    tables = [StepTables(config("linear, epsilon")).text_to_image(name, "native", 10) for name in SAMPLERS]
    rows = torch.stack([table.rows[3 + number] for number, table in enumerate(tables)])
    x, out, h, noise = torch.randn(4, len(rows), *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    together = advance(rows, x, out, h, noise)
    for number in range(len(rows)):
        row = slice(number, number + 1)
        alone = advance(rows[row], x[row], out[row], h[row], noise[row])
        assert all(torch.equal(part[row], single) for part, single in zip(together, alone, strict=True))


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(BadSetup, match="'sample'"):
        StepTables({**config("linear, epsilon"), "prediction_type": "sample"}).text_to_image("euler", "native", 4)


def test_a_table_is_computed_once():
    tables = StepTables(config("linear, epsilon"))
    assert tables.text_to_image("euler", "native", 4) is tables.text_to_image("euler", "native", 4)
