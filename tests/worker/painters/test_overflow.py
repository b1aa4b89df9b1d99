"""Numbers that overflow fail their painting with words, in the step loop and in pipelines, and no other one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.models import Catalogue
from memo import BadSetup
from tests.stock_models import write_sd3, write_stable_diffusion
from tests.worker.engine.test_adapters import write_lora
from worker.engine.overflow import Overflow, repeat_in_float32, sound_rows
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

OPTIONS = PainterOptions(slots=3, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overflowing")
    for write in (write_stable_diffusion, write_sd3):
        adapters = write(folder) / "adapters"
        write_lora(adapters.parent, "ink", 1, parts=("network",))
        weights = load_file(adapters / "ink.safetensors")
        save_file({name: value * 1e18 for name, value in weights.items()}, adapters / "huge.safetensors")
        first = next(iter(weights))
        for name, fault in (("nan", float("nan")), ("infinite", float("inf"))):
            damaged = weights[first].clone()
            damaged.view(-1)[0] = fault
            save_file(weights | {first: damaged}, adapters / f"{name}.safetensors")
    return Catalogue(folder)


@pytest.fixture(params=["sd", "sd3"])
def name(request):
    return request.param


@pytest.fixture
def painter(catalogue, name):
    return open_painter(catalogue.model(name), OPTIONS)


def make_recipe(catalogue, name, **more):
    return catalogue.recipe({"model": name, "prompt": "a red fox", "seed": 3, **more})


def paint(painter, recipe):
    return np.asarray(painter(recipe, lambda progress: None))


@pytest.mark.parametrize("adapter", ["nan", "infinite"])
def test_an_adapter_with_a_weight_that_is_no_number_is_refused(catalogue, painter, name, adapter):
    with pytest.raises(BadSetup, match=rf"{adapter}.safetensors cannot be used .* holds weights that are not finite"):
        paint(painter, make_recipe(catalogue, name, adapter=adapter))


def test_an_adapter_with_huge_weights_fails_and_neighbours_are_unharmed(one_thread, catalogue, painter, name):
    modes = [{"seed": 4, "mode": "reproducible", "steps": 6}, {"seed": 5, "steps": 6}]
    recipes = [make_recipe(catalogue, name, **mode) for mode in modes]
    alone = [paint(painter, recipe) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        broken = pool.submit(paint, painter, make_recipe(catalogue, name, adapter="huge"))
        together = list(pool.map(lambda recipe: paint(painter, recipe), recipes))
    with pytest.raises(
        Overflow, match="the numbers overflowed at step [1-4]: the adapter huge at weight 1 may be too"
    ):
        broken.result()
    assert (together[0] == alone[0]).all()
    assert np.abs(together[1].astype(int) - alone[1]).max() <= 1


def test_damaged_weights_of_the_network_fail_each_painting(catalogue, name):
    painter = open_painter(catalogue.model(name), PainterOptions(device="cpu", dtype="float32"))
    network = painter.denoiser.unet if name == "sd" else painter.pipe.transformer
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(
        Overflow, match="overflowed at step 1: weights of the model may be damaged; add the model again"
    ):
        paint(painter, make_recipe(catalogue, name))


def test_a_damaged_text_encoder_fails_the_painting(catalogue, name):
    painter = open_painter(catalogue.model(name), PainterOptions(device="cpu", dtype="float32"))
    pipe = painter.conditioner.pipe if name == "sd" else painter.pipe
    with torch.no_grad():
        next(pipe.text_encoder.parameters()).fill_(float("nan"))
    when = "while the prompt was read" if name == "sd" else "at step 1"
    with pytest.raises(Overflow, match=f"the numbers overflowed {when}"):
        paint(painter, make_recipe(catalogue, name))


def test_a_damaged_autoencoder_fails_the_painting(catalogue, name):
    painter = open_painter(catalogue.model(name), PainterOptions(device="cpu", dtype="float32"))
    vae = painter.vae if name == "sd" else painter.pipe.vae
    with torch.no_grad():
        vae.decoder.conv_out.bias[0] = float("nan")
    with pytest.raises(Overflow, match="the numbers overflowed while the picture was decoded"):
        paint(painter, make_recipe(catalogue, name))


def test_an_autoencoder_that_overflows_in_half_precision_decodes_again_in_float32(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), PainterOptions(device="cpu", dtype="float16"))
    vae = (painter.vae if name == "sd" else painter.pipe.vae).half()
    with torch.no_grad():  # too much for float16 in between, little in the end
        vae.post_quant_conv.weight.mul_(2e4)
        vae.post_quant_conv.bias.fill_(6e4)
    latents = torch.full((2, 4, 8, 8), 40.0, dtype=torch.float16)
    assert not torch.isfinite(type(vae).decode(vae, latents).sample).all()
    assert torch.isfinite(vae.decode(latents).sample).all() and vae.dtype == torch.float16


def test_faulty_latents_are_not_decoded_twice():
    class Vae:
        def decode(self, latents):
            calls.append(latents.dtype)
            return (latents,)

    calls, vae = [], Vae()
    repeat_in_float32(vae)
    vae.decode(torch.full((1, 4), float("nan"), dtype=torch.float16))
    assert calls == [torch.float16]


def test_each_row_is_judged_alone():
    numbers = torch.zeros(4, 3, 2)
    numbers[1, 2, 1], numbers[2, 0, 0], numbers[3, 1, 1] = float("nan"), float("-inf"), -1e7
    assert sound_rows(numbers) == [True, False, False, False]
    assert sound_rows(numbers.half()) == [True, False, False, False]
