"""Converts a stored PNG into the format and size that a client asked for."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from memo import read_png
from memo.webp import exif, xmp

MIME_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
BEST_QUALITY = 100


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The file format, quality and size in which a picture is delivered."""

    format: str = "png"
    quality: int = BEST_QUALITY  # of JPEG and WebP, 0 to 100
    size: tuple[int, int] | None = None  # width and height in pixels; None for the painted size

    @property
    def mime_type(self) -> str:
        """Its media type."""
        return MIME_TYPES[self.format]


def convert(png: bytes, output: OutputFormat) -> bytes:
    """The file in another format; a PNG of unchanged size is returned byte for byte. Raises BadKey.

    Every format carries the PNG's metadata: in text chunks, or as Exif and XMP.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if output.format == "png" and output.size in (None, image.size):
            return png
        text = dict(image.text) if isinstance(image, PngImageFile) else {}
        metadata = {"pnginfo": text_chunks(text)} if output.format == "png" else recipe_metadata(png)
        return encode(image, output, metadata)


def convert_preview(preview: bytes, output: OutputFormat) -> bytes:
    """A small WebP preview, converted to the format and size of the finished picture."""
    with Image.open(io.BytesIO(preview), formats=["WEBP"]) as image:
        return encode(image, output, {})


def encode(image: Image.Image, output: OutputFormat, metadata: Mapping[str, Any]) -> bytes:
    """The image as a file with this metadata. A different size is resampled, which adds no detail."""
    pixels = image.convert("RGB")
    if output.size and output.size != image.size:
        pixels = pixels.resize(output.size, Image.Resampling.LANCZOS)
    quality = {} if output.format == "png" else {"quality": max(1, output.quality)}
    file = io.BytesIO()
    pixels.save(file, output.format.upper(), **quality, **metadata)
    return file.getvalue()


def text_chunks(text: Mapping[str, str]) -> PngInfo:
    """The texts as PNG chunks, by keyword."""
    info = PngInfo()
    for name, value in text.items():
        info.add_itxt(name, value)
    return info


def recipe_metadata(png: bytes) -> dict[str, bytes]:
    """The recipe in a PNG as Exif and XMP, for other formats."""
    picture = read_png(png)
    return {"exif": exif(picture), "xmp": xmp(picture)}
