"""Compiled networks: they paint the same pictures, and only shapes compiled at the start use them."""

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
from worker.engine.compiled import CompiledNetwork, copy_sharing_weights, fuse_projections
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

OPTIONS = PainterOptions(device="cpu", dtype="float32")
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # from torch itself while compiling


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    write_lora(write_stable_diffusion(folder), "ink", 1)
    return Catalogue(folder)


@pytest.fixture(scope="module")
def plain(catalogue):
    return open_painter(catalogue.model("sd"), OPTIONS)


@pytest.fixture(scope="module")
def quick(catalogue):
    """A painter with a compiled network; compiling takes twenty seconds."""
    return open_painter(catalogue.model("sd"), replace(OPTIONS, compile="1"))


def paint(painter, catalogue, **more):
    recipe = catalogue.recipe({"model": "sd", "prompt": "a red fox", "seed": 3, **more})
    return np.asarray(painter(recipe, lambda progress: None), np.float32)


def graphs():
    """The number of graphs compiled in this process so far."""
    return counters["stats"]["unique_graphs"]


@contextmanager
def calls(quick):
    """Records the numbers of rows that the compiled network is called with."""
    compiled, called = quick.denoiser.compiled.network, []
    quick.denoiser.compiled.network = lambda *inputs, **more: (
        called.append(len(inputs[0])) or compiled(*inputs, **more)
    )
    yield called
    quick.denoiser.compiled.network = compiled


def test_the_network_is_compiled_before_the_first_painting(one_thread, catalogue, plain, quick):
    assert quick.loop.buckets == [2] and quick.device == f"{plain.device}, compiled"
    before = graphs()
    with calls(quick) as called:
        found = paint(quick, catalogue, steps=4)
    assert called == [2, 2, 2, 2] and graphs() == before
    assert np.abs(found - paint(plain, catalogue, steps=4)).max() <= 1


@pytest.mark.parametrize("change", [{"guidance_scale": 1.0}, {"width": 96, "height": 64}, {"adapter": "ink"}])
def test_shapes_that_were_not_compiled_use_the_plain_network(one_thread, catalogue, plain, quick, change):
    before = graphs()
    assert (paint(quick, catalogue, **change) == paint(plain, catalogue, **change)).all()
    assert np.abs(paint(quick, catalogue) - paint(plain, catalogue)).max() <= 1 and graphs() == before


def test_reproducible_pictures_have_the_same_bits_with_and_without_compiling(one_thread, catalogue, plain, quick):
    reproducible = {"mode": "reproducible"}
    with calls(quick) as called:
        assert (paint(quick, catalogue, **reproducible) == paint(plain, catalogue, **reproducible)).all()
    assert called == []  # compiled code may round differently after the next start


def test_each_batch_size_is_compiled_for_the_rows_that_the_model_usually_has(one_thread, catalogue, monkeypatch):
    monkeypatch.setattr("worker.engine.compiled.torch.compile", lambda network, **_: network)
    options = replace(OPTIONS, compile="max", slots=5)
    guided = open_painter(catalogue.model("sd"), options)
    assert guided.loop.buckets == [2, 4, 6, 8, 10] and sorted(guided.loop.batch_sizes.seconds) == [1, 2, 3, 4, 5]
    turbo = replace(catalogue.model("sd"), defaults={"guidance_scale": 1.0})
    assert open_painter(turbo, options).loop.buckets == [1, 2, 3, 4, 5]


def test_more_shapes_are_compiled_than_torch_allows_by_default():
    class Add(torch.nn.Module):
        def forward(self, noisy):
            return noisy + 1

    before = graphs()
    for quick in (CompiledNetwork(Add(), "1"), CompiledNetwork(Add(), "1")):  # two models of one class share a cache
        for rows in range(1, 11):
            quick.network(torch.zeros(rows, 3))
    assert graphs() == before + 10


def test_an_adapter_loaded_into_a_network_is_not_in_its_compiled_copy(plain):
    unet = plain.denoiser.unet
    copy = fuse_projections(copy_sharing_weights(unet))
    assert next(copy.parameters()) is next(unet.parameters())
    names = {name for name, _ in unet.named_modules()}
    assert any("to_qkv" in name for name, _ in copy.named_modules()) and not any("to_qkv" in name for name in names)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_network_that_cannot_be_compiled_stops_the_worker_with_the_reason(catalogue, monkeypatch, rows):
    """Nor are the steps timed one by one without it."""

    def broken(noisy, *inputs, **more):
        if len(noisy) >= rows:
            raise RuntimeError("no working C++ compiler found")
        return plain.denoiser.unet(noisy, *inputs, **more)

    plain = open_painter(catalogue.model("sd"), OPTIONS)
    monkeypatch.setattr("worker.engine.compiled.torch.compile", lambda network, **_: broken)
    with pytest.raises(BadSetup, match="WORKER_COMPILE=1: no working C.. compiler found; `memoaized doctor`"):
        open_painter(catalogue.model("sd"), replace(OPTIONS, compile="1", slots=2))
