"""Sheets over a real autoencoder at toy size."""

from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from worker.engine.latents import decode, encode, patch_size
from worker.stickers.layout import MAX_THINGS, SIZES, Placement, draw_layout
from worker.stickers.sheet import encode_tiles, lay_sheet, sheet_channels, sheet_latents

CHANNELS = 16  # 2 × 2 latents of four


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * 3,
        decoder_block_out_channels=(8,) * 3,
        num_encoder_blocks=(0, 1, 1),
        num_decoder_blocks=(1, 1, 0),
        scaling_factor=1.0,
    ).eval()


@pytest.fixture(scope="module")
def tiles(vae, bank):
    return encode_tiles(vae, [bank.pixels(sprite, "3d") for sprite in bank.sprites], patch=2)


def test_latents_are_decoded_as_the_autoencoder_does_alone(vae):
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = encode(vae, pictures, 2)
    assert latents.shape == (2, 16, 4, 4) and patch_size(16, vae) == 2
    plain = vae.decode(vae.encode(pictures).latents).sample
    assert torch.allclose(decode(vae, latents, 2), plain, atol=1e-5)


def test_a_drawing_is_encoded_at_every_size(tiles):
    assert {size: tile.shape for size, tile in tiles[0].items()} == {size: (17, size, size) for size in SIZES}


def test_opacity_is_one_where_the_drawing_is(tiles):
    opacity = tiles[0][11][-1].astype(float)
    assert opacity[5, 5] == 1 and opacity.mean() == pytest.approx((10.25 / 11) ** 2, abs=0.03)


def test_each_thing_lies_in_its_own_channels_at_the_planned_place(tiles):
    layout = draw_layout(Random(2))
    plan = [Placement(0, "quarters", 0), Placement(0, "quarters", 3), Placement(2, "stack", 1)]
    sheet = lay_sheet(tiles, plan, layout, CHANNELS).view(MAX_THINGS, CHANNELS + 1, 16, 16)
    for placement in plan:
        x, y = layout.corners(placement.canvas)[placement.place]
        assert np.array_equal(sheet[placement.thing, :, y : y + 7, x : x + 7].numpy(), tiles[placement.thing][7])
    assert [int(part[-1].float().sum() > 0) for part in sheet] == [1, 0, 1, 0]
    assert sheet[0, -1].float().sum() == pytest.approx(2 * tiles[0][7][-1].astype(float).sum(), rel=1e-2)


def test_the_latents_of_a_sheet_join_those_of_its_things(tiles):
    layout = draw_layout(Random(2))
    plan = [Placement(0, "sides", 0), Placement(1, "sides", 1)]
    latents = sheet_latents(lay_sheet(tiles, plan, layout, CHANNELS)[None].float())
    assert latents.shape == (1, CHANNELS, 16, 16)
    for placement in plan:
        x, y = layout.corners(placement.canvas)[placement.place]
        assert np.allclose(latents[0, :, y : y + 7, x : x + 7], tiles[placement.thing][7][:-1])
    assert latents.abs().sum() > 0 and not latents[..., 0, :].any()


def test_a_sheet_without_things_is_empty():
    sheet = lay_sheet([], [], draw_layout(Random(1)), CHANNELS)
    assert sheet.shape == (sheet_channels(CHANNELS), 16, 16) and not sheet.any()
