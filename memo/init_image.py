"""A picture that somebody wants to start from: read from what they sent, and named.

Knows images; no recipes.
"""

import hashlib
import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import BadRecipe

FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST = 4096  # px, of a side
INIT_IMAGES = "starts/"  # what their objects' names begin with
KEPT = 1024  # px: a larger one is scaled down, since nothing is painted larger


def read_init_image(data: bytes) -> bytes:
    """PNG bytes of an upload, upright, RGB, the longer side at most KEPT; raises BadRecipe for what is no picture."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if max(image.size) > LARGEST:  # told by the header, before any pixel is unpacked
                raise BadRecipe("image", f"{image.width}x{image.height}", f"scale it to at most {LARGEST} px a side")
            upright = flat(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRecipe("image", f"{len(data)} bytes", f"send a PNG, JPEG or WebP picture: {error}") from error
    upright.thumbnail((KEPT, KEPT), Image.Resampling.LANCZOS)
    upright.info = {}  # nothing of whoever took it
    file = io.BytesIO()
    upright.save(file, "PNG")
    return file.getvalue()


def flat(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def init_image_name(data: bytes, scope: str) -> str:
    """32 hex digits of a picture in a scope: the value of a recipe's `start`."""
    return hashlib.blake2b(
        data, digest_size=16, key=hashlib.blake2b(scope.encode(), digest_size=32).digest()
    ).hexdigest()


def init_image_object(name: str, scope: str) -> str:
    """The store's name for it; nobody of another scope finds it."""
    return f"{INIT_IMAGES}{hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()}/{name}.png"
