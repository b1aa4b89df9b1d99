"""diffusers' own pipelines as painters: equal settings go together, each comes out as alone, cancelling works."""

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
from worker.painters.pipelines import Dropped, PipelineRequest
from worker.painters.port import PainterOptions, TooLarge

MEANS = PainterOptions(slots=3, device="cpu", dtype="float32")


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
    return open_painter(catalogue.model(name), MEANS)


def recipe_of(catalogue, name, seed, **wanted):
    return catalogue.recipe({"model": name, "prompt": "a red fox", "seed": seed, **wanted})


def official(catalogue, recipe, **more):
    """By diffusers' own pipeline, called as its documentation has it."""
    folder = catalogue.model(recipe.model).folder
    left_out = dict.fromkeys(["text_encoder_3", "tokenizer_3"] if recipe.model == "sd3" else [])
    pipe = DiffusionPipeline.from_pretrained(folder, **left_out)
    pipe.set_progress_bar_config(disable=True)
    said = {"prompt": recipe.prompt, "guidance_scale": recipe.guidance_scale}
    if recipe.negative_prompt:
        said["negative_prompt"] = recipe.negative_prompt
    sized = {"width": recipe.width, "height": recipe.height, "num_inference_steps": recipe.steps}
    return pipe(**said, **sized, **more, generator=torch.Generator().manual_seed(recipe.seed)).images[0]


def paint(painter, recipe):
    return painter(recipe, lambda progress: None)


def apart(one, other):
    """The largest difference in levels of 255."""
    return np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max()


def test_each_step_is_told(one_thread, catalogue, painter, name):
    steps = []
    found = painter(recipe_of(catalogue, name, 3), lambda progress: steps.append(progress.step))
    assert steps == [1, 2, 3]
    assert found.size == (64, 64) and np.asarray(found).std() > 1


@pytest.mark.parametrize(
    ("name", "wanted"),
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
def test_it_is_what_the_pipeline_itself_paints(one_thread, catalogue, name, wanted):
    recipe = recipe_of(catalogue, name, 3, **wanted)
    found = paint(open_painter(catalogue.model(name), MEANS), recipe)
    assert found.size == (recipe.width, recipe.height) and apart(found, official(catalogue, recipe)) <= 1


@pytest.mark.parametrize("wanted", [{"prompt": "a blue owl"}, {"guidance_scale": 30.0}, {"seed": 4}])
def test_what_flux_is_asked_for_decides_the_picture(one_thread, catalogue, wanted):
    painter = open_painter(catalogue.model("flux"), MEANS)
    recipe = recipe_of(catalogue, "flux", 3)
    assert apart(paint(painter, recipe), paint(painter, replace(recipe, **wanted))) > 1


def test_guidance_counts_for_nothing_where_the_network_was_not_told_of_it(one_thread, catalogue):
    painter = open_painter(catalogue.model("schnell"), MEANS)
    without, guided = (recipe_of(catalogue, "schnell", 3, guidance_scale=guidance) for guidance in (0.0, 7.0))
    assert paint(painter, without) == paint(painter, guided)


def test_a_model_may_say_how_many_tokens_of_a_prompt_are_read(one_thread, tmp_path):
    write_flux(tmp_path, name="short", schnell=True)
    long = recipe_of(Catalogue(tmp_path), "short", 3, prompt="a red fox in the deep snow")
    whole = paint(open_painter(Catalogue(tmp_path).model("short"), MEANS), long)
    said = add(tmp_path / "short", tokens=4)
    found = paint(open_painter(said.model("short"), MEANS), long)
    assert apart(found, official(said, long, max_sequence_length=4)) <= 1 < apart(found, whole)


def test_a_pipeline_without_a_length_of_prompts_is_told_none(tmp_path):
    write_ddpm(tmp_path)
    with pytest.raises(BadSetup, match="tokens is 4, but DDPMPipeline takes none: leave it out"):
        open_painter(add(tmp_path / "ddpm", tokens=4).model("ddpm"), MEANS)


def add(folder, **more):
    """The catalogue after its model.json says more."""
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return Catalogue(folder.parent)


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
    assert max(map(apart, alone, found)) <= 1
    assert 3 in seen or 2 in seen


def redrawn(catalogue, recipe, picture):
    """By diffusers' own pipeline for that, over the same parts."""
    parts = open_painter(catalogue.model(recipe.model), MEANS).pipe.components
    kind = {"sd3": StableDiffusion3Img2ImgPipeline, "flux": FluxImg2ImgPipeline}[recipe.model]
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    said = {"prompt": recipe.prompt, "image": picture, "strength": recipe.strength}
    said |= {"guidance_scale": recipe.guidance_scale, "num_inference_steps": recipe.steps}
    sized = {"width": recipe.width, "height": recipe.height}
    return pipe(**said, **sized, generator=torch.Generator().manual_seed(recipe.seed)).images[0]


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_picture_to_start_from_is_painted_over_as_the_pipeline_for_it_does(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), MEANS)
    anew = recipe_of(catalogue, name, 3, steps=8)
    started = replace(anew, init_image="a" * 32, strength=0.5)
    wide = Image.linear_gradient("L").convert("RGB").resize((128, 64))
    before, steps = paint(painter, anew), []
    found = painter(started, lambda progress: steps.append(progress.step), wide)
    square = wide.crop((32, 0, 96, 64))
    assert apart(found, redrawn(catalogue, started, square)) <= 1 < apart(found, before)
    assert steps == [5, 6, 7, 8] and apart(paint(painter, anew), before) == 0
    other = painter(started, lambda progress: None, wide.rotate(180))
    assert apart(other, found) > 1


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_those_that_start_from_pictures_go_together_and_apart_from_others(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), MEANS)
    grey, dark = (Image.new("RGB", (64, 64), colour) for colour in ("#888", "#222"))
    recipe = replace(recipe_of(catalogue, name, 3, steps=4), init_image="a" * 32, strength=0.5)
    alone = [painter(recipe, lambda progress: None, start) for start in (grey, dark)]
    requests = [PipelineRequest(recipe, start) for start in (grey, dark)]
    assert requests[0].settings == requests[1].settings != PipelineRequest(replace(recipe, init_image="")).settings
    painter.paint(requests)
    assert all(apart(last(request), one) <= 1 for request, one in zip(requests, alone, strict=True))


def test_what_cannot_start_from_a_picture_says_so(catalogue):
    assert {name: catalogue.model(name).image_to_image for name in ("ddpm", "sd3", "flux")} == {
        "ddpm": False,
        "sd3": True,
        "flux": True,
    }
    with pytest.raises(BadRecipe, match="ddpm cannot start from a picture"):
        recipe_of(catalogue, "ddpm", 3, init_image="a" * 32)
    painter = open_painter(catalogue.model("flux"), MEANS)
    with pytest.raises(BadRecipe, match="at least 0.25"):
        paint(painter, replace(recipe_of(catalogue, "flux", 3, steps=4), init_image="a" * 32, strength=0.2))


def test_what_painting_costs_is_counted_and_shared(one_thread, catalogue, name):
    painter = open_painter(catalogue.model(name), replace(MEANS, watts=20.0))
    alone, told = [], []
    painter(recipe_of(catalogue, name, 1), lambda progress: alone.append(progress.joules))
    requests = [PipelineRequest(recipe_of(catalogue, name, seed)) for seed in range(2)]
    before = time.process_time()
    painter.paint(requests)
    spent = 20.0 * (time.process_time() - before)
    for request in requests:
        while not isinstance(news := request.news.get(), Image.Image):
            told.append(news.joules)
    assert 0 < alone[0] < alone[1] < alone[2] and not painter.metered
    assert told[:3] == told[3:] and 0 < told[2] * 2 <= spent


def test_when_memory_is_full_fewer_are_painted_at_once(one_thread, catalogue, painter, name, monkeypatch):
    """And one that is too large alone says so, to be tried again."""
    painted, room = type(painter).painted, [2, 0]

    def full(self, requests):
        if len(requests) > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return painted(self, requests)

    monkeypatch.setattr(type(painter), "painted", full)
    requests = [PipelineRequest(recipe_of(catalogue, name, seed)) for seed in range(5)]
    monkeypatch.setattr(painter, "most", 5)
    painter.paint(requests)
    assert painter.most == 2 and not any(isinstance(last(request), Exception) for request in requests)
    room[0] = 0
    with pytest.raises(TooLarge, match="does not fit into the memory of cpu"):
        paint(painter, recipe_of(catalogue, name, 1))
    assert painter.most == 2


def last(request):
    """What an order was told at last."""
    while not isinstance(news := request.news.get(timeout=5), Image.Image | Exception):
        continue
    return news


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


def test_what_nobody_waits_for_ends(catalogue, painter, name, monkeypatch):
    ended, painted = [], painter.painted

    def watched(requests):
        try:
            return painted(requests)
        except Dropped:
            ended.append(requests[0].recipe.steps)
            raise

    def stop(progress):
        raise Stop

    monkeypatch.setattr(painter, "painted", watched)
    with pytest.raises(Stop):
        painter(recipe_of(catalogue, name, 1, steps=150), stop)
    paint(painter, recipe_of(catalogue, name, 2, steps=1))
    assert ended == [150]


def test_another_sampler_is_refused_by_name(catalogue, painter, name):
    only = "ddim" if name == "ddpm" else "euler"
    with pytest.raises(BadRecipe, match=f"{name} can be painted with {only} only"):
        paint(painter, recipe_of(catalogue, name, 1, sampler="dpm++2m"))


def test_karras_steps_are_refused_where_the_pipeline_has_its_own(catalogue, painter, name):
    with pytest.raises(BadRecipe, match="schedule: 'karras' cannot be used; .* native"):
        paint(painter, recipe_of(catalogue, name, 1, schedule="karras"))


def test_a_negative_prompt_is_refused_where_none_is_known(catalogue, painter, name):
    recipe = recipe_of(catalogue, name, 1, negative_prompt="blur", steps=1)
    if name == "sd3":
        assert paint(painter, recipe).size == (64, 64)
    else:
        with pytest.raises(BadRecipe, match=f"negative_prompt: 'blur' .* {name} knows none: leave it out"):
            paint(painter, recipe)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_size_that_the_pipeline_would_round_is_refused(catalogue, name):
    recipe = replace(recipe_of(catalogue, name, 1), height=72)
    with pytest.raises(BadRecipe, match=f"height: 72 cannot be used; {name} paints multiples of 16"):
        paint(open_painter(catalogue.model(name), MEANS), recipe)


def test_a_size_outside_the_span_is_refused(catalogue, name):
    with pytest.raises(BadRecipe, match=f"{name} offers 64"):
        recipe_of(catalogue, name, 1, width=144)
