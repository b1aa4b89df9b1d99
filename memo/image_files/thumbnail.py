"""Small copies of pictures for pages that show many of them."""

import io

from PIL import Image

THUMBNAILS = "thumbnails/"  # prefix of the names of thumbnails in the store
SIDE = 384  # px, the longer side: tiles on a page are half as wide, but screens may have two dots per CSS pixel
QUALITY = 88


def write_thumbnail(png: bytes) -> bytes:
    """The WebP bytes of a small copy of a PNG, at most SIDE px a side, without its recipe."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        small = image.convert("RGB")
    small.info = {}
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def thumbnail_object_name(key: str) -> str:
    """The name of a picture's thumbnail in the store; the key must be valid."""
    return f"{THUMBNAILS}{key[:2]}/{key}.webp"
