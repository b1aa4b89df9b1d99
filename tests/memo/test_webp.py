"""A WebP file carries its recipe, as a PNG does."""

import io

import pytest
from PIL import Image

from memo import BadKey
from memo.webp import read_picture, read_webp, write_webp
from tests.real import painted


@pytest.fixture
def odd(recipe):
    """A recipe whose prompt needs every kind of escaping."""
    return type(recipe)(
        prompt="a \"red\" <fox> & 'snow' – naïve é", model="stickers", revision="r1", width=64, height=64
    )


def test_a_webp_holds_everything_about_its_picture(odd):
    picture, png = painted(odd)
    for quality in (None, 1, 100):
        assert read_webp(write_webp(png, quality)) == picture == read_picture(write_webp(png, quality))
    assert read_picture(png) == picture


def test_a_lossless_webp_has_the_same_pixels(recipe):
    _, png = painted(recipe)
    before, after = (Image.open(io.BytesIO(data)).convert("RGB") for data in (png, write_webp(png)))
    assert before.tobytes() == after.tobytes()


def test_other_tools_find_the_parameters_in_exif(odd):
    _, png = painted(odd)
    comment = Image.open(io.BytesIO(write_webp(png))).getexif().get_ifd(0x8769)[0x9286]
    text = comment.removeprefix(b"UNICODE\0").decode("utf-16-be")
    assert text.startswith(odd.prompt) and "Seed: 1" in text


def test_a_webp_without_a_recipe_is_refused():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "WEBP")
    with pytest.raises(BadKey, match="carries no recipe"):
        read_webp(buffer.getvalue())
    with pytest.raises(BadKey, match="not a readable WebP"):
        read_webp(b"RIFF0000WEBP")


def test_a_mistyped_recipe_is_refused(recipe):
    _, png = painted(recipe)
    webp = write_webp(png)
    broken = webp.replace(b'm:recipe="memo1.', b'm:recipe="memo1.A', 1)
    assert broken != webp
    with pytest.raises(BadKey):
        read_webp(broken[: len(webp)])
