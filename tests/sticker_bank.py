"""A bank of three invented drawings, for tests of stickers, training and benches."""

import pytest
from PIL import Image

from worker.stickers.sprites import Sprite, open_bank, write_bank

MAGENTA, CYAN, LIME = (255, 0, 255), (0, 255, 255), (0, 255, 0)


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """Three drawings of one pure colour each: the zig is magenta, the zag cyan, and the zog lime and only in 3d."""
    folder = tmp_path_factory.mktemp("bank")
    blocks = {"1": MAGENTA, "2": CYAN, "3": LIME}
    drawings = {key: Image.new("RGBA", (40, 40), (*colour, 255)) for key, colour in blocks.items()}
    sprites = [
        Sprite("1", ("zig", "ziggy"), ("purple",)),
        Sprite("2", ("zag",), ("blue",), turns=True),
        Sprite("3", ("zog",), ("green",)),
    ]
    flat = {key: drawings[key] for key in ("1", "2")}
    write_bank(folder, sprites, {"3d": drawings, "flat": flat}, side=40)
    return open_bank(folder)
