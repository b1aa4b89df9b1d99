"""Previews of latents, compared with the pictures that the shipped autoencoder encoded."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from tests.real import ROOT
from worker.engine.latent_preview import LatentPreview
from worker.engine.latents import encode, patch_size


@pytest.fixture(scope="module")
def vae():
    return AutoencoderTiny.from_pretrained(ROOT / "models" / "stickers" / "vae").eval()


def picture():
    """Blue at the top, green at the bottom, and a red rectangle on the right."""
    image = np.zeros((128, 128, 3), np.float32)
    image[:64], image[64:], image[40:90, 80:120] = (0.4, 0.6, 0.9), (0.2, 0.6, 0.2), (0.8, 0.1, 0.1)
    return image


def test_a_preview_shows_colours_in_their_places(vae):
    original = picture()
    latents = encode(vae, torch.from_numpy(original).permute(2, 0, 1)[None] * 2 - 1, patch_size(16, vae))
    preview = LatentPreview(vae, patch_size(16, vae))(latents)
    assert preview.size == (32, 32)
    expected = Image.fromarray((original * 255).astype(np.uint8)).resize((32, 32), Image.Resampling.BOX)
    error = np.abs(np.asarray(preview, np.float32) - np.asarray(expected, np.float32)).mean()
    assert error < 16
    upside_down = np.asarray(expected, np.float32)[::-1]
    assert np.abs(np.asarray(preview, np.float32) - upside_down).mean() > 2 * error
