import numpy as np
import pytest
import torch

from worker.train.pairs import Pairs


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pairs_folder(tmp_path):
    """Sixteen pictures of 32 px: a light square on dark, at one of four places that the caption names."""
    images = np.full((16, 32, 32, 3), 40, np.uint8)
    captions = []
    for row in range(16):
        x, y = 16 * (row % 2), 16 * (row // 2 % 2)
        images[row, y : y + 16, x : x + 16] = (230, 180, 60)
        captions.append(f"a square {'right' if x else 'left'} {'below' if y else 'above'}")
    Pairs(images, tuple(captions)).save(tmp_path / "pairs")
    return tmp_path / "pairs"
