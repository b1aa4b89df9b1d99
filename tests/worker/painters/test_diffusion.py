"""The painter over real diffusers classes at toy size."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import ImageChops

from jobs.models import Catalogue
from memo import BadSetup
from worker.engine.step_loop import StepLoop
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions, TooLarge, Turn


@pytest.fixture(scope="module")
def catalogue(tiny_models):
    return Catalogue(tiny_models)


@pytest.fixture(scope="module")
def painter(catalogue):
    return open_painter(catalogue.model("stickers"), PainterOptions())


def paint(painter, catalogue, **fields):
    steps = []
    recipe = catalogue.recipe({"prompt": "a red fox", "seed": 5, "steps": 4, **fields})
    image = painter(recipe, lambda progress: steps.append(progress.step))
    return image, steps


@pytest.mark.parametrize("sampler", ["dpm++2m", "ddim", "euler", "euler-a"])
def test_every_sampler_paints_the_requested_size(painter, catalogue, sampler):
    image, steps = paint(painter, catalogue, sampler=sampler, width=128, height=128)
    assert image.size == (128, 128) and image.mode == "RGB" and steps == [1, 2, 3, 4]
    assert len(image.getcolors(100_000)) > 20


def same_pixels(first, second):
    return ImageChops.difference(first, second).getbbox() is None


@pytest.mark.parametrize("sampler", ["dpm++2m", "euler-a"])
def test_the_same_recipe_gives_the_same_picture(painter, catalogue, sampler):
    assert same_pixels(paint(painter, catalogue, sampler=sampler)[0], paint(painter, catalogue, sampler=sampler)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"prompt": "a blue whale"},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 9.0},
        {"guidance_scale": 1.0},
        {"schedule": "karras"},
        {"steps": 5},
    ],
)
def test_another_recipe_gives_another_picture(painter, catalogue, change):
    assert not same_pixels(paint(painter, catalogue)[0], paint(painter, catalogue, **change)[0])


def test_in_bfloat16_the_picture_is_nearly_the_same(catalogue, painter):
    half = open_painter(catalogue.model("stickers"), PainterOptions(device="cpu", dtype="bfloat16"))
    (full, _), (rough, _) = paint(painter, catalogue), paint(half, catalogue)
    assert half.device == "cpu bfloat16" and full != rough
    difference = np.asarray(full, np.float32) - np.asarray(rough, np.float32)
    assert 10 * np.log10(255**2 / (difference**2).mean()) >= 40  # dB


def test_a_model_whose_pictures_do_not_fit_into_memory_stops_the_worker(catalogue, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("worker.engine.denoiser.Denoiser.predict", full)
    with pytest.raises(BadSetup, match="a painting of 64 × 64 does not fit into the memory of cpu float32"):
        open_painter(catalogue.model("stickers"), PainterOptions(slots=2))


def test_an_exception_raised_in_on_step_stops_the_painting(painter, catalogue):
    def stop(step):
        raise KeyError(step)

    with pytest.raises(KeyError, match="1"):
        painter(catalogue.recipe({"prompt": "fox", "seed": 1}), stop)


def test_a_wish_without_a_seed_is_refused(painter, catalogue):
    with pytest.raises(BadSetup, match="seed"):
        painter(catalogue.recipe({"prompt": "fox"}), lambda step: None)


def test_a_model_that_cannot_be_loaded_is_named(tmp_path, catalogue):
    from dataclasses import replace

    with warnings.catch_warnings(), pytest.raises(BadSetup, match="stickers"):
        open_painter(replace(catalogue.model("stickers"), folder=tmp_path), PainterOptions())


def test_recipes_painted_in_several_threads_step_together(one_thread, catalogue):
    painter = open_painter(catalogue.model("stickers"), PainterOptions(slots=3))
    assert sorted(painter.loop.batch_sizes.seconds) == [1, 2, 3]
    recipes = [
        catalogue.recipe({"prompt": "a red fox", "seed": seed, "steps": steps, "sampler": sampler})
        for seed, steps, sampler in ((1, 3, "ddim"), (2, 12, "euler-a"), (3, 7, "dpm++2m"))
    ]
    alone = [painter(recipe, lambda step: None) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        concurrent = list(pool.map(lambda recipe: painter(recipe, lambda step: None), recipes))
    for picture, expected in zip(concurrent, alone, strict=True):
        assert max(high for _, high in ImageChops.difference(picture, expected).getextrema()) <= 1


def test_reproducible_pictures_are_the_same_in_any_batch(one_thread, catalogue):
    painter = open_painter(catalogue.model("stickers"), PainterOptions(slots=3))
    recipes = [
        catalogue.recipe({"prompt": "a fox", "seed": seed, "steps": 3 + seed, "mode": "reproducible"})
        for seed in range(3)
    ]
    alone = [painter(recipe, lambda step: None) for recipe in recipes]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda recipe: painter(recipe, lambda step: None), recipes))
    assert all(same_pixels(picture, expected) for picture, expected in zip(together, alone, strict=True))


def test_reproducible_pictures_use_the_rows_of_the_largest_batch_that_fits(catalogue, monkeypatch):
    """Three do not fit into memory: at most two are painted at once, and the device's description says so."""
    step = StepLoop.advance

    def advance(loop, paintings):
        if len(paintings) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(loop, paintings)

    monkeypatch.setattr(StepLoop, "advance", advance)
    painter = open_painter(catalogue.model("stickers"), PainterOptions(slots=3))
    rows = 4 if painter.make_probe().guidance_scale > 1 else 2
    assert painter.loop.reproducible_rows == rows and painter.device == "cpu float32, 2 at once"


def test_the_user_and_rank_reach_the_step_loop(catalogue):
    painter = open_painter(catalogue.model("stickers"), PainterOptions())
    recipe = catalogue.recipe({"prompt": "a fox", "seed": 1, "steps": 2})
    seen = []

    def on_step(progress):
        seen.extend((painting.user, painting.rank) for painting in painter.loop.active)

    painter(recipe, on_step, None, Turn("ann", 5.0))
    assert ("ann", 5.0) in seen


def test_a_painting_that_does_not_fit_into_memory_raises_too_large(catalogue):
    painter = open_painter(catalogue.model("stickers"), PainterOptions())

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    painter.denoiser.predict = full
    recipe = catalogue.recipe({"prompt": "a red fox", "seed": 1})
    with pytest.raises(TooLarge, match="does not fit into the memory of cpu float32: ask for a smaller size .CUDA"):
        painter(recipe, lambda progress: None)
