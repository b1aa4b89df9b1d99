import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from memo.errors import BadSetup
from worker.train import art
from worker.train.places import COLOURS


def test_no_name_means_two_things():
    names = [name for _, given, _ in art.concepts() for name in given]
    assert len(names) == len(set(names)) > 100


def test_every_colour_of_a_thing_is_a_known_colour():
    assert {colour for _, _, colours in art.concepts() for colour in colours} <= set(COLOURS)


def test_an_altered_package_is_refused(tmp_path):
    (tmp_path / art.ARCHIVE).write_bytes(b"something else")
    with pytest.raises(BadSetup, match="sha256"):
        art.open_art(tmp_path)


def test_a_missing_npm_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadSetup, match="npm"):
        art.open_art(tmp_path)


def test_a_drawing_is_found_under_either_spelling_of_its_code(tmp_path):
    with opened(tmp_path, "2601-fe0f.webp") as (package, files):
        assert art.read(package, files, "☁").size == (8, 8)


def test_a_missing_drawing_is_named(tmp_path):
    with opened(tmp_path, "1f98a.webp") as (package, files), pytest.raises(BadSetup, match="☁"):
        art.read(package, files, "☁")


def test_a_drawing_is_cut_to_what_is_visible():
    picture = Image.new("RGBA", (64, 64))
    picture.paste((255, 0, 0, 255), (10, 20, 50, 40))
    pixels = art.cut_out(picture)
    assert pixels.shape == (art.SIDE // 2, art.SIDE, 4)
    assert np.all(pixels[..., 3] == 255)


class opened:
    """A package with one drawing, open for reading."""

    def __init__(self, folder, name):
        self.path = folder / "art.tgz"
        data = io.BytesIO()
        Image.new("RGBA", (8, 8), "red").save(data, "WEBP")
        member = tarfile.TarInfo(f"package/assets/{name}")
        member.size = data.tell()
        data.seek(0)
        with tarfile.open(self.path, "w:gz") as package:
            package.addfile(member, data)

    def __enter__(self):
        self.package = tarfile.open(self.path)
        return self.package, {member.name: member for member in self.package.getmembers()}

    def __exit__(self, *_):
        self.package.close()
