"""Picture files from outside: which are accepted, how they are decoded, and what a refusal says."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from memo.errors import BadPicture
from memo.image_files import TRAINING, read_pixels, read_texts
from memo.image_files.containers import PNG_SIGNATURE
from memo.image_files.exif_tags import ExifTags

LEFT_RED = np.zeros((6, 10, 3), np.uint8)
LEFT_RED[:, :5, 0] = 255
UPRIGHT, ORIENTATION, X_RESOLUTION, IMAGE_WIDTH = 1, 0x0112, 0x011A, 0x0100


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows, *, depth, colour, width, more=b""):
    """A PNG of raw rows, with chunks `more` before its pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def with_chunk(data, kind, body):
    """The PNG with a chunk after its header."""
    return data[:33] + chunk(kind, body) + data[33:]


def exif(*entries, order="<", more=b""):
    """An EXIF block of (tag, type, count, four bytes)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    table = b"".join(struct.pack(f"{order}HHI4s", *entry) for entry in entries)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", len(entries)) + table + b"\0" * 4 + more


def comment_block(comment, order=">"):
    """An EXIF block with a comment in a directory of its own."""
    number = struct.Struct(f"{order}I")
    comment_entry = struct.pack(f"{order}HHI4s", 0x9286, 7, len(comment), number.pack(44))
    directory = struct.pack(f"{order}H", 1) + comment_entry + b"\0" * 4 + comment
    return exif((0x8769, 4, 1, number.pack(26)), order=order, more=directory)


TURNED = (ORIENTATION, 3, 1, struct.pack("<HH", 6, 0))
MALFORMED = {
    "no resolution": (X_RESOLUTION, 5, 1, struct.pack("<I", 4000)),
    "resolution 0": (X_RESOLUTION, 5, 1, struct.pack("<I", 8)),
    "resolution as text": (X_RESOLUTION, 2, 4, b"abc\0"),
    "width as text": (IMAGE_WIDTH, 2, 4, b"abc\0"),
    "value of 4 GB": (0x010F, 2, 2**32 - 1, struct.pack("<I", 8)),
    "unknown type": (0x010F, 99, 1, b"\0\0\0\0"),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("fault", MALFORMED)
def test_a_picture_is_turned_by_its_orientation_whatever_its_other_tags_hold(kind, fault):
    data = encoded(Image.new("RGB", (10, 6)), kind, exif=exif(MALFORMED[fault], TURNED))
    assert read_pixels(data).size == (6, 10)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_made_upright_as_pillow_does(orientation):
    from PIL import ImageOps

    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    data = encoded(Image.fromarray(LEFT_RED), exif=tags)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(read_pixels(data), expected)


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"no tags at all" * 9],
    ids=["empty", "prefix", "head", "far away", "many entries", "text"],
)
def test_a_damaged_exif_block_means_upright_and_no_comment(block):
    assert ExifTags(block).orientation == UPRIGHT and ExifTags(block).comment == ""


def test_entries_that_share_one_long_value_do_not_fill_the_memory():
    entries = [(0x010F, 2, 2**24, struct.pack("<I", 8))] * 60000
    data = with_chunk(encoded(Image.new("RGB", (10, 6))), b"eXIf", exif(*entries, TURNED, more=b"a" * 2**24))
    tracemalloc.start()
    assert read_pixels(data).size == (6, 10)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_parts_that_the_pixels_do_not_need_are_not_read():
    data = encoded(Image.fromarray(LEFT_RED))
    noise = np.random.default_rng(0).bytes(3 * 2**20)
    extras = {
        "profile of 3 MB": (b"iCCP", b"icc\0\0" + zlib.compress(noise)),
        "empty profile": (b"iCCP", b""),
        "text of 2 MB": (b"zTXt", b"notes\0\0" + zlib.compress(b"a" * 2 * 2**20)),
        "no text": (b"iTXt", b""),
        "animation": (b"acTL", b"\0\0"),
        "no resolution": (b"pHYs", b"\0"),
    }
    for name, (kind, body) in extras.items():
        assert np.array_equal(read_pixels(with_chunk(data, kind, body)), LEFT_RED), name


def test_a_wrong_checksum_of_a_comment_does_not_lose_the_picture():
    data = with_chunk(encoded(Image.fromarray(LEFT_RED)), b"tEXt", b"Comment\0hello")
    broken = data.replace(b"hello", b"hallo")
    assert np.array_equal(read_pixels(broken), LEFT_RED) and read_texts(broken) == {}


SHADES = np.linspace(0, 65535, 60).astype(np.uint16).reshape(6, 10)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_shades(kind):
    pixels = np.asarray(read_pixels(encoded(Image.fromarray(SHADES), kind), kinds=TRAINING))
    assert np.array_equal(pixels[:, :, 0], SHADES >> 8)


def test_a_tiff_of_12_bits_or_with_white_as_zero_keeps_its_shades():
    ramp = np.arange(0, 4096, 256, dtype=np.uint16).reshape(1, 16)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in ramp.reshape(-1, 2).tolist())
    assert np.asarray(read_pixels(tiff(packed, 16, 12, 1), kinds=TRAINING))[0, :, 0].tolist() == list(
        range(0, 256, 16)
    )
    white_is_zero = tiff(np.array([0, 65535], "<u2").tobytes(), 2, 16, 0)
    assert np.asarray(read_pixels(white_is_zero, kinds=TRAINING))[0, :, 0].tolist() == [255, 0]


def tiff(strip, width, bits, photometric):
    """A grey TIFF of one row."""
    values = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(strip)}
    table = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in values.items()
    )
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(values)) + table + b"\0" * 4


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_pixels_of_32_bits_are_refused_by_name(dtype):
    data = encoded(Image.fromarray(SHADES.astype(dtype)), "TIFF")
    with pytest.raises(BadPicture, match="it has 32-bit .* as pixels, not shades: save it with 8 or 16 bits"):
        read_pixels(data, kinds=TRAINING)


TRANSPARENT = {  # PNG by depth and colour type: a transparent and an opaque pixel, and the colour in tRNS
    "grey 1": (1, 0, b"\x80", b"\0\x01", (0, 0, 0)),
    "grey 2": (2, 0, b"\xc0", b"\0\x03", (0, 0, 0)),
    "grey 4": (4, 0, b"\xf0", b"\0\x0f", (0, 0, 0)),
    "grey 8": (8, 0, b"\xfe\0", b"\0\xfe", (0, 0, 0)),
    "grey 16": (16, 0, b"\x12\x34\0\0", b"\x12\x34", (0, 0, 0)),
    "rgb 8": (8, 2, b"\x01\x02\x03\x04\x05\x06", b"\0\x01\0\x02\0\x03", (4, 5, 6)),
    "rgb 16": (16, 2, bytes(range(1, 13)), b"\x01\x02\x03\x04\x05\x06", (7, 9, 11)),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_the_transparent_colour_of_a_png_becomes_white_at_every_depth(name):
    depth, colour, row, transparent, opaque = TRANSPARENT[name]
    data = png([row], depth=depth, colour=colour, width=2, more=chunk(b"tRNS", transparent))
    assert np.asarray(read_pixels(data))[0].tolist() == [[255, 255, 255], list(opaque)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_kind_of_colour_becomes_rgb(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    image = read_pixels(encoded(Image.new("RGB", (10, 6), "white").convert(mode), kind), kinds=TRAINING)
    assert image.mode == "RGB" and image.size == (10, 6) and np.asarray(image).min() >= 254 and image.info == {}


def test_an_animation_gives_its_first_picture():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("PNG", "WEBP", "GIF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert read_pixels(data, kinds=TRAINING).getpixel((4, 4))[0] > 200, kind


REFUSED = {
    "a HEIC picture: save it as PNG, JPEG or WebP": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "an AVIF picture: save it": b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif",
    "a GIF picture": b"GIF89a\x01\0\x01\0",
    "a TIFF picture": b"MM\0*\0\0\0\x08",
    "a BMP picture": b"BM\x9a\0\0\0\0\0\0\0",
    "a JPEG XL picture": b"\xff\x0a\xfa",
    "a JPEG 2000 picture": b"\0\0\0\x0cjP  \r\n\x87\n",
    "a Photoshop picture": b"8BPS\0\x01",
    "an SVG picture": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a web page": b"\n<!DOCTYPE html><html>",
    "a PDF document": b"%PDF-1.7",
    "a video": b"\0\0\0\x18ftypisom\0\0\0\0",
    "an archive": b"PK\x03\x04",
    "the companion file that macOS writes": b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
    "a Windows thumbnail cache": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a",
    "empty: send a PNG, JPEG or WebP picture": b"",
    "not a picture in a known format": b"hello",
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_refusal_names_the_kind_of_file(message):
    for read in (read_pixels, read_texts):
        with pytest.raises(BadPicture, match=f"^it is {message}"):
            read(REFUSED[message])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused_as_damaged(kind, share):
    data = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), kind)
    with pytest.raises(BadPicture, match=r"it is a damaged, incomplete or unusual \w+ file"):
        read_pixels(data[: int(len(data) * share)])


def test_the_size_is_known_before_any_pixel_is_decoded():
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    data = PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(BadPicture, match="it has 2147483647×2147483647 px: scale it to at most 4096 px a side"):
        read_pixels(data, longest=4096)
    with pytest.raises(BadPicture, match="scale it to at most 65536 px a side"):
        read_pixels(data)


def test_a_large_photograph_is_decoded_at_a_smaller_scale():
    image = Image.new("RGB", (6000, 4000), "#c60")
    for kind in ("JPEG", "PNG"):
        small = read_pixels(encoded(image, kind), enough=128)
        assert 256 <= small.height < 1000 and abs(small.width - small.height * 1.5) < 1
        assert all(abs(a - b) < 4 for a, b in zip(small.getpixel((9, 9)), (0xCC, 0x66, 0), strict=True))


@pytest.mark.parametrize(
    "flood",
    [
        b"\xff\xfe\0\x02" * 2**20,
        b"\xff\xe1\0\x0aExif\0\0ab" * 2**20,
        b"\xff\0" * 2**20,
    ],
    ids=["comments", "exif", "junk"],
)
def test_a_flood_of_jpeg_segments_is_refused(flood):
    data = encoded(Image.new("RGB", (8, 8)), "JPEG")
    with pytest.raises(BadPicture, match="over 10,000 segments"):
        read_pixels(data[:2] + flood + data[2:])


def test_a_flood_of_png_chunks_or_jpeg_scans_is_refused():
    data = encoded(Image.new("RGB", (8, 8)))
    with pytest.raises(BadPicture, match="over 100,000 chunks"):
        read_pixels(data[:33] + chunk(b"IDAT", b"") * 200000 + data[33:])
    scans = encoded(Image.new("RGB", (8, 8)), "JPEG", progressive=True)
    last = scans.rindex(b"\xff\xda")
    with pytest.raises(BadPicture, match="over 40 scans"):
        read_pixels(scans[:-2] + scans[last:-2] * 200 + scans[-2:])


INFOTEXT = "a red fox, naïve 狐\nSteps: 4, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"
ASCII_TEXT = INFOTEXT.encode("ascii", "ignore").decode()
COMMENTS = {
    "UTF-16 big-endian": (b"UNICODE\0" + INFOTEXT.encode("utf-16-be"), INFOTEXT),
    "UTF-16 little-endian": (b"UNICODE\0" + INFOTEXT.encode("utf-16-le"), INFOTEXT),
    "UTF-16 with a byte order mark": (b"UNICODE\0" + INFOTEXT.encode("utf-16"), INFOTEXT),
    "UTF-8 named UNICODE": (b"UNICODE\0" + INFOTEXT.encode(), INFOTEXT),
    "UTF-8 with a byte order mark": (b"UNICODE\0" + INFOTEXT.encode("utf-8-sig"), INFOTEXT),
    "ASCII": (b"ASCII\0\0\0" + ASCII_TEXT.encode(), ASCII_TEXT),
    "UTF-8 named ASCII": (b"ASCII\0\0\0" + INFOTEXT.encode(), INFOTEXT),
    "UTF-16 named ASCII": (b"ASCII\0\0\0" + INFOTEXT.encode("utf-16-le"), INFOTEXT),
    "undefined": (b"\0" * 8 + INFOTEXT.encode(), INFOTEXT),
    "without a code": (INFOTEXT.encode(), INFOTEXT),
    "JIS": (b"JIS\0\0\0\0\0" + "赤い狐".encode("iso2022_jp"), "赤い狐"),
    "padded": (b"UNICODE\0" + ASCII_TEXT.encode("utf-16-le") + b"\0" * 9, ASCII_TEXT),
    "Latin-1": (b"ASCII\0\0\0" + "caf\xe9 cr\xe8me".encode("latin-1"), "café crème"),
    "Chinese": (b"UNICODE\0" + "一只红色的狐狸站在雪地里".encode("utf-16-le"), "一只红色的狐狸站在雪地里"),
    "Cyrillic": (b"UNICODE\0" + "рыжая лиса в снегу".encode("utf-16-le"), "рыжая лиса в снегу"),
    "empty": (b"UNICODE\0", ""),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", COMMENTS)
def test_an_exif_comment_is_read_in_every_encoding(name, order):
    comment, text = COMMENTS[name]
    assert ExifTags(comment_block(comment, order)).comment == text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_exif_comment_is_found_in_every_format(kind):
    data = encoded(Image.new("RGB", (8, 8)), kind, exif=comment_block(b"UNICODE\0" + INFOTEXT.encode("utf-16-be")))
    assert read_texts(data)["exif comment"] == INFOTEXT


def test_png_texts_are_read_as_utf_8_or_latin_1():
    data = encoded(Image.new("RGB", (8, 8)))
    texts = {
        "utf-8": (b"tEXt", b"utf-8\0" + "naïve 狐".encode(), "naïve 狐"),
        "latin-1": (b"tEXt", b"latin-1\0" + "naïve".encode("latin-1"), "naïve"),
        "zipped": (b"zTXt", b"zipped\0\0" + zlib.compress("狐".encode()), "狐"),
        "international": (b"iTXt", b"international\0\0\0zh\0\0" + "狐".encode(), "狐"),
        "zipped too": (b"iTXt", b"zipped too\0\x01\0zh\0\0" + zlib.compress("狐".encode()), "狐"),
    }
    for kind, body, _ in texts.values():
        data = with_chunk(data, kind, body)
    assert read_texts(data) == {name: text for name, (_, _, text) in texts.items()}


def test_a_text_that_unpacks_to_megabytes_is_not_unpacked():
    bomb = b"bomb\0\0" + zlib.compress(b"a" * 2**26)
    data = with_chunk(encoded(Image.new("RGB", (8, 8))), b"tEXt", b"short\0text")
    tracemalloc.start()
    assert read_texts(with_chunk(data, b"zTXt", bomb)) == {"short": "text", "bomb": None}
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_comment_segment_of_a_jpeg_is_read_as_a_text():
    data = encoded(Image.new("RGB", (8, 8)), "JPEG", comment="naïve 狐".encode())
    assert read_texts(data) == {"comment": "naïve 狐"}
