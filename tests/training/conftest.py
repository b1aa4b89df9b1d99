import numpy as np
import pytest

from training.captioned_pictures import CaptionedPictures
from training.pictures import train_vae


@pytest.fixture(autouse=True)
def repeatable(one_thread):
    """Use one thread, so that every run sums in the same order."""


@pytest.fixture
def pairs_folder(tmp_path):
    """Sixteen pictures of 32 px: a light square on a dark ground, in one of four places that the caption names."""
    images = np.full((16, 32, 32, 3), 40, np.uint8)
    captions = []
    for row in range(16):
        x, y = 16 * (row % 2), 16 * (row // 2 % 2)
        images[row, y : y + 16, x : x + 16] = (230, 180, 60)
        captions.append(f"a square {'right' if x else 'left'} {'below' if y else 'above'}")
    CaptionedPictures(images, tuple(captions)).save(tmp_path / "pairs")
    return tmp_path / "pairs"


@pytest.fixture
def vae_knobs(pairs_folder, tmp_path):
    """The knobs for twenty steps of a tiny autoencoder."""
    return train_vae.Knobs(
        pairs=pairs_folder,
        out=tmp_path / "vae",
        steps=20,
        batch=4,
        crop=32,
        held_out=4,
        encoder_width=8,
        decoder_width=8,
        threads=1,
        log_every=1,
    )
