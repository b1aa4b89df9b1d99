"""Decodes a picture file into upright RGB pixels of 8 bits."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from memo.errors import BadPicture

from .containers import strip_jpeg, strip_png
from .exif_tags import ExifTags
from .file_texts import read_exif
from .kinds import UPLOADS, check_kind

READERS: dict[str, type[ImageFile]] = {  # used instead of Image.open, which applies size limits of its own
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "AVIF": AvifImageFile,
}
TURNS = {  # by EXIF orientation: what makes the picture upright (Exif 2.32, 4.6.4 A)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PIXELS = 2**27 + 2**26  # 200 megapixels: decoded, they take 0.8 GB
LONGEST_SIDE = 2**16  # px, as in JPEG; a TIFF file of 7 kB may claim 48 × 3,000,000
LARGE = 4096 * 4096  # pixels above which a picture is reduced before it is turned and flattened
STRIP = 2**17  # pixels that are flattened and reduced at once
COPIES = {"WebP": 2}  # how many times a decoder holds all pixels, if that is more than once
PNG_DEPTH = 24  # position of the byte of a PNG file that holds the number of bits per sample


def read_pixels(
    data: bytes,
    *,
    kinds: tuple[str, ...] = UPLOADS,
    longest: int = LONGEST_SIDE,
    shortest: int = 0,
    most: int = MAX_PIXELS,
    enough: int = 0,
    fit: int = 0,
) -> Image.Image:
    """Decode a file into an upright RGB image without metadata; transparent parts become white.

    Of several frames or pages, the first is read. No side may be longer than `longest` px or shorter than `shortest`,
    and no picture may be decoded to more than `most` pixels. If `enough` is given, a large picture is decoded at a
    smaller scale, whose sides keep at least twice `enough` px; if `fit` is given, at one whose longer side keeps at
    least `fit` px. Raises BadPicture; a wrong format or size is found before any pixel is decoded.
    """
    kind = check_kind(data, kinds)
    with translate_decoder_errors(kind), READERS[kind](io.BytesIO(strip_metadata(data, kind))) as image:
        check_size(image.size, longest, shortest)
        size, pixels = image.size, area(image)
        if (factor := reduction(image.size, enough, fit)) > 1:
            image.draft(None, (image.width // factor, image.height // factor))  # does nothing except for JPEG
        if "progressive" not in image.info:  # else the decoder holds all of them until the last scan
            pixels = area(image)
        check_area(size, pixels, most // COPIES.get(kind, 1))
        image.load()
        upright = flatten(image, data, kind, reduction(image.size, enough, fit))
        return turn(upright, find_orientation(image, data, kind))


@contextmanager
def translate_decoder_errors(kind: str) -> Iterator[None]:
    """Raise BadPicture for whatever a decoder raises."""
    try:
        yield
    except BadPicture:
        raise
    except MemoryError as error:
        raise BadPicture("it needs more memory than is free: scale it down") from error
    except Exception as error:  # a damaged file can lead a decoder anywhere
        raise BadPicture(
            f"it is a damaged, incomplete or unusual {kind} file: save it again as PNG or JPEG"
        ) from error


def strip_metadata(data: bytes, kind: str) -> bytes:
    """The file without the parts that pixels do not need."""
    if kind == "PNG":
        return strip_png(data)
    return strip_jpeg(data) if kind == "JPEG" else data


def check_size(size: tuple[int, int], longest: int, shortest: int) -> None:
    """Raise BadPicture if a side is too long or too short."""
    width, height = size
    if max(size) > longest:
        raise BadPicture(f"it has {width}×{height} px: scale it to at most {longest} px a side")
    if min(size) < shortest:
        raise BadPicture(f"it has {width}×{height} px; at least {shortest}×{shortest} are needed")


def check_area(size: tuple[int, int], pixels: int, most: int) -> None:
    """Raise BadPicture if too many pixels would be decoded."""
    if pixels > most:
        raise BadPicture(f"it has {size[0]}×{size[1]} px: scale it to at most {most:,} px in all")


def area(image: Image.Image) -> int:
    """Pixels of an image."""
    return image.width * image.height


def reduction(size: tuple[int, int], enough: int, fit: int) -> int:
    """The whole number by which the sides are divided while a picture is read; 1 to keep its size."""
    if fit:
        return max(1, max(size) // fit)
    return max(1, min(size) // (2 * enough)) if enough and size[0] * size[1] > LARGE else 1


def flatten(image: Image.Image, data: bytes, kind: str, factor: int) -> Image.Image:
    """The decoded image in RGB, its sides divided by a factor; transparent parts become white.

    It is converted in strips, so that the memory holds the decoded image and the result, and no further copies.
    """
    size = (-(-image.width // factor), -(-image.height // factor))
    result = Image.new("RGB", size)
    rows = max(1, STRIP // image.width // factor) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        flat = on_white(eight_bits(strip, image, data, kind))
        result.paste(flat.reduce(factor) if factor > 1 else flat, (0, top // factor))
    return result


def eight_bits(strip: Image.Image, image: Image.Image, data: bytes, kind: str) -> Image.Image:
    """A strip of an image in L, RGB, RGBA or another mode of 8 bits; transparent colours become an alpha channel."""
    if strip.mode.startswith("I;16"):
        return grey_levels(strip, image)
    if strip.mode in ("I", "F"):
        numbers = "integers" if strip.mode == "I" else "floats"
        raise BadPicture(f"it has 32-bit {numbers} as pixels, not shades: save it with 8 or 16 bits")
    if kind == "PNG" and "transparency" in strip.info and strip.mode != "P":
        strip.info["transparency"] = eight_bit_colour(image.info["transparency"], data[PNG_DEPTH])
    if "transparency" in strip.info or strip.mode == "PA":
        return strip.convert("RGBA")
    return strip.convert("L" if strip.mode == "1" else "RGB") if strip.mode in ("1", "P") else strip


def grey_levels(strip: Image.Image, image: Image.Image) -> Image.Image:
    """A strip of 16-bit grey as L, or as LA if one shade is transparent."""
    values = np.asarray(strip).astype(np.uint16)
    bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0] if isinstance(image, TiffImageFile) else 16
    levels = (values >> (bits - 8)).astype(np.uint8)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:  # 0 is white
        levels = 255 - levels
    shade = image.info.get("transparency")
    if shade is None:
        return Image.fromarray(levels)
    return Image.merge(
        "LA", [Image.fromarray(levels), Image.fromarray(np.where(values == shade, 0, 255).astype("u1"))]
    )


def eight_bit_colour(colour: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """The transparent colour of a PNG scaled to 8 bits, as Pillow scales the pixels but not this colour."""
    if isinstance(colour, tuple):
        return tuple(int(eight_bit_colour(shade, depth)) for shade in colour)  # type: ignore[arg-type]
    return colour >> 8 if depth == 16 else colour * 255 // (2**depth - 1)


def on_white(image: Image.Image) -> Image.Image:
    """The image in RGB; transparent parts become white."""
    if image.mode in ("RGBA", "LA"):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def find_orientation(image: Image.Image, data: bytes, kind: str) -> int:
    """The EXIF orientation; Pillow has turned TIFF files already."""
    block = read_exif(data, kind) if kind in UPLOADS else image.info.get("exif", b"")
    return 1 if kind == "TIFF" else ExifTags(block).orientation


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """The image upright, and without the metadata that Pillow keeps beside the pixels."""
    upright = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    upright.info = {}
    return upright
