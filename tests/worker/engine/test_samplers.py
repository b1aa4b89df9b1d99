"""Tables against the stock schedulers' own loops, with a small network that is anything but linear."""

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler

from memo import BadSetup
from memo.recipe import SAMPLERS as NAMES
from worker.engine.samplers import COLUMNS, SAMPLERS, Tables, advance, begin, make_scheduler, scaled

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


def by_scheduler(config, sampler, schedule, steps, seed=7):
    """What diffusers paints, and the strongest noise in it."""
    scheduler, generator = make_scheduler(config, sampler, schedule), torch.Generator().manual_seed(seed)
    begin(scheduler, steps)
    noisy = isinstance(scheduler, EulerAncestralDiscreteScheduler | LCMScheduler)
    options = {"generator": generator} if noisy else {}
    x = torch.randn(SHAPE, generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    strongest = float(x.abs().max())
    for timestep in scheduler.timesteps:
        output = network(scaled(scheduler, x, timestep), timestep)
        x = scheduler.step(output, timestep, x, **options).prev_sample
    return x, strongest


def by_table(config, sampler, schedule, steps, seed=7):
    table, generator = Tables(config).of(sampler, schedule, steps), torch.Generator().manual_seed(seed)
    assert len(table) == steps and table.rows.shape[1] == len(COLUMNS)
    x = torch.randn(SHAPE, generator=generator) * table.start
    h = nothing = torch.zeros(SHAPE)
    for row in table.rows:
        noise = torch.randn(SHAPE, generator=generator) if row[-1] else nothing
        x, h = advance(row[None], x, network(row[1] * x, row[0]), h, noise)
    return x


def offered():
    for name in CONFIGS:
        for sampler in SAMPLERS:
            for schedule in ("native", "karras"):
                flow = name == "flow" and (sampler in ("ddim", "euler-a", "lcm") or schedule == "karras")
                if not flow and (sampler, schedule) not in (("ddim", "karras"), ("lcm", "karras")):
                    yield name, sampler, schedule


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 20, 50])
@pytest.mark.parametrize(("name", "sampler", "schedule"), list(offered()))
def test_a_table_paints_what_the_scheduler_paints(name, sampler, schedule, steps):
    """To a hundred thousandth, or to what diffusers itself rounds off where its first noise is thousands strong."""
    expected, strongest = by_scheduler(config(name), sampler, schedule, steps)
    found = by_table(config(name), sampler, schedule, steps)
    largest = float(expected.abs().max())
    allowed = 1e-5 * largest + (2**-23 * strongest if strongest > 1000 else 0)
    assert float((found - expected).abs().max()) <= allowed


def late(config, sampler, schedule, steps, strength, seed=7):
    """What diffusers paints from a picture on, and what the table paints."""
    scheduler, skipped = make_scheduler(config, sampler, schedule), steps - max(1, int(steps * strength))
    picture, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))
    begin(scheduler, steps, skipped)
    left = scheduler.timesteps[skipped:]
    flow = not hasattr(scheduler, "add_noise")
    x = scheduler.scale_noise(picture, left[:1], noise) if flow else scheduler.add_noise(picture, noise, left[:1])
    strongest = float(x.abs().max())
    table = Tables(config).late(sampler, schedule, steps, strength)
    y, h = table.kept * picture + table.start * noise, torch.zeros(SHAPE)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    noisy = isinstance(scheduler, EulerAncestralDiscreteScheduler | LCMScheduler)
    for timestep, row in zip(left, table.rows, strict=True):
        options = {"generator": generators[0]} if noisy else {}
        x = scheduler.step(network(scaled(scheduler, x, timestep), timestep), timestep, x, **options).prev_sample
        added = torch.randn(SHAPE, generator=generators[1]) if row[-1] else torch.zeros(SHAPE)
        y, h = advance(row[None], y, network(row[1] * y, row[0]), h, added)
    return x, y, strongest


@pytest.mark.parametrize(("steps", "strength"), [(1, 0.5), (4, 0.2), (10, 0.3), (10, 0.75), (7, 1.0)])
@pytest.mark.parametrize(("name", "sampler", "schedule"), list(offered()))
def test_from_a_picture_on_a_table_paints_what_the_scheduler_paints(name, sampler, schedule, steps, strength):
    expected, found, strongest = late(config(name), sampler, schedule, steps, strength)
    allowed = 1e-5 * float(expected.abs().max()) + (2**-23 * strongest if strongest > 1000 else 0)
    assert float((found - expected).abs().max()) <= allowed


def test_every_sampler_of_a_recipe_has_a_table():
    assert set(NAMES) == set(SAMPLERS)


def test_pictures_of_different_samplers_advance_together_as_they_do_alone():
    tables = [Tables(config("linear, epsilon")).of(name, "native", 10) for name in SAMPLERS]
    rows = torch.stack([table.rows[3 + number] for number, table in enumerate(tables)])
    x, out, h, noise = torch.randn(4, len(rows), *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    together = advance(rows, x, out, h, noise)
    for number in range(len(rows)):
        one = slice(number, number + 1)
        alone = advance(rows[one], x[one], out[one], h[one], noise[one])
        assert all(torch.equal(part[one], single) for part, single in zip(together, alone, strict=True))


def test_an_unknown_prediction_is_refused():
    with pytest.raises(BadSetup, match="'sample'"):
        Tables({**config("linear, epsilon"), "prediction_type": "sample"}).of("euler", "native", 4)


def test_a_table_is_made_once():
    tables = Tables(config("linear, epsilon"))
    assert tables.of("euler", "native", 4) is tables.of("euler", "native", 4)
