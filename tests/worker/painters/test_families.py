"""Stable Diffusion and SDXL in the step loop, compared with diffusers' own pipelines over the same weights."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image, ImageChops
from transformers import CLIPConfig, CLIPImageProcessor

from jobs.models import Catalogue
from memo import BadRecipe, BadSetup
from tests.stock_models import TOKENS, write_sdxl, write_stable_diffusion
from worker.engine.samplers import make_scheduler
from worker.engine.upscaler import EnlargingNetwork, open_upscaler, save_upscaler
from worker.painters.diffusion import to_image
from worker.painters.factory import open_painter
from worker.painters.families import SafetyChecker
from worker.painters.port import PainterOptions

OPTIONS = PainterOptions(slots=3, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    write_stable_diffusion(folder)
    write_sdxl(folder)
    return Catalogue(folder)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def painter(catalogue, name):
    return open_painter(catalogue.model(name), OPTIONS)


def paint_by_diffusers(catalogue, recipe):
    """Paint a recipe with diffusers' own pipeline, from the same noise."""
    pipe = DiffusionPipeline.from_pretrained(catalogue.model(recipe.model).folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = make_scheduler(dict(pipe.scheduler.config), recipe.sampler, recipe.schedule)
    noise = torch.randn(
        1, 4, recipe.height // 8, recipe.width // 8, generator=torch.Generator().manual_seed(recipe.seed)
    )
    prompts = {"prompt": recipe.prompt, "negative_prompt": recipe.negative_prompt or None, "latents": noise}
    sized = {"height": recipe.height, "width": recipe.width, "num_inference_steps": recipe.steps}
    return pipe(**prompts, **sized, guidance_scale=recipe.guidance_scale, output_type="np").images[0] * 255


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m", "euler"])
@pytest.mark.parametrize(("guidance", "negative"), [(5.0, ""), (3.0, "blur"), (1.0, "")])
def test_the_picture_is_that_of_diffusers_own_pipeline(
    one_thread, catalogue, painter, name, sampler, guidance, negative
):
    fields = {"prompt": "a red fox", "negative_prompt": negative, "seed": 3, "guidance_scale": guidance}
    recipe = catalogue.recipe({"model": name, **fields, "sampler": sampler})
    picture = np.asarray(painter(recipe, lambda progress: None), np.float32)
    assert np.abs(picture - paint_by_diffusers(catalogue, recipe)).max() <= 1


def test_a_note_says_what_the_text_encoder_does_not_read(one_thread, catalogue, painter, name):
    short = catalogue.recipe({"model": name, "prompt": "a fox", "seed": 1, "steps": 2})
    notes = {prompt: set() for prompt in ("a fox", "a" * TOKENS + "fox")}
    for prompt, seen in notes.items():
        painter(replace(short, prompt=prompt), lambda progress, seen=seen: seen.add(progress.notes))
    assert notes["a fox"] == {()}
    (((note,),),) = (notes["a" * TOKENS + "fox"],)
    assert f"the first {TOKENS} tokens" in note


def with_init_image(catalogue, name, **more):
    fields = {"init_image": "0" * 32, "prompt": "a red fox", "seed": 3}
    return catalogue.recipe({"model": name, **fields, **more})


def photo(width=96, height=64):
    rows = np.linspace(0, 255, width)[None, :, None] * np.linspace(0.2, 1, height)[:, None, None]
    return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize(("sampler", "strength"), [("ddim", 0.5), ("dpm++2m", 0.75), ("euler", 1.0)])
def test_from_an_init_image_the_picture_is_that_of_diffusers_image_to_image_pipeline(
    one_thread, catalogue, painter, name, sampler, strength
):
    recipe = with_init_image(catalogue, name, sampler=sampler, strength=strength, steps=8)
    steps = []
    picture = painter(recipe, lambda progress: steps.append(progress.step), photo())
    pipe = AutoPipelineForImage2Image.from_pretrained(catalogue.model(name).folder)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = make_scheduler(dict(pipe.scheduler.config), sampler, recipe.schedule)
    expected = pipe(
        prompt=recipe.prompt,
        image=painter.encode(photo(), painter.shape),
        strength=strength,
        num_inference_steps=recipe.steps,
        guidance_scale=recipe.guidance_scale,
        generator=torch.Generator().manual_seed(recipe.seed),
        output_type="np",
    ).images[0]
    assert np.abs(np.asarray(picture, np.float32) - expected * 255).max() <= 1
    assert steps == list(range(8 - int(8 * strength) + 1, 9))


def test_paintings_from_init_images_and_from_noise_step_together(one_thread, catalogue, painter, name):
    """Those from an init image join at their own first step, and give the same pictures as alone."""
    near = [
        with_init_image(catalogue, name, seed=seed, strength=strength, steps=10, sampler=sampler)
        for seed, strength, sampler in ((1, 0.5, "dpm++2m"), (2, 0.8, "ddim"), (3, 0.6, "euler"))
    ]
    from_noise = [replace(recipe, init_image="") for recipe in near]

    def paint(recipe):
        steps = []
        init_image = photo() if recipe.init_image else None
        return painter(recipe, lambda progress: steps.append(progress.step), init_image), steps

    alone = [paint(recipe) for recipe in (*near, *from_noise)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(paint, (*near, *from_noise)))
    assert [steps[0] for _, steps in together] == [6, 3, 5, 1, 1, 1]
    for (picture, steps), (expected, expected_steps) in zip(together, alone, strict=True):
        assert np.abs(np.asarray(picture, np.int16) - np.asarray(expected, np.int16)).max() <= 1
        assert steps == expected_steps


def test_with_less_strength_the_picture_stays_closer_to_the_init_image(catalogue, painter, name):
    distances = []
    for strength in (0.1, 0.9):
        picture = painter(
            with_init_image(catalogue, name, strength=strength, steps=10), lambda progress: None, photo()
        )
        decoded = to_image(painter.decode(painter.encode(photo(), painter.shape)))
        distances.append(np.abs(np.asarray(picture, np.float32) - np.asarray(decoded, np.float32)).mean())
    assert distances[0] < distances[1]


def test_pictures_of_different_sizes_are_painted_at_once(one_thread, catalogue, painter, name):
    recipes = [
        catalogue.recipe({"model": name, "prompt": "a red fox", "seed": 3, "width": width, "height": height})
        for width, height in ((96, 64), (64, 64), (64, 96), (96, 64))
    ]
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda recipe: painter(recipe, lambda progress: None), recipes))
    assert [image.size for image in pictures] == [(96, 64), (64, 64), (64, 96), (96, 64)]
    for recipe, image in zip(recipes, pictures, strict=True):
        assert np.abs(np.asarray(image, np.float32) - paint_by_diffusers(catalogue, recipe)).max() <= 1


def test_paintings_give_the_same_pictures_at_once_as_alone(one_thread, catalogue, painter, name):
    recipes = [
        catalogue.recipe({"model": name, "prompt": "fox", "seed": seed, "steps": steps, "guidance_scale": guidance})
        for seed, steps, guidance in ((1, 2, 5.0), (2, 9, 1.0), (3, 5, 3.0))
    ]
    alone = [painter(recipe, lambda progress: None) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        concurrent = list(pool.map(lambda recipe: painter(recipe, lambda progress: None), recipes))
    for picture, expected in zip(concurrent, alone, strict=True):
        assert np.abs(np.asarray(picture, np.int16) - np.asarray(expected, np.int16)).max() <= 1


def test_previews_work_for_stock_autoencoders_too(catalogue, painter, name):
    seen = []
    recipe = catalogue.recipe({"model": name, "prompt": "fox", "seed": 1})
    painter(recipe, lambda progress: seen.append(progress.preview()))
    assert [image.size for image in seen] == [(8, 8)] * recipe.steps


def with_changes(catalogue, tmp_path, **changes):
    folder = tmp_path / "sd"
    folder.mkdir()
    description = json.loads((catalogue.model("sd").folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | changes))
    return Catalogue(tmp_path).model("sd")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "stable-confusion"}, "stable-confusion.*not one of stable-diffusion"),
        ({}, "sd in .* cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_named(catalogue, tmp_path, changes, message):
    with pytest.raises(BadSetup, match=message):
        open_painter(with_changes(catalogue, tmp_path, **changes), OPTIONS)


def make_checker(threshold: float) -> StableDiffusionSafetyChecker:
    """The real class at toy size; it refuses pictures that are closer than the threshold to one of its concepts."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {**sizes, "image_size": 8, "patch_size": 4, "projection_dim": 8}
    text = {**sizes, "vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(projection_dim=8, vision_config=vision, text_config=text)
    ).eval()
    checker.concept_embeds_weights.data.fill_(threshold)
    return checker


def test_a_picture_that_the_safety_checker_refuses_raises_bad_recipe(catalogue):
    device = SimpleNamespace(name="cpu", dtype=torch.float32)
    recipe = catalogue.recipe({"model": "sd", "prompt": "fox", "seed": 1})
    extractor = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    image = Image.new("RGB", (64, 64), "#c60")
    accepting, refusing = (
        SafetyChecker(SimpleNamespace(safety_checker=make_checker(threshold), feature_extractor=extractor), device)
        for threshold in (1.5, -1.5)
    )
    accepting(image, recipe)
    with pytest.raises(BadRecipe, match="safety checker refused"):
        refusing(image, recipe)


def test_a_picture_larger_than_the_model_can_paint_is_enlarged_by_its_upscaler(one_thread, catalogue, tmp_path):
    network = EnlargingNetwork(scale=2, width=4, blocks=1)
    torch.nn.init.normal_(network.tail.weight, generator=torch.Generator().manual_seed(0))
    save_upscaler(network, tmp_path / "larger")
    folder = write_stable_diffusion(tmp_path)
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"upscaler": "../larger", "sizes": [64, 256]}))
    enlarging = Catalogue(tmp_path)
    painter = open_painter(enlarging.model("sd"), OPTIONS)
    small, large = (
        painter(
            enlarging.recipe({"prompt": "a red fox", "seed": 3, "width": side, "height": side}), lambda step: None
        )
        for side in (64, 256)
    )
    assert large.size == (256, 256)
    expected = open_upscaler(tmp_path / "larger")(small).resize((256, 256), Image.Resampling.LANCZOS)
    assert ImageChops.difference(large, expected).getbbox() is None
