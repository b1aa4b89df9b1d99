"""What the networks go by, from real text states and a bank of made-up drawings."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from memo import BadSetup, from_mapping
from worker.engine.text_encoder import open_text_encoder
from worker.painters.conditioning import (
    LabelConditions,
    SheetConditions,
    SheetTiles,
    TextConditions,
    jittered,
    open_conditions,
    without_own_colours,
)
from worker.stickers.layout import THINGS
from worker.stickers.plan import Wish
from worker.stickers.retrieve import Retrieved
from worker.stickers.sprites import Sprite


def recipe(prompt, **values):
    return from_mapping({"prompt": prompt, "model": "m", "revision": "r", "seed": 1, **values})


@pytest.fixture(scope="module")
def text():
    return open_text_encoder()


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    parts = {"num_encoder_blocks": (0, 1, 1), "num_decoder_blocks": (1, 1, 0), "scaling_factor": 1.0}
    return AutoencoderTiny(encoder_block_out_channels=(8,) * 3, decoder_block_out_channels=(8,) * 3, **parts).eval()


def test_there_are_two_rows_where_something_is_to_be_guided(text):
    conditions = TextConditions(text)
    assert conditions(recipe("a fox", guidance_scale=1.0)).states.shape == (1, 24, 384)
    conditioning = conditions(recipe("a fox", guidance_scale=3.0, negative_prompt="snow"))
    assert torch.allclose(conditioning.states, text(["snow", "a fox"]))


def test_threads_do_not_change_each_others_padding(text, monkeypatch):
    """The tokenizer of all is set to a padding and then called: whoever came between cut the other's states short."""
    setting = text.tokenizer.set_truncation_and_padding

    def and_wait(*conditioning, **named):
        setting(*conditioning, **named)
        time.sleep(0.02)

    monkeypatch.setattr(text.tokenizer, "set_truncation_and_padding", and_wait)
    alone = text(["a fox"])
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(how, ["a fox"]) for _ in range(8) for how in (text, text.pooled)]
    assert all(torch.equal(whole.result(), alone) for whole in asked[::2])


@pytest.mark.parametrize(
    ("prompt", "number"), [("cat", 0), ("a cute kitten", 0), ("spaceship", 1), ("rocket", 1), ("a rocket, please", 1)]
)
def test_a_prompt_means_the_nearest_label(text, prompt, number):
    conditions = LabelConditions(text, ["cat", "rocket"])
    assert conditions(recipe(prompt, guidance_scale=1.0)).labels.tolist() == [number]
    assert conditions(recipe(prompt, guidance_scale=2.0)).labels.tolist() == [2, number]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("A red fox in the snow", "a fox in the snow"),
        ("an orange Fox", "a Fox"),
        ("two red foxes and a blue fox", "two foxes and a blue fox"),
        ("the red owl", "the owl"),
        ("a red foxglove", "a red foxglove"),
        ("a fox on a red background", "a fox on a red background"),
    ],
)
def test_colours_that_a_drawing_has_are_not_said_twice(prompt, said):
    things = (
        Sprite("1", ("fox", "red fox"), ("orange", "red")),
        Sprite("2", ("owl",), ("red",)),
        Sprite("3", ("egg",)),
    )
    assert without_own_colours(prompt, things) == said


def test_the_network_reads_no_colour_that_the_drawing_shows(text, bank, vae):
    shown = replace(bank.sprites[0], colours=("red",))
    thing = Retrieved((shown,), "3d", Wish((1,)))
    conditions = SheetConditions(text, lambda prompt: thing, SheetTiles(bank, vae, 2))
    conditioning = conditions(recipe(f"a red {shown.names[0]}", guidance_scale=3.0, negative_prompt="red snow"))
    assert torch.allclose(conditioning.states, text(["red snow", f"a {shown.names[0]}"]))


def found(bank, *rows):
    return Retrieved(tuple(bank.sprites[row] for row in rows), "3d", Wish((1,) * len(rows)))


def test_a_sheet_shows_what_was_found_and_the_seed_says_how(bank, vae):
    sheets = SheetTiles(bank, vae, 2)
    one, again, other = (sheets(found(bank, 0, 1), Random(seed)) for seed in (1, 1, 2))
    assert one.shape == (1, THINGS * 17, 16, 16) and torch.equal(one, again) and not torch.equal(one, other)
    opacity = one.view(THINGS, 17, 16, 16)[:, -1].sum((1, 2))
    assert (opacity > 0).tolist() == [True, True, False, False]


def test_only_what_may_be_turned_is_turned(bank, vae, monkeypatch):
    seen = []
    jittered = "worker.painters.conditioning.jittered"
    monkeypatch.setattr(jittered, lambda pixels, random: seen.append(pixels[0, 0, 0]) or pixels)
    half = np.zeros((8, 8, 4), np.uint8)
    half[:, 4:] = 255
    monkeypatch.setattr(bank, "pixels", lambda sprite, style: half)
    sheets = SheetTiles(bank, vae, 2)
    for row in (0, 1):  # only the second turns
        for seed in range(12):
            sheets.tiles(bank.sprites[row], "3d", Random(seed))
    assert set(seen[:12]) == {0} and set(seen[12:]) == {0, 255}


def test_a_drawing_stands_a_little_aside_and_keeps_its_pixels():
    pixels = np.full((20, 40, 4), 255, np.uint8)
    moved = {jittered(pixels, Random(seed)).shape for seed in range(30)}
    assert len(moved) > 5
    assert all(20 <= height <= 22 and 40 <= width <= 44 for height, width, _ in moved)
    assert all(jittered(pixels, Random(seed))[..., 3].sum() == pixels[..., 3].sum() for seed in range(30))


def test_a_model_of_sheets_without_drawings_is_refused(tmp_path, vae):
    with pytest.raises(BadSetup, match="sprites"):
        open_conditions({}, tmp_path, vae, 2)
