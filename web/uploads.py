"""Initial images for image to image: uploads, and painted pictures that new ones start from."""

import base64
import binascii
import re
from dataclasses import replace

from memo import BadRecipe, Forgotten, Recipe

from .access import read_image
from .auth import current_user
from .extensions import job_store, memory

URL_SAFE = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5; Android writes it, and leaves out the padding
WHITE_SPACE = b" \t\r\n"
DATA_URL = re.compile(r"data:[\w/.+;=-]{0,200}?;base64,", re.I)


def keep_upload(data: bytes) -> str:
    """Keep a PNG, JPEG or WebP picture and return the value of `init_image` that names it; raises BadRecipe."""
    return touch(memory().keep_init_image(data, current_user().scope))


def decode_base64(field: str, text: object) -> bytes:
    """The bytes of a file in base64, with or without the start of a data URL; raises BadRecipe."""
    if not isinstance(text, str) or not text:
        raise BadRecipe(field, text, "send a picture in base64")
    start = DATA_URL.match(text)
    plain = text[start.end() :] if start else text
    try:
        letters = plain.encode("ascii").translate(URL_SAFE, WHITE_SPACE)
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecipe(field, text[:40], f"send a picture in base64, not its address: {error}") from error


def touch(init_image: str) -> str:
    """Restart the time for which an initial image is kept."""
    job_store().backlog.touch_init_image(init_image, current_user().scope)
    return init_image


def resolve_init_image(recipe: Recipe) -> Recipe:
    """The recipe with an initial image that is kept: a painted picture, named by its key, is copied first.

    Raises BadRecipe if there is no such image.
    """
    if not recipe.init_image:
        return recipe
    if memory().has_init_image(recipe.init_image, current_user().scope):
        return replace(recipe, init_image=touch(recipe.init_image))
    try:
        return replace(recipe, init_image=keep_upload(read_image(recipe.init_image)))
    except Forgotten as error:
        remedy = "upload the image first, or name a remembered picture by its key"
        raise BadRecipe("init_image", recipe.init_image, remedy) from error
