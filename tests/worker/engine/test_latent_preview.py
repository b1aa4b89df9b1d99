"""A cheap look at latents, beside what the shipped autoencoder makes of them."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from tests.real import ROOT
from worker.engine.latent_preview import LatentPreview
from worker.engine.latents import encode, patch_of


@pytest.fixture(scope="module")
def vae():
    return AutoencoderTiny.from_pretrained(ROOT / "models" / "stickers" / "vae").eval()


def picture():
    """Sky above, grass below, and something red to the right."""
    image = np.zeros((128, 128, 3), np.float32)
    image[:64], image[64:], image[40:90, 80:120] = (0.4, 0.6, 0.9), (0.2, 0.6, 0.2), (0.8, 0.1, 0.1)
    return image


def test_colours_are_where_they_will_be(vae):
    shown = picture()
    latents = encode(vae, torch.from_numpy(shown).permute(2, 0, 1)[None] * 2 - 1, patch_of(16, vae))
    seen = LatentPreview(vae, patch_of(16, vae))(latents)
    assert seen.size == (32, 32)
    wanted = Image.fromarray((shown * 255).astype(np.uint8)).resize((32, 32), Image.Resampling.BOX)
    error = np.abs(np.asarray(seen, np.float32) - np.asarray(wanted, np.float32)).mean()
    assert error < 16
    upside_down = np.asarray(wanted, np.float32)[::-1]
    assert np.abs(np.asarray(seen, np.float32) - upside_down).mean() > 2 * error
