"""Small copies of pictures, for pages that show many of them. Knows images; no recipes."""

import io

from PIL import Image

THUMBNAILS = "thumbnails/"  # what their objects' names begin with
SIDE = 384  # px, of the longer one: tiles are half as wide, on screens of two dots a pixel
QUALITY = 88


def write_thumbnail(png: bytes) -> bytes:
    """WebP bytes of a PNG picture, the longer side at most SIDE, without its recipe."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        small = image.convert("RGB")
    small.info = {}
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def thumbnail_object(key: str) -> str:
    """The store's name for the thumbnail of a picture, whose key must be one."""
    return f"{THUMBNAILS}{key[:2]}/{key}.webp"
