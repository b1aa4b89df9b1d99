"""What torch.compile makes of a network: the same pictures, by shapes prepared before the first painting alone."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from jobs.models import Catalogue
from memo import BadSetup
from tests.stock_models import write_stable_diffusion
from tests.worker.engine.test_adapters import write_lora
from worker.engine.compiled import Compiled, fused, twin
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

MEANS = PainterOptions(device="cpu", dtype="float32")
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself, while compiling


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    write_lora(write_stable_diffusion(folder), "ink", 1)
    return Catalogue(folder)


@pytest.fixture(scope="module")
def plain(catalogue):
    return open_painter(catalogue.model("sd"), MEANS)


@pytest.fixture(scope="module")
def quick(catalogue):
    """It takes twenty seconds to be prepared."""
    return open_painter(catalogue.model("sd"), replace(MEANS, compile="1"))


def paint(painter, catalogue, **more):
    recipe = catalogue.recipe({"model": "sd", "prompt": "a red fox", "seed": 3, **more})
    return np.asarray(painter(recipe, lambda progress: None), np.float32)


def graphs():
    """How often something was compiled so far in this process."""
    return counters["stats"]["unique_graphs"]


@contextmanager
def calls(quick):
    """The rows that its compiled network is called with meanwhile."""
    compiled, called = quick.denoiser.compiled.network, []
    quick.denoiser.compiled.network = lambda *inputs, **more: (
        called.append(len(inputs[0])) or compiled(*inputs, **more)
    )
    yield called
    quick.denoiser.compiled.network = compiled


def test_it_is_compiled_before_the_first_painting(one_thread, catalogue, plain, quick):
    assert quick.loop.buckets == [2] and quick.device == f"{plain.device}, compiled"
    before = graphs()
    with calls(quick) as called:
        found = paint(quick, catalogue, steps=4)
    assert called == [2, 2, 2, 2] and graphs() == before
    assert np.abs(found - paint(plain, catalogue, steps=4)).max() <= 1


@pytest.mark.parametrize("change", [{"guidance_scale": 1.0}, {"width": 96, "height": 64}, {"adapter": "ink"}])
def test_what_was_not_prepared_is_painted_as_it_is_and_stops_nobody(one_thread, catalogue, plain, quick, change):
    before = graphs()
    assert (paint(quick, catalogue, **change) == paint(plain, catalogue, **change)).all()
    assert np.abs(paint(quick, catalogue) - paint(plain, catalogue)).max() <= 1 and graphs() == before


def test_reproducible_pictures_have_the_bits_that_they_have_without(one_thread, catalogue, plain, quick):
    exact = {"mode": "reproducible"}
    with calls(quick) as called:
        assert (paint(quick, catalogue, **exact) == paint(plain, catalogue, **exact)).all()
    assert called == []  # compiled code may round otherwise after the next start


def test_each_width_is_prepared_in_the_rows_that_are_usual_for_the_model(one_thread, catalogue, monkeypatch):
    monkeypatch.setattr("worker.engine.compiled.torch.compile", lambda network, **_: network)
    means = replace(MEANS, compile="max", slots=5)
    guided = open_painter(catalogue.model("sd"), means)
    assert guided.loop.buckets == [2, 4, 6, 8, 10] and sorted(guided.loop.widths.seconds) == [1, 2, 3, 4, 5]
    turbo = replace(catalogue.model("sd"), defaults={"guidance_scale": 1.0})
    assert open_painter(turbo, means).loop.buckets == [1, 2, 3, 4, 5]


def test_more_shapes_are_compiled_than_torch_would_by_itself():
    class Add(torch.nn.Module):
        def forward(self, noisy):
            return noisy + 1

    before = graphs()
    for quick in (Compiled(Add(), "1"), Compiled(Add(), "1")):  # two models of one class share a cache
        for rows in range(1, 11):
            quick.network(torch.zeros(rows, 3))
    assert graphs() == before + 10


def test_an_adapter_laid_into_a_network_is_not_in_its_twin_over_the_same_weights(plain):
    unet = plain.denoiser.unet
    other = fused(twin(unet))
    assert next(other.parameters()) is next(unet.parameters())
    names = {name for name, _ in unet.named_modules()}
    assert any("to_qkv" in name for name, _ in other.named_modules()) and not any("to_qkv" in name for name in names)


@pytest.mark.parametrize("rows", [1, 3])
def test_what_cannot_be_compiled_ends_the_worker_with_the_reason(catalogue, monkeypatch, rows):
    """And is not timed as if it were, one by one."""

    def broken(noisy, *inputs, **more):
        if len(noisy) >= rows:
            raise RuntimeError("no working C++ compiler found")
        return plain.denoiser.unet(noisy, *inputs, **more)

    plain = open_painter(catalogue.model("sd"), MEANS)
    monkeypatch.setattr("worker.engine.compiled.torch.compile", lambda network, **_: broken)
    with pytest.raises(BadSetup, match="WORKER_COMPILE=1: no working C.. compiler found; `memoaized doctor`"):
        open_painter(catalogue.model("sd"), replace(MEANS, compile="1", slots=2))
