"""A kept PNG as somebody wants to have it: as another kind of file, in another size. Knows nothing of the store."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from memo import read_png
from memo.webp import exif, xmp

MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
BEST = 100


@dataclass(frozen=True, slots=True)
class Form:
    """How a picture is handed out."""

    format: str = "png"
    quality: int = BEST  # of JPEG and WebP, 0 to 100
    size: tuple[int, int] | None = None  # width and height in pixels; None = as it was painted

    @property
    def mime(self) -> str:
        """Its media type."""
        return MIME[self.format]


def converted(png: bytes, form: Form) -> bytes:
    """The file; a PNG in the size that it was painted in stays as it is, to the byte. Raises BadKey.

    All carry what the PNG says of its making, in text chunks or as Exif and XMP.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if form.format == "png" and form.size in (None, image.size):
            return png
        text = dict(image.text) if isinstance(image, PngImageFile) else {}
        return encoded(image, form, {"pnginfo": chunks(text)} if form.format == "png" else tags(png))


def rough(preview: bytes, form: Form) -> bytes:
    """A small WebP preview in the form of the picture that it will be."""
    with Image.open(io.BytesIO(preview), formats=["WEBP"]) as image:
        return encoded(image, form, {})


def encoded(image: Image.Image, form: Form, said: Mapping[str, Any]) -> bytes:
    """The bytes of a file that says this besides; where its size is another, a filter adds no detail."""
    pixels = image.convert("RGB")
    if form.size and form.size != image.size:
        pixels = pixels.resize(form.size, Image.Resampling.LANCZOS)
    quality = {} if form.format == "png" else {"quality": max(1, form.quality)}
    file = io.BytesIO()
    pixels.save(file, form.format.upper(), **quality, **said)
    return file.getvalue()


def chunks(text: Mapping[str, str]) -> PngInfo:
    """As text chunks."""
    info = PngInfo()
    for name, value in text.items():
        info.add_itxt(name, value)
    return info


def tags(png: bytes) -> dict[str, bytes]:
    """The recipe of a kept PNG as files of other formats carry it."""
    picture = read_png(png)
    return {"exif": exif(picture), "xmp": xmp(picture)}
