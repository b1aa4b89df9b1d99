import numpy as np
import pytest
from PIL import Image

from memo.errors import BadSetup
from worker.train.pairs import Pairs, open_pairs, read_pairs


@pytest.fixture
def folder(tmp_path):
    """Nine readable pictures of different shapes and a table that names them."""
    for number in range(9):
        Image.new("RGBA", (40 + number, 30), (number * 20, 0, 0, 255)).save(tmp_path / f"{number}.png")
    write(tmp_path, *(f"{number}.png,picture number {number}" for number in range(9)))
    return tmp_path


def write(folder, *rows, header="file,caption"):
    (folder / "captions.csv").write_text("\n".join([header, *rows]))


def read(folder):
    return read_pairs(folder, folder / "captions.csv", side=16)


def test_a_folder_with_a_table_becomes_square_pictures(folder):
    pairs = read(folder)
    assert pairs.images.shape == (9, 16, 16, 3)
    assert pairs.captions[3] == "picture number 3"


def test_what_is_transparent_becomes_white(folder):
    Image.new("RGBA", (40, 40)).save(folder / "0.png")
    assert (read(folder).images[0] == 255).all()


def test_saved_pairs_open_the_same(folder):
    pairs = read(folder)
    pairs.save(folder / "kept")
    again = open_pairs(folder / "kept")
    assert again.captions == pairs.captions and again.side == 16
    assert np.array_equal(again.images, pairs.images)


def test_all_bad_rows_are_named_at_once(folder):
    (folder / "bad.png").write_bytes(b"not a picture")
    write(folder, "0.png,good", "1.png, ", "gone.png,lost", "bad.png,broken")
    with pytest.raises(BadSetup, match="3 of 4") as error:
        read(folder)
    assert all(name in str(error.value) for name in ("'1.png' has no caption", "'gone.png' is missing", "'bad.png'"))


def test_a_table_without_captions_is_refused(folder):
    write(folder, "0.png,one", header="file,title")
    with pytest.raises(BadSetup, match="column caption"):
        read(folder)


def test_a_missing_table_is_refused(folder):
    (folder / "captions.csv").unlink()
    with pytest.raises(BadSetup, match=r"captions\.csv"):
        read(folder)


@pytest.mark.parametrize("count", [0, 7])
def test_too_few_pictures_are_refused(folder, count):
    write(folder, *(f"{number}.png,picture" for number in range(count)))
    with pytest.raises(BadSetup, match=f"{count} pictures are too few"):
        read(folder)


def test_an_empty_folder_of_pairs_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="no captioned pictures"):
        open_pairs(tmp_path)


@pytest.mark.parametrize(
    ("shape", "captions", "fault"),
    [
        ((8, 16, 12, 3), ("x",) * 8, "side"),
        ((8, 16, 16, 3), ("x",) * 7, "7 captions"),
        ((8, 16, 16, 3), ("x",) * 7 + (" ",), "empty captions in rows 8"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(shape, captions, fault):
    with pytest.raises(BadSetup, match=fault):
        Pairs(np.zeros(shape, np.uint8), captions)
