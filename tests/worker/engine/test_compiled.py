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
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, while it compiles


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    write_lora(write_stable_diffusion(folder), "ink", 1)
    return Catalogue(folder)


@pytest.fixture(scope="module")
def plain(catalogue):
    return open_painter(catalogue.model("sd"), OPTIONS)


@pytest.fixture(scope="module")
def compiled(catalogue):
    """A painter with a compiled network; compiling takes twenty seconds."""
    return open_painter(catalogue.model("sd"), replace(OPTIONS, compile="1"))


def paint(painter, catalogue, **more):
    recipe = catalogue.recipe({"model": "sd", "prompt": "a red fox", "seed": 3, **more})
    return np.asarray(painter(recipe, lambda progress: None), np.float32)


def count_graphs():
    """Count the graphs compiled in this process so far."""
    return counters["stats"]["unique_graphs"]


@contextmanager
def record_row_counts(compiled):
    """Record the number of rows of each call of the compiled network."""
    network, row_counts = compiled.denoiser.compiled.network, []
    compiled.denoiser.compiled.network = lambda *inputs, **more: (
        row_counts.append(len(inputs[0])) or network(*inputs, **more)
    )
    yield row_counts
    compiled.denoiser.compiled.network = network


def test_the_network_is_compiled_before_the_first_painting(one_thread, catalogue, plain, compiled):
    assert compiled.loop.buckets == [2] and compiled.device == f"{plain.device}, compiled"
    before = count_graphs()
    with record_row_counts(compiled) as row_counts:
        picture = paint(compiled, catalogue, steps=4)
    assert row_counts == [2, 2, 2, 2] and count_graphs() == before
    assert np.abs(picture - paint(plain, catalogue, steps=4)).max() <= 1


@pytest.mark.parametrize("change", [{"guidance_scale": 1.0}, {"width": 96, "height": 64}, {"adapter": "ink"}])
def test_recipes_outside_the_compiled_shapes_use_the_plain_network(one_thread, catalogue, plain, compiled, change):
    before = count_graphs()
    assert (paint(compiled, catalogue, **change) == paint(plain, catalogue, **change)).all()
    assert np.abs(paint(compiled, catalogue) - paint(plain, catalogue)).max() <= 1 and count_graphs() == before


def test_reproducible_pictures_have_the_same_bits_with_and_without_compiling(one_thread, catalogue, plain, compiled):
    reproducible = {"mode": "reproducible"}
    with record_row_counts(compiled) as row_counts:
        assert (paint(compiled, catalogue, **reproducible) == paint(plain, catalogue, **reproducible)).all()
    assert row_counts == []  # compiled code may round differently after the next start


def test_each_batch_size_is_compiled_for_the_rows_of_the_models_usual_guidance(one_thread, catalogue, monkeypatch):
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

    before = count_graphs()
    networks = [CompiledNetwork(Add(), "1") for _ in range(2)]  # two models of one class share a cache
    for compiled in networks:
        for rows in range(1, 11):
            compiled.network(torch.zeros(rows, 3))
    assert count_graphs() == before + 10


def test_an_adapter_loaded_into_a_network_is_not_in_its_compiled_copy(plain):
    unet = plain.denoiser.unet
    copy = fuse_projections(copy_sharing_weights(unet))
    assert next(copy.parameters()) is next(unet.parameters())
    names = {name for name, _ in unet.named_modules()}
    assert any("to_qkv" in name for name, _ in copy.named_modules()) and not any("to_qkv" in name for name in names)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_network_that_cannot_be_compiled_stops_the_worker_with_the_reason(catalogue, monkeypatch, rows):
    """Even if only batches of two cannot be compiled, they are not timed painting by painting instead."""

    def broken(noisy, *inputs, **more):
        if len(noisy) >= rows:
            raise RuntimeError("no working C++ compiler found")
        return plain.denoiser.unet(noisy, *inputs, **more)

    plain = open_painter(catalogue.model("sd"), OPTIONS)
    monkeypatch.setattr("worker.engine.compiled.torch.compile", lambda network, **_: broken)
    with pytest.raises(BadSetup, match="WORKER_COMPILE=1: no working C.. compiler found; `memoaized doctor`"):
        open_painter(catalogue.model("sd"), replace(OPTIONS, compile="1", slots=2))
