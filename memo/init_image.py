"""Initial pictures for image-to-image: reads uploads and names them in the store."""

import hashlib
import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import BadRecipe

FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_UPLOAD = 4096  # px, the longer side
LARGEST_KEPT = 1024  # px, to which the longer side of an upload is scaled down
INIT_IMAGES = "starts/"  # prefix of the names of initial pictures in the store


def read_init_image(data: bytes) -> bytes:
    """An upload as PNG bytes: upright, RGB, without metadata, at most LARGEST_KEPT px a side. Raises BadRecipe."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if max(image.size) > LARGEST_UPLOAD:  # known from the header, before any pixel is decoded
                remedy = f"scale it to at most {LARGEST_UPLOAD} px a side"
                raise BadRecipe("image", f"{image.width}x{image.height}", remedy)
            upright = flatten(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRecipe("image", f"{len(data)} bytes", f"send a PNG, JPEG or WebP picture: {error}") from error
    upright.thumbnail((LARGEST_KEPT, LARGEST_KEPT), Image.Resampling.LANCZOS)
    upright.info = {}  # it may hold private metadata
    file = io.BytesIO()
    upright.save(file, "PNG")
    return file.getvalue()


def flatten(image: Image.Image) -> Image.Image:
    """The image in RGB; transparent parts become white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def init_image_name(data: bytes, scope: str) -> str:
    """32 hex digits that name a picture in a scope: the value of a recipe's `init_image`."""
    return hashlib.blake2b(
        data, digest_size=16, key=hashlib.blake2b(scope.encode(), digest_size=32).digest()
    ).hexdigest()


def init_image_object(name: str, scope: str) -> str:
    """The name of an initial picture in the store; other scopes cannot derive it."""
    return f"{INIT_IMAGES}{hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()}/{name}.png"
