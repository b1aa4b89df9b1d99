"""A PNG carries its own recipe, for memoAIzed and for AUTOMATIC1111's reader."""

import io
import re
from dataclasses import asdict, replace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from memo import BadKey, Picture, read_png, to_text, write_png
from memo.picture import NearStart, from_record, record, scope_of, without_scope


def test_a_png_holds_everything_about_its_picture(recipe):
    picture = Picture(recipe=replace(recipe, seed=9), created=12.5, seconds=0.25, scope="me", device="cpu")
    assert read_png(write_png(Image.new("RGB", (64, 64)), picture)) == picture


def test_a_prompt_in_any_script_is_read_back(recipe):
    picture = Picture(recipe=replace(recipe, prompt="狐 «ñ» 🦊", seed=9), created=1.0, seconds=1.0)
    png = write_png(Image.new("RGB", (64, 64)), picture)
    assert read_png(png).recipe.prompt == "狐 «ñ» 🦊"
    assert Image.open(io.BytesIO(png)).text["parameters"].startswith("狐 «ñ» 🦊\n")


def test_automatic1111_can_read_the_parameters(recipe):
    seeded = replace(recipe, seed=9, negative_prompt="blurry", sampler="euler-a", schedule="karras")
    png = write_png(Image.new("RGB", (64, 64)), Picture(recipe=seeded, created=1.0, seconds=1.0))
    prompt, negative, settings = Image.open(io.BytesIO(png)).text["parameters"].split("\n")
    # AUTOMATIC1111 1.10 splits the last line by this pattern.
    pairs = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', settings))
    assert (prompt, negative) == ("a red fox in the snow", "Negative prompt: blurry")
    assert pairs["Sampler"] == "Euler a" and pairs["Schedule type"] == "Karras"
    assert (pairs["Steps"], pairs["CFG scale"], pairs["Seed"], pairs["Size"]) == ("20", "5", "9", "64x64")


def bare_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, bare_png()])
def test_a_file_without_a_recipe_is_refused(data):
    with pytest.raises(BadKey):
        read_png(data)


def test_a_file_of_another_format_is_named():
    with pytest.raises(BadKey, match="this file is a JPEG picture; recipes are in PNG and WebP files painted here"):
        read_png(b"\xff\xd8\xff\xe0")


@pytest.mark.parametrize(
    "record",
    [
        *("", "null", "[]", "[" * 99999, '{"created": "yesterday"}', '{"scope": 7}', '{"metered": "yes"}'),
        *('{"near": "fox"}', '{"near": {"picture": "fox"}}', '{"near": {}}'),
    ],
)
def test_a_damaged_record_is_refused(recipe, record):
    info = PngInfo()
    info.add_text("memoaized-recipe", to_text(replace(recipe, seed=9)))
    info.add_text("memoaized-record", record)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    for read in (read_png, scope_of, without_scope):
        with pytest.raises(BadKey, match="the record of this picture is damaged"):
            read(file.getvalue())


@pytest.fixture
def png(recipe) -> bytes:
    picture = Picture(recipe=replace(recipe, seed=9), created=12.5, seconds=0.25)
    return write_png(Image.new("RGB", (64, 64)), picture)


def chunks_of(png: bytes) -> list[bytes]:
    """The chunks of a PNG, in order."""
    chunks, start = [], 8
    while start < len(png):
        stop = start + 12 + int.from_bytes(png[start : start + 4], "big")
        chunks.append(png[start:stop])
        start = stop
    return chunks


def test_the_recipe_is_read_without_decoding_the_pixels(png, monkeypatch):
    monkeypatch.setattr(PngImageFile, "load", lambda _: pytest.fail("decoded the pixels"))
    assert read_png(png).recipe.seed == 9


def test_a_recipe_after_the_pixels_is_read_too(png):
    header, *texts_and_pixels, end = chunks_of(png)
    texts = [chunk for chunk in texts_and_pixels if chunk[4:8] != b"IDAT"]
    pixels = [chunk for chunk in texts_and_pixels if chunk[4:8] == b"IDAT"]
    assert len(texts) == 3
    assert read_png(png[:8] + b"".join([header, *pixels, *texts, end])) == read_png(png)


def test_notes_are_kept_in_the_file(recipe):
    picture = Picture(recipe=recipe, created=1.0, seconds=2.0, notes=("it leaves out 'whale'", "½"))
    assert read_png(write_png(Image.new("RGB", (8, 8)), picture)) == picture
    assert "notes" not in record(replace(picture, notes=()))


def test_a_near_start_is_kept_in_the_file_and_is_no_part_of_the_wish(recipe):
    near = NearStart(picture="ab" * 16, share=2.5, steps_saved=8, generation=2)
    started = replace(recipe, init_image="cd" * 16, strength=0.7, seed=9)
    picture = Picture(recipe=started, created=1.0, seconds=2.0, near=near)
    assert read_png(write_png(Image.new("RGB", (8, 8)), picture)) == picture
    assert picture.wish == recipe and replace(picture, near=None).wish == started.wish
    assert "near" not in record(replace(picture, near=None))
    newer = record(picture) | {"near": {"unknown": 1, **asdict(near)}}
    assert from_record(started, newer) == picture
    older = {name: value for name, value in asdict(near).items() if name != "generation"}
    assert from_record(started, record(picture) | {"near": older}).near == replace(near, generation=1)
