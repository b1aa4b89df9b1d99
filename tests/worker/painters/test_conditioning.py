"""Conditioning from real text states and a bank of invented drawings."""

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
    LabelConditioner,
    SheetConditioner,
    SheetTiles,
    TextConditioner,
    add_margins,
    drop_natural_colours,
    open_conditioner,
)
from worker.stickers.layout import MAX_THINGS
from worker.stickers.plan import Composition
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


def test_guidance_adds_a_row_for_the_negative_prompt(text):
    conditioner = TextConditioner(text)
    assert conditioner(recipe("a fox", guidance_scale=1.0)).states.shape == (1, 24, 384)
    conditioning = conditioner(recipe("a fox", guidance_scale=3.0, negative_prompt="snow"))
    assert torch.allclose(conditioning.states, text(["snow", "a fox"]))


def test_threads_do_not_change_each_others_padding(text, monkeypatch):
    """The padding of the shared tokenizer is set before each call; a thread in between would change the states."""
    set_padding = text.tokenizer.set_truncation_and_padding

    def set_and_wait(*arguments, **options):
        set_padding(*arguments, **options)
        time.sleep(0.02)

    monkeypatch.setattr(text.tokenizer, "set_truncation_and_padding", set_and_wait)
    alone = text(["a fox"])
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(encode, ["a fox"]) for _ in range(8) for encode in (text, text.embed)]
    assert all(torch.equal(states.result(), alone) for states in futures[::2])


def test_a_note_says_which_words_the_text_encoder_does_not_read(text):
    conditioner = TextConditioner(text)
    assert conditioner(recipe("a quiet lake " * 7)).notes == ()
    (note,) = conditioner(recipe("a quiet lake " * 7 + "and a red fox")).notes
    assert note == "the model reads only the first 24 tokens of a prompt, so not 'a red fox'"


@pytest.mark.parametrize(
    ("prompt", "number"), [("cat", 0), ("a cute kitten", 0), ("spaceship", 1), ("rocket", 1), ("a rocket, please", 1)]
)
def test_a_prompt_gets_the_nearest_label(text, prompt, number):
    conditioner = LabelConditioner(text, ["cat", "rocket"])
    assert conditioner(recipe(prompt, guidance_scale=1.0)).labels.tolist() == [number]
    assert conditioner(recipe(prompt, guidance_scale=2.0)).labels.tolist() == [2, number]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A red fox in the snow", "a fox in the snow"),
        ("an orange Fox", "a Fox"),
        ("two red foxes and a blue fox", "two foxes and a blue fox"),
        ("the red owl", "the owl"),
        ("a red foxglove", "a red foxglove"),
        ("a fox on a red background", "a fox on a red background"),
    ],
)
def test_natural_colours_of_a_drawing_are_dropped_from_the_prompt(prompt, expected):
    things = (
        Sprite("1", ("fox", "red fox"), ("orange", "red")),
        Sprite("2", ("owl",), ("red",)),
        Sprite("3", ("egg",)),
    )
    assert drop_natural_colours(prompt, things) == expected


def test_the_network_gets_no_colour_that_the_drawing_shows(text, bank, vae):
    red_thing = replace(bank.sprites[0], colours=("red",))
    red_only = Retrieved((red_thing,), "3d", Composition((1,)))
    conditioner = SheetConditioner(text, lambda prompt: red_only, SheetTiles(bank, vae, 2))
    conditioning = conditioner(recipe(f"a red {red_thing.names[0]}", guidance_scale=3.0, negative_prompt="red snow"))
    assert torch.allclose(conditioning.states, text(["red snow", f"a {red_thing.names[0]}"]))


def retrieve(bank, *rows):
    return Retrieved(tuple(bank.sprites[row] for row in rows), "3d", Composition((1,) * len(rows)))


def test_a_sheet_shows_the_retrieved_things_and_the_seed_decides_their_layout(bank, vae):
    sheets = SheetTiles(bank, vae, 2)
    sheet, repeated, other = (sheets(retrieve(bank, 0, 1), Random(seed)) for seed in (1, 1, 2))
    assert (
        sheet.shape == (1, MAX_THINGS * 17, 16, 16) and torch.equal(sheet, repeated) and not torch.equal(sheet, other)
    )
    opacity = sheet.view(MAX_THINGS, 17, 16, 16)[:, -1].sum((1, 2))
    assert (opacity > 0).tolist() == [True, True, False, False]


def test_only_things_that_may_be_mirrored_are_mirrored(bank, vae, monkeypatch):
    seen = []
    target = "worker.painters.conditioning.add_margins"
    monkeypatch.setattr(target, lambda pixels, random: seen.append(pixels[0, 0, 0]) or pixels)
    half = np.zeros((8, 8, 4), np.uint8)
    half[:, 4:] = 255
    monkeypatch.setattr(bank, "pixels", lambda sprite, style: half)
    sheets = SheetTiles(bank, vae, 2)
    for row in (0, 1):  # only the second may be mirrored
        for seed in range(12):
            sheets.tiles(bank.sprites[row], "3d", Random(seed))
    assert set(seen[:12]) == {0} and set(seen[12:]) == {0, 255}


def test_margins_shift_a_drawing_and_keep_its_pixels():
    pixels = np.full((20, 40, 4), 255, np.uint8)
    moved = {add_margins(pixels, Random(seed)).shape for seed in range(30)}
    assert len(moved) > 5
    assert all(20 <= height <= 22 and 40 <= width <= 44 for height, width, _ in moved)
    assert all(add_margins(pixels, Random(seed))[..., 3].sum() == pixels[..., 3].sum() for seed in range(30))


def test_a_model_with_an_adapter_and_no_drawings_is_refused(tmp_path, vae):
    with pytest.raises(BadSetup, match="sprites"):
        open_conditioner({}, tmp_path, vae, 2)
