"""The sprite bank: written, read, extended, and refused when it is broken."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from memo import BadSetup
from worker.stickers.sprites import Sprite, open_bank, write_bank


def test_a_bank_returns_what_was_written(bank):
    zig = bank.sprites[0]
    assert zig == Sprite("1", ("zig", "ziggy"), ("purple",))
    pixels = bank.pixels(zig, "3d")
    assert pixels.shape == (40, 40, 4) and np.abs(pixels[20, 20].astype(int) - (255, 0, 255, 255)).max() < 12


def test_drawings_are_scaled_by_their_longer_side(tmp_path):
    write_bank(tmp_path, [Sprite("a", ("a",))], {"3d": {"a": Image.new("RGBA", (200, 100), "red")}}, side=50)
    assert open_bank(tmp_path).pixels(Sprite("a", ("a",)), "3d").shape == (25, 50, 4)


def test_a_thing_may_be_drawn_in_some_styles_only(bank):
    assert [bank.styles_of(sprite) for sprite in bank.sprites] == [("3d", "flat"), ("3d", "flat"), ("3d",)]


def test_the_same_art_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_bank(tmp_path / name, [Sprite("a", ("a",))], {"3d": {"a": Image.new("RGBA", (9, 9), "red")}}, side=9)
    assert (tmp_path / "one/3d.zip").read_bytes() == (tmp_path / "two/3d.zip").read_bytes()


@pytest.fixture
def bank_copy(bank, tmp_path):
    return shutil.copytree(bank.folder, tmp_path / "bank")


def test_a_drawing_added_to_the_bank_is_used(bank_copy):
    rows = json.loads((bank_copy / "sprites.json").read_text())
    (bank_copy / "sprites.json").write_text(
        json.dumps([*rows, {"key": "4", "names": ["zug"], "colours": [], "turns": False}])
    )
    with zipfile.ZipFile(bank_copy / "flat.zip", "a") as flat, zipfile.ZipFile(bank_copy / "3d.zip") as full:
        flat.writestr("4.webp", full.read("3.webp"))
    bank = open_bank(bank_copy)
    assert bank.styles_of(bank.sprites[3]) == ("flat",)


def test_a_name_without_a_drawing_is_refused(bank_copy):
    rows = json.loads((bank_copy / "sprites.json").read_text())
    (bank_copy / "sprites.json").write_text(
        json.dumps([*rows, {"key": "4", "names": ["zug"], "colours": [], "turns": False}])
    )
    with pytest.raises(BadSetup, match="zug"):
        open_bank(bank_copy)


def test_a_folder_that_is_not_a_bank_is_named(tmp_path, bank_copy):
    with pytest.raises(BadSetup, match="is not a sprite bank"):
        open_bank(tmp_path / "nothing")
    for file in bank_copy.glob("*.zip"):
        file.unlink()
    with pytest.raises(BadSetup, match=r"STYLE\.zip"):
        open_bank(bank_copy)


def test_a_broken_drawing_is_named(bank_copy):
    with zipfile.ZipFile(bank_copy / "3d.zip", "w") as packed:
        for key in "123":
            packed.writestr(f"{key}.webp", b"no picture")
    bank = open_bank(bank_copy)
    with pytest.raises(BadSetup, match=r"2\.webp"):
        bank.pixels(bank.sprites[1], "3d")
