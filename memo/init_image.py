"""Initial pictures for image-to-image: reads uploads and names them in the store."""

import hashlib
import io

from PIL import Image

from .errors import BadPicture, BadRecipe
from .image_files import read_pixels

LARGEST_UPLOAD = 4096  # px, the longer side
LARGEST_KEPT = 1024  # px, to which the longer side of an upload is scaled down
ENOUGH = 1280  # px: a larger upload may be scaled down to this, on its longer side, while it is being decoded
MAX_UPLOADED = 4096 * 3072  # pixels, as in a photograph of 12 megapixels: decoded, they take 50 MB
INIT_IMAGES = "starts/"  # prefix of the names of initial pictures in the store


def read_init_image(data: bytes) -> bytes:
    """An upload as PNG bytes: upright, RGB, without metadata, at most LARGEST_KEPT px a side. Raises BadRecipe."""
    try:
        upright = read_pixels(data, longest=LARGEST_UPLOAD, most=MAX_UPLOADED, fit=ENOUGH)
    except BadPicture as error:
        raise BadRecipe("image", f"{len(data)} bytes", str(error)) from error
    upright.thumbnail((LARGEST_KEPT, LARGEST_KEPT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    upright.save(file, "PNG")
    return file.getvalue()


def init_image_name(data: bytes, scope: str) -> str:
    """32 hex digits that name a picture in a scope: the value of a recipe's `init_image`."""
    return hashlib.blake2b(
        data, digest_size=16, key=hashlib.blake2b(scope.encode(), digest_size=32).digest()
    ).hexdigest()


def init_image_object_name(name: str, scope: str) -> str:
    """The name of an initial picture in the store; other scopes cannot derive it."""
    return f"{INIT_IMAGES}{hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()}/{name}.png"
