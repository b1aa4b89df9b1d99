"""Initial images: how uploads are read, and how long they are kept."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from memo import BadRecipe, Forgotten, Recipe
from memo.init_image import LARGEST_KEPT, init_image_name, read_init_image
from tests.real import painted


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_common_formats_become_plain_png(kind):
    png = read_init_image(encoded(Image.new("RGB", (40, 24), "#c60"), kind))
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (40, 24))


def test_transparent_parts_become_white():
    image = Image.open(io.BytesIO(read_init_image(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))))
    assert image.getpixel((4, 4)) == (255, 255, 255)


def test_a_photograph_is_turned_upright_and_loses_its_metadata():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    data = read_init_image(encoded(Image.new("RGB", (40, 24)), "JPEG", exif=exif, icc_profile=b"profile"))
    image = Image.open(io.BytesIO(data))
    assert image.size == (24, 40) and not image.getexif() and not image.info


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_malformed_tag_beside_the_orientation_does_no_harm(kind):
    turned = struct.pack("<HHII", 0x0112, 3, 1, 6)
    resolution = struct.pack("<HHI4s", 0x011A, 2, 4, b"abc\0")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + turned + resolution + b"\0\0\0\0"
    start = read_init_image(encoded(Image.new("RGB", (40, 24)), kind, exif=exif))
    assert Image.open(io.BytesIO(start)).size == (24, 40)


def test_a_scan_in_16_bit_grey_keeps_its_shades():
    shades = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    start = Image.open(io.BytesIO(read_init_image(encoded(Image.fromarray(shades)))))
    assert np.array_equal(np.asarray(start)[:, :, 0], shades >> 8)


def test_a_large_colour_profile_does_not_lose_the_picture():
    profile = np.random.default_rng(0).bytes(3 * 2**20)
    start = Image.open(io.BytesIO(read_init_image(encoded(Image.new("RGB", (40, 24), "#c60"), icc_profile=profile))))
    assert start.getpixel((4, 4)) == (0xCC, 0x66, 0) and not start.info


def test_a_large_picture_is_scaled_down():
    image = Image.open(io.BytesIO(read_init_image(encoded(Image.new("L", (3000, 300))))))
    assert image.size == (LARGEST_KEPT, LARGEST_KEPT // 10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty: send a PNG, JPEG or WebP picture"),
        (b"GIF89a", "it is a GIF picture: save it as PNG, JPEG or WebP"),
        (encoded(Image.new("RGB", (40, 24)))[:60], "it is a damaged, incomplete or unusual PNG file: save it again"),
        (encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "it is a TIFF picture: save it as PNG"),
        (encoded(Image.new("1", (5000, 8))), "scale it to at most 4096 px a side"),
        (encoded(Image.new("1", (60000, 60000))), "it has 60000×60000 px: scale it to at most 4096 px a side"),
    ],
)
def test_an_unusable_upload_is_refused(data, message):
    with pytest.raises(BadRecipe, match=message):
        read_init_image(data)


def test_an_initial_image_is_found_only_in_its_own_scope(memory):
    png = read_init_image(encoded(Image.new("RGB", (8, 8))))
    name = memory.keep_init_image(png, "mine")
    assert memory.has_init_image(name, "mine") and memory.init_image(name, "mine") == png
    assert not memory.has_init_image(name, "yours") and memory.keep_init_image(png, "yours") != name
    with pytest.raises(Forgotten):
        memory.init_image(name, "another")


def test_the_same_picture_has_the_same_name_in_every_format(memory):
    image = Image.new("RGB", (8, 8), "#123")
    png, webp = encoded(image), encoded(image, "WEBP", lossless=True)
    assert memory.keep_init_image(read_init_image(png)) == memory.keep_init_image(read_init_image(webp))


def test_another_initial_image_or_strength_is_not_a_match(memory, remember):
    words = {"prompt": "a red fox", "model": "m", "revision": "r", "width": 64, "height": 64}
    first, second = init_image_name(b"one", "shared"), init_image_name(b"other", "shared")
    remember(Recipe(**words, init_image=first, strength=0.5))
    requests = [
        Recipe(**words),
        Recipe(**words, init_image=second, strength=0.5),
        Recipe(**words, init_image=first, strength=0.7),
    ]
    assert all(memory.recall(recipe).match is None for recipe in requests)
    paraphrase = Recipe(**{**words, "prompt": "the red fox"}, init_image=first, strength=0.5)
    assert memory.recall(paraphrase).match and memory.recall(paraphrase).match.how == "same meaning"


@pytest.fixture
def image_to_image(memory):
    """A recipe whose initial image is in the store."""
    name = memory.keep_init_image(encoded(Image.new("RGB", (8, 8))), "mine")
    return Recipe(prompt="a red fox", model="m", revision="r", width=64, height=64, init_image=name, strength=0.5)


def test_an_initial_image_is_deleted_with_the_last_picture_that_uses_it(memory, remember, image_to_image):
    first, second = (remember(image_to_image, seed=seed, scope="mine") for seed in (1, 2))
    memory.forget(first.key)
    assert memory.has_init_image(image_to_image.init_image, "mine")
    memory.forget(second.key, "mine")
    assert not memory.has_init_image(image_to_image.init_image, "mine")


def test_an_initial_image_stays_while_a_painting_under_way_uses_it(memory, remember, image_to_image):
    picture = remember(image_to_image, scope="mine")
    memory.painting_started("ab" * 16, replace(image_to_image, prompt="a blue fox"), "mine")
    memory.forget(picture.key)
    assert memory.has_init_image(image_to_image.init_image, "mine")


def test_an_initial_image_is_deleted_even_if_its_picture_was_never_indexed(memory, image_to_image):
    picture, png = painted(image_to_image, scope="mine")
    memory.keep(picture, png)
    memory.forget(picture.key, "mine")
    assert not memory.has_init_image(image_to_image.init_image, "mine")


def test_the_strength_is_ignored_without_an_initial_image():
    words = {"prompt": "a red fox", "model": "m", "revision": "r"}
    assert Recipe(**words, strength=0.3).key == Recipe(**words).key


@pytest.mark.parametrize("strength", [0, 1.2, -1, True, "half", float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(BadRecipe, match="strength: .* it must be a number above 0 and at most 1"):
        Recipe(prompt="a", model="m", revision="r", init_image="0" * 32, strength=strength)
