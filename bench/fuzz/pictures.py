"""Damaged pictures for everything that reads picture files."""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

from memo import BadKey, BadRecipe, Picture, Recipe, write_png
from memo.errors import BadPicture
from memo.image_files.containers import CHUNK_ENDS, PNG_SIGNATURE, split_png
from memo.init_image import read_init_image
from memo.picture import scope_of, without_scope
from memo.webp import read_picture, write_webp
from memoaized.recipe_lookup import describe_recipe
from training.captioned_pictures import read_square
from web.a1111.infotext import read_settings, read_texts

from .loop import Part, Reader

SIDE = 48  # px, of most samples
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tRNS", b"PLTE", b"gAMA", b"pHYs", b"acTL", b"fcTL", b"IDAT")
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BOMB = zlib.compress(b"a" * 2**21)
COMMENT = b"UNICODE\0" + "a red fox\nSteps: 4, Sampler: Euler a, Seed: 1".encode("utf-16-be")


def open_part() -> Part:
    """All readers of picture files, and damaged copies of good ones."""
    samples = make_samples()
    return Part(lambda random: damage(random, samples), list_readers(Path(tempfile.mkdtemp())))


def list_readers(folder: Path) -> list[Reader]:
    """The readers, by what a user calls them; some read files, which are written to a folder."""
    file = folder / "picture"

    def on_disk(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        return lambda data: read(file) if file.write_bytes(data) else None

    return [
        Reader("initial picture", read_init_image, (BadRecipe,)),
        Reader("training picture", on_disk(lambda path: read_square(path, 16)), (BadPicture,)),
        Reader("png-info", lambda data: read_settings(read_texts(data).get("parameters", "")), (BadRecipe,)),
        Reader("key show", on_disk(lambda path: describe_recipe(str(path), folder)), (BadKey,)),
        Reader("own picture", read_picture, (BadKey,)),
        Reader("scope", lambda data: (scope_of(data), without_scope(data)), (BadKey,)),
    ]


def make_samples() -> list[bytes]:
    """Good files of every format and kind of colour, with metadata."""
    noise = Image.effect_noise((SIDE, SIDE), 90)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8769)[0x9286] = COMMENT
    samples = [save(convert_noise(noise, mode), "PNG", exif=exif) for mode in MODES]
    samples += [save(noise.convert(mode), "JPEG", exif=exif, comment=b"a fox") for mode in ("L", "RGB", "CMYK")]
    samples.append(save(noise.convert("RGB"), "JPEG", exif=exif, progressive=True))
    frames = {"save_all": True, "append_images": [noise.convert("RGBA")]}
    for mode in ("RGB", "RGBA"):
        samples += [save(noise.convert(mode), "WEBP", exif=exif, lossless=lossless) for lossless in (True, False)]
        samples += [save(noise.convert(mode), kind, **frames) for kind in ("PNG", "WEBP", "GIF")]
    samples += [
        save(convert_noise(noise, mode), "TIFF", compression="tiff_lzw") for mode in ("1", "L", "RGB", "I;16")
    ]
    samples += [save(noise.convert("RGB"), kind) for kind in ("TIFF", "BMP", "AVIF")]
    return samples + make_own(noise.convert("RGB"))


def make_own(image: Image.Image) -> list[bytes]:
    """Pictures as the product writes them."""
    recipe = Recipe(prompt="a red fox", model="m", revision="r", width=64, height=64, seed=1)
    png = write_png(image, Picture(recipe=recipe, created=1.0, seconds=2.0, scope="mine"))
    return [png, write_webp(png), write_webp(png, 80)]


def convert_noise(noise: Image.Image, mode: str) -> Image.Image:
    """The noise in a mode; grey of 16 bits is built from its bytes."""
    return Image.frombytes(mode, noise.size, noise.tobytes() * 2) if mode == "I;16" else noise.convert(mode)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def damage(random: Random, samples: list[bytes]) -> bytes:
    """A sample with one to four damages; the checksums of most PNG chunks are made right again."""
    data = random.choice(samples)
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(DAMAGES)(random, data) or data
    return with_checksums(data) if random.random() < 0.8 else data


def flip_bytes(random: Random, data: bytes) -> bytes:
    """Change up to eight bytes, mostly near the start, where headers stand."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        reach = len(changed) if random.random() < 0.3 else min(len(changed), 400)
        changed[random.randrange(reach)] = random.randrange(256)
    return bytes(changed)


def set_number(random: Random, data: bytes) -> bytes:
    """Overwrite two or four bytes with a number at the edge of its range."""
    place, size = random.randrange(min(len(data), 600)), random.choice((2, 4))
    number = random.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return data[:place] + number.to_bytes(size, random.choice(("big", "little"))) + data[place + size :]


def cut(random: Random, data: bytes) -> bytes:
    """Keep the start."""
    return data[: random.randrange(len(data))]


def remove_part(random: Random, data: bytes) -> bytes:
    """Leave out up to sixty-four bytes."""
    place = random.randrange(len(data))
    return data[:place] + data[place + random.randint(1, 64) :]


def repeat_part(random: Random, data: bytes) -> bytes:
    """Repeat a part, up to a thousand times."""
    place, size = random.randrange(len(data)), random.randint(1, 64)
    part = data[place : place + size]
    return data[:place] + part * random.choice((2, 10, 1000)) + data[place:]


def insert_chunk(random: Random, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header; other files get it anywhere."""
    body = random.choice((random.randbytes(random.randint(0, 60)), make_text(random), b"", BOMB))
    kind = random.choice(CHUNKS)
    place = 33 if data.startswith(PNG_SIGNATURE) else random.randrange(len(data))
    return data[:place] + write_chunk(kind, body) + data[place:]


def make_text(random: Random) -> bytes:
    """The body of a text chunk that the product reads."""
    name = random.choice((b"parameters", b"memoaized-recipe", b"memoaized-record"))
    value = random.choice(
        (b"{}", b"[]", b"null", b'{"created": "x"}', b'{"scope": 1}', b"[" * 9999, random.randbytes(40))
    )
    return name + b"\0" + value


def insert_exif(random: Random, data: bytes) -> bytes:
    """A PNG with an EXIF block of random entries; a JPEG gets it as its first segment."""
    entries = b"".join(
        struct.pack("<HHII", random.choice((0x0112, 0x011A, 0x0100, 0x8769, 0x9286)), random.randrange(15), *numbers)
        for numbers in ((random.choice(EXTREMES), random.choice((8, 14, 26, *EXTREMES))) for _ in range(4))
    )
    block = b"II*\0\x08\0\0\0\x04\0" + entries + random.randbytes(30)
    if data.startswith(PNG_SIGNATURE):
        return data[:33] + write_chunk(b"eXIf", block) + data[33:]
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + data[2:]
    return data


def write_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with a right checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_checksums(data: bytes) -> bytes:
    """A PNG whose checksums are right, so that what is behind them is tried too; other files unchanged."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    changed = bytearray(data)
    for _, place in split_png(data):
        end = place.stop - 4
        changed[end : place.stop] = zlib.crc32(data[place.start + 4 : end]).to_bytes(4, "big")
        assert place.stop - place.start >= CHUNK_ENDS
    return bytes(changed)


DAMAGES = (flip_bytes, set_number, cut, remove_part, repeat_part, insert_chunk, insert_exif)
