"""diffusers' own pipelines as painters: batches of equal settings, the same pictures as alone, cancelling."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FluxImg2ImgPipeline, StableDiffusion3Img2ImgPipeline
from PIL import Image

from jobs.models import Catalogue
from memo import BadRecipe, BadSetup
from tests.stock_models import write_ddpm, write_flux, write_sd3
from worker.painters.factory import open_painter
from worker.painters.pipelines import AllCancelled, PipelineRequest
from worker.painters.port import PainterOptions, TooLarge

OPTIONS = PainterOptions(slots=3, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    for write in (write_ddpm, write_sd3, write_flux):
        write(folder)
    write_flux(folder, name="schnell", schnell=True)
    return Catalogue(folder)


@pytest.fixture(scope="module", params=["ddpm", "sd3", "flux"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def painter(catalogue, name):
    return open_painter(catalogue.model(name), OPTIONS)


def make_recipe(catalogue, name, seed, **fields):
    return catalogue.recipe({"model": name, "prompt": "a red fox", "seed": seed, **fields})


def paint_by_diffusers(catalogue, recipe, **more):
    """Paint with diffusers' own pipeline, called as its documentation shows."""
    folder = catalogue.model(recipe.model).folder
    left_out = dict.fromkeys(["text_encoder_3", "tokenizer_3"] if recipe.model == "sd3" else [])
    pipe = DiffusionPipeline.from_pretrained(folder, **left_out)
    pipe.set_progress_bar_config(disable=True)
    guided = {"prompt": recipe.prompt, "guidance_scale": recipe.guidance_scale}
    if recipe.negative_prompt:
        guided["negative_prompt"] = recipe.negative_prompt
    sized = {"width": recipe.width, "height": recipe.height, "num_inference_steps": recipe.steps}
    return pipe(**guided, **sized, **more, generator=torch.Generator().manual_seed(recipe.seed)).images[0]


def paint(painter, recipe):
    return painter(recipe, lambda progress: None)


def difference(first, second):
    """The largest difference between two pictures, in levels of 255."""
    return np.abs(np.asarray(first, np.int16) - np.asarray(second, np.int16)).max()


def test_each_step_is_reported(one_thread, catalogue, painter, name):
    steps = []
    picture = painter(make_recipe(catalogue, name, 3), lambda progress: steps.append(progress.step))
    assert steps == [1, 2, 3]
    assert picture.size == (64, 64) and np.asarray(picture).std() > 1


def test_a_note_says_what_the_longest_text_encoder_does_not_read(one_thread, catalogue, painter, name):
    notes = set()
    painter(make_recipe(catalogue, name, 3, prompt="a" * 600), lambda progress: notes.add(progress.notes))
    assert [len(note) for note in notes] == [0 if name == "ddpm" else 1]
    notes.clear()
    painter(make_recipe(catalogue, name, 3, prompt="a fox"), lambda progress: notes.add(progress.notes))
    assert notes == {()}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("sd3", {}),
        ("sd3", {"negative_prompt": "blur"}),
        ("sd3", {"width": 128, "height": 96}),
        ("flux", {}),
        ("flux", {"guidance_scale": 9.0, "steps": 5}),
        ("flux", {"width": 128, "height": 96}),
        ("schnell", {}),
        ("schnell", {"steps": 1}),
    ],
)
def test_the_picture_is_that_of_the_pipeline_itself(one_thread, catalogue, name, fields):
    recipe = make_recipe(catalogue, name, 3, **fields)
    picture = paint(open_painter(catalogue.model(name), OPTIONS), recipe)
    assert (
        picture.size == (recipe.width, recipe.height)
        and difference(picture, paint_by_diffusers(catalogue, recipe)) <= 1
    )


@pytest.mark.parametrize("fields", [{"prompt": "a blue owl"}, {"guidance_scale": 30.0}, {"seed": 4}])
def test_prompt_guidance_and_seed_change_the_picture_of_flux(one_thread, catalogue, fields):
    painter = open_painter(catalogue.model("flux"), OPTIONS)
    recipe = make_recipe(catalogue, "flux", 3)
    assert difference(paint(painter, recipe), paint(painter, replace(recipe, **fields))) > 1


def test_guidance_has_no_effect_if_the_network_does_not_take_it(one_thread, catalogue):
    painter = open_painter(catalogue.model("schnell"), OPTIONS)
    without, guided = (make_recipe(catalogue, "schnell", 3, guidance_scale=guidance) for guidance in (0.0, 7.0))
    assert paint(painter, without) == paint(painter, guided)


def test_a_model_can_limit_the_tokens_of_a_prompt(one_thread, tmp_path):
    write_flux(tmp_path, name="short", schnell=True)
    long = make_recipe(Catalogue(tmp_path), "short", 3, prompt="a red fox in the deep snow")
    unlimited = paint(open_painter(Catalogue(tmp_path).model("short"), OPTIONS), long)
    catalogue = add_fields(tmp_path / "short", tokens=4)
    picture = paint(open_painter(catalogue.model("short"), OPTIONS), long)
    assert (
        difference(picture, paint_by_diffusers(catalogue, long, max_sequence_length=4))
        <= 1
        < difference(picture, unlimited)
    )


def test_tokens_are_refused_for_a_pipeline_that_takes_none(tmp_path):
    write_ddpm(tmp_path)
    with pytest.raises(BadSetup, match="tokens is 4, but DDPMPipeline has no such limit: leave it out"):
        open_painter(add_fields(tmp_path / "ddpm", tokens=4).model("ddpm"), OPTIONS)


def add_fields(folder, **more):
    """Add fields to a model.json; returns the new catalogue."""
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return Catalogue(folder.parent)


def test_equal_settings_are_painted_in_one_call_with_the_same_pictures_as_alone(one_thread, catalogue, painter, name):
    recipes = [make_recipe(catalogue, name, seed, steps=steps) for seed, steps in ((1, 4), (2, 4), (3, 2), (4, 4))]
    alone = [painter(recipe, lambda progress: None) for recipe in recipes]
    batch_sizes = []
    released = threading.Event()

    def record_and_wait(progress):
        batch_sizes.append(painter.state()["batch_size"])
        released.wait(5)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(painter, make_recipe(catalogue, name, 9, steps=20), record_and_wait)
        while not batch_sizes:
            pass
        futures = [pool.submit(painter, recipe, record_and_wait) for recipe in recipes]
        while len(painter.waiting) < 4 and not first.done():
            pass
        released.set()
        together = [future.result() for future in futures]
    assert max(map(difference, alone, together)) <= 1
    assert 3 in batch_sizes or 2 in batch_sizes


def paint_by_diffusers_from(catalogue, recipe, picture):
    """Paint from an init image with diffusers' own image-to-image pipeline, over the same parts."""
    parts = open_painter(catalogue.model(recipe.model), OPTIONS).pipe.components
    kind = {"sd3": StableDiffusion3Img2ImgPipeline, "flux": FluxImg2ImgPipeline}[recipe.model]
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    inputs = {"prompt": recipe.prompt, "image": picture, "strength": recipe.strength}
    inputs |= {"guidance_scale": recipe.guidance_scale, "num_inference_steps": recipe.steps}
    sized = {"width": recipe.width, "height": recipe.height}
    return pipe(**inputs, **sized, generator=torch.Generator().manual_seed(recipe.seed)).images[0]


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_from_an_init_image_the_picture_is_that_of_the_image_to_image_pipeline(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), OPTIONS)
    plain = make_recipe(catalogue, name, 3, steps=8)
    recipe = replace(plain, init_image="a" * 32, strength=0.5)
    wide = Image.linear_gradient("L").convert("RGB").resize((128, 64))
    without_init_image, steps = paint(painter, plain), []
    picture = painter(recipe, lambda progress: steps.append(progress.step), wide)
    square = wide.crop((32, 0, 96, 64))
    assert (
        difference(picture, paint_by_diffusers_from(catalogue, recipe, square))
        <= 1
        < difference(picture, without_init_image)
    )
    assert steps == [5, 6, 7, 8] and difference(paint(painter, plain), without_init_image) == 0
    other = painter(recipe, lambda progress: None, wide.rotate(180))
    assert difference(other, picture) > 1


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_recipes_with_init_images_are_painted_together_and_apart_from_others(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), OPTIONS)
    grey, dark = (Image.new("RGB", (64, 64), colour) for colour in ("#888", "#222"))
    recipe = replace(make_recipe(catalogue, name, 3, steps=4), init_image="a" * 32, strength=0.5)
    alone = [painter(recipe, lambda progress: None, init_image) for init_image in (grey, dark)]
    requests = [PipelineRequest(recipe, init_image) for init_image in (grey, dark)]
    assert requests[0].batch_key == requests[1].batch_key != PipelineRequest(replace(recipe, init_image="")).batch_key
    painter.paint(requests)
    assert all(difference(last(request), expected) <= 1 for request, expected in zip(requests, alone, strict=True))


def test_an_init_image_that_cannot_be_used_is_refused(catalogue):
    assert {name: catalogue.model(name).image_to_image for name in ("ddpm", "sd3", "flux")} == {
        "ddpm": False,
        "sd3": True,
        "flux": True,
    }
    with pytest.raises(BadRecipe, match="ddpm cannot start from a picture"):
        make_recipe(catalogue, "ddpm", 3, init_image="a" * 32)
    painter = open_painter(catalogue.model("flux"), OPTIONS)
    with pytest.raises(BadRecipe, match="use at least 0.25"):
        paint(painter, replace(make_recipe(catalogue, "flux", 3, steps=4), init_image="a" * 32, strength=0.2))


def test_the_energy_of_a_call_is_shared_among_its_pictures(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), replace(OPTIONS, watts=20.0))
    alone, together = [], []
    painter(make_recipe(catalogue, name, 1), lambda progress: alone.append(progress.joules))
    requests = [PipelineRequest(make_recipe(catalogue, name, seed)) for seed in range(2)]
    before = time.process_time()
    painter.paint(requests)
    spent = 20.0 * (time.process_time() - before)
    for request in requests:
        while not isinstance(message := request.messages.get(), Image.Image):
            together.append(message.joules)
    assert 0 < alone[0] < alone[1] < alone[2] and not painter.metered
    assert together[:3] == together[3:] and 0 < together[2] * 2 <= spent


def test_when_memory_is_full_fewer_pictures_are_painted_at_once(one_thread, catalogue, painter, name, monkeypatch):
    """A picture that does not fit even alone raises TooLarge."""
    run_pipeline, limit = type(painter).run_pipeline, [2]

    def full(self, requests):
        if len(requests) > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_pipeline(self, requests)

    monkeypatch.setattr(type(painter), "run_pipeline", full)
    requests = [PipelineRequest(make_recipe(catalogue, name, seed)) for seed in range(5)]
    monkeypatch.setattr(painter, "max_batch_size", 5)
    painter.paint(requests)
    assert painter.max_batch_size == 2 and not any(isinstance(last(request), Exception) for request in requests)
    limit[0] = 0
    with pytest.raises(TooLarge, match="does not fit into the memory of cpu"):
        paint(painter, make_recipe(catalogue, name, 1))
    assert painter.max_batch_size == 2


def test_no_request_is_lost_when_memory_is_full_twice_in_a_row(catalogue, painter, name, monkeypatch):
    """The limit drops from 5 to 2 and then to 1 before the second half is painted."""

    def full(requests):
        if len(requests) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [Image.new("RGB", (64, 64))]

    monkeypatch.setattr(painter, "run_pipeline", full)
    monkeypatch.setattr(painter, "max_batch_size", 5)
    requests = [PipelineRequest(make_recipe(catalogue, name, seed)) for seed in range(5)]
    painter.paint(requests)
    assert painter.max_batch_size == 1 and all(request.messages.qsize() == 1 for request in requests)


def last(request):
    """Wait for the last message of a request: its picture or its error."""
    while not isinstance(message := request.messages.get(timeout=5), Image.Image | Exception):
        continue
    return message


def test_reproducible_pictures_are_painted_alone(one_thread, catalogue, painter, name):
    batch_sizes = []
    recipes = [make_recipe(catalogue, name, seed, mode="reproducible") for seed in (1, 2, 3)]
    alone = [painter(recipe, lambda progress: None) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        futures = [
            pool.submit(painter, recipe, lambda progress: batch_sizes.append(painter.state()["batch_size"]))
            for recipe in recipes
        ]
    assert [future.result() for future in futures] == alone and set(batch_sizes) <= {0, 1}


class Stop(Exception):
    pass


def test_a_call_ends_as_soon_as_all_its_requests_are_cancelled(catalogue, painter, name, monkeypatch):
    cancelled_steps, run_pipeline = [], painter.run_pipeline

    def run_and_record(requests):
        try:
            return run_pipeline(requests)
        except AllCancelled:
            cancelled_steps.append(requests[0].recipe.steps)
            raise

    def stop(progress):
        raise Stop

    monkeypatch.setattr(painter, "run_pipeline", run_and_record)
    with pytest.raises(Stop):
        painter(make_recipe(catalogue, name, 1, steps=150), stop)
    paint(painter, make_recipe(catalogue, name, 2, steps=1))
    assert cancelled_steps == [150]


def test_an_unsupported_sampler_is_refused(catalogue, painter, name):
    only = "ddim" if name == "ddpm" else "euler"
    with pytest.raises(BadRecipe, match=f"{name} can be painted with {only} only"):
        paint(painter, make_recipe(catalogue, name, 1, sampler="dpm++2m"))


def test_karras_is_refused_if_the_pipeline_has_its_own_schedule(catalogue, painter, name):
    with pytest.raises(BadRecipe, match="schedule: 'karras' cannot be used; .* native"):
        paint(painter, make_recipe(catalogue, name, 1, schedule="karras"))


def test_a_negative_prompt_is_refused_if_the_pipeline_would_ignore_it(catalogue, painter, name):
    recipe = make_recipe(catalogue, name, 1, negative_prompt="blur", steps=1)
    if name == "sd3":
        assert paint(painter, recipe).size == (64, 64)
    else:
        with pytest.raises(
            BadRecipe, match=f"negative_prompt: 'blur' .* {name} ignores negative prompts: leave it out"
        ):
            paint(painter, recipe)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_size_that_the_pipeline_would_round_is_refused(catalogue, name):
    recipe = replace(make_recipe(catalogue, name, 1), height=72)
    with pytest.raises(BadRecipe, match=f"height: 72 cannot be used; {name} paints multiples of 16"):
        paint(open_painter(catalogue.model(name), OPTIONS), recipe)


def test_a_size_outside_the_range_is_refused(catalogue, name):
    with pytest.raises(BadRecipe, match=f"{name} offers 64"):
        make_recipe(catalogue, name, 1, width=144)
