"""diffusers' own pipelines as painters: equal settings go together, each comes out as alone, cancelling works."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UNet2DModel,
)
from transformers import CLIPTextModelWithProjection

from memo import BadRecipe
from tests.stock_models import WIDTH, autoencoder, text_encoder, tokenizer
from worker.catalogue import Catalogue
from worker.painter import Means, open_painter


def written(pipe, folder, side, sampler):
    pipe.save_pretrained(folder)
    left_out = [name for name, part in pipe.components.items() if part is None and name.endswith("_3")]
    about = {"name": folder.name, "title": "Stock", "licence": "Apache-2.0", "family": "pipeline", "script": ""}
    defaults = {"width": side, "height": side, "steps": 3, "guidance_scale": 4.0, "sampler": sampler}
    (folder / "model.json").write_text(
        json.dumps(about | {"without": left_out, "sizes": [side], "defaults": defaults})
    )


def write_ddpm(folder):
    """Unconditional, 64 pixels."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(sample_size=64, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **kinds)
    written(DDPMPipeline(unet, DDPMScheduler()), folder / "ddpm", 64, "ddim")


def write_sd3(folder):
    """Of SD 3's classes, without its third text encoder."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
    ).eval()
    texts = {f"text_encoder{number}": text_encoder(CLIPTextModelWithProjection) for number in ("", "_2")}
    pipe = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(shift_factor=0.0609),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
        **texts,
    )
    written(pipe, folder / "sd3", 64, "euler")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    write_ddpm(folder)
    write_sd3(folder)
    return Catalogue(folder)


@pytest.fixture(scope="module", params=["ddpm", "sd3"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def painter(catalogue, name):
    return open_painter(catalogue.model(name), Means(slots=3, device="cpu", dtype="float32"))


def recipe_of(catalogue, name, seed, **wanted):
    return catalogue.recipe({"model": name, "prompt": "a red fox", "seed": seed, **wanted})


def test_it_is_what_the_pipeline_itself_paints(one_thread, catalogue, painter, name):
    steps = []
    found = painter(recipe_of(catalogue, name, 3), lambda progress: steps.append(progress.step))
    assert steps == [1, 2, 3]
    left_out = dict.fromkeys(["text_encoder_3", "tokenizer_3"] if name == "sd3" else [])
    pipe = DiffusionPipeline.from_pretrained(catalogue.model(name).folder, **left_out)
    pipe.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 3, "generator": [torch.Generator().manual_seed(3)]}
    if name == "sd3":
        asked |= {"prompt": ["a red fox"], "guidance_scale": 4.0, "height": 64, "width": 64}
        wanted = pipe(**asked).images[0]
        assert np.abs(np.asarray(found, np.int16) - np.asarray(wanted, np.int16)).max() <= 1
    else:
        assert found.size == (64, 64) and np.asarray(found).std() > 1


def test_equal_settings_go_together_and_each_comes_out_as_alone(one_thread, catalogue, painter, name):
    recipes = [recipe_of(catalogue, name, seed, steps=steps) for seed, steps in ((1, 4), (2, 4), (3, 2), (4, 4))]
    alone = [painter(recipe, lambda progress: None) for recipe in recipes]
    seen = []
    begun = threading.Event()

    def look(progress):
        seen.append(painter.state()["width"])
        begun.wait(5)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(painter, recipe_of(catalogue, name, 9, steps=20), look)
        while not seen:
            pass
        found = [pool.submit(painter, recipe, look) for recipe in recipes]
        while len(painter.waiting) < 4 and not first.done():
            pass
        begun.set()
        found = [future.result() for future in found]
    for one, other in zip(alone, found, strict=True):
        assert np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max() <= 1
    assert 3 in seen or 2 in seen


def test_reproducible_ones_are_painted_alone(one_thread, catalogue, painter, name):
    seen = []
    recipes = [recipe_of(catalogue, name, seed, mode="reproducible") for seed in (1, 2, 3)]
    alone = [painter(recipe, lambda progress: None) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        looking = [
            pool.submit(painter, one, lambda progress: seen.append(painter.state()["width"])) for one in recipes
        ]
    assert [future.result() for future in looking] == alone and set(seen) <= {0, 1}


class Stop(Exception):
    pass


def test_what_nobody_waits_for_ends(catalogue, painter, name):
    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        painter(recipe_of(catalogue, name, 1, steps=150), stop)
    painter(recipe_of(catalogue, name, 2, steps=1), lambda progress: None)


def test_another_sampler_is_refused_by_name(catalogue, painter, name):
    only = "euler" if name == "sd3" else "ddim"
    with pytest.raises(BadRecipe, match=f"{name} can be painted with {only} only"):
        painter(recipe_of(catalogue, name, 1, sampler="dpm++2m"), lambda progress: None)


def test_a_negative_prompt_is_refused_where_none_is_known(catalogue, painter, name):
    recipe = recipe_of(catalogue, name, 1, negative_prompt="blur", steps=1)
    if name == "sd3":
        assert painter(recipe, lambda progress: None).size == (64, 64)
    else:
        with pytest.raises(BadRecipe, match="negative_prompt: 'blur' cannot be used; .* knows none: leave it out"):
            painter(recipe, lambda progress: None)
