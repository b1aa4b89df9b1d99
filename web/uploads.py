"""Initial images for image to image: uploads, and painted pictures that new ones start from."""

import binascii
import os
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from flask import request

from memo import BadRecipe, Forgotten, Recipe
from memo.init_image import read_init_image

from .access import read_image
from .auth import current_user
from .extensions import job_store, memory
from .json_body import LARGEST_BODY
from .limits.gates import PLACES, upload_turn
from .limits.rates import charge

URL_SAFE = bytes.maketrans(b"-_", b"+/")  # RFC 4648, section 5; Android writes it, and leaves out the padding
WHITE_SPACE = b" \t\r\n"
PART = 2**16  # base64 characters decoded per call, which takes about a quarter of a millisecond
DATA_URL = re.compile(r"data:[\w/.+;=-]{0,200}?;base64,", re.I)
COPY_SECONDS = 5.0  # how long a picture that was painted here may wait to be read
NICENESS = 10  # of the threads that read uploads; one takes up to a second


def lower_priority() -> None:
    """Make the scheduler prefer all other threads to this one. Only Linux has priorities of single threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


READERS = ThreadPoolExecutor(PLACES, "upload", lower_priority)


@contextmanager
def large_body(limit: int, *, kept: bool = True) -> Iterator[None]:
    """Allow a body of up to `limit` bytes. One with a picture is read when it is an upload's turn.

    `kept` says whether the picture will be kept. Raises TooManyRequests or Unavailable.
    """
    request.max_content_length = limit
    with upload_turn(kept=kept) if (request.content_length or 0) > LARGEST_BODY else nullcontext():
        yield


def read_upload(data: bytes, *, is_ours: bool = False) -> bytes:
    """A PNG, JPEG or WebP picture as an initial image, a small PNG; raises BadRecipe or TooManyRequests.

    A picture that is ours was painted here: it is no upload that counts, but is read only while the quota lasts.
    """
    if is_ours:
        charge(1, dry_run=True)
    with upload_turn(kept=not is_ours):
        return READERS.submit(read_init_image, data).result()


def keep_upload(data: bytes) -> str:
    """Keep a PNG, JPEG or WebP picture and return the value of `init_image` that names it; raises BadRecipe."""
    return keep_png(read_upload(data))


def keep_png(png: bytes) -> str:
    """Keep a picture that `read_upload` has read."""
    return touch(memory().keep_init_image(png, current_user().scope))


def keep_copy(png: bytes) -> str:
    """Keep a copy of a picture that was painted here, and return the value of `init_image` that names it.

    Raises BadRecipe, TooManyRequests or Unavailable.
    """
    with upload_turn(kept=False, seconds=COPY_SECONDS):
        read = READERS.submit(read_init_image, png).result()
    return keep_png(read)


def decode_base64(field: str, text: object) -> bytes:
    """The bytes of a file in base64, with or without the start of a data URL; raises BadRecipe."""
    if not isinstance(text, str) or not text:
        raise BadRecipe(field, text, "send a picture in base64")
    start = DATA_URL.match(text)
    try:
        letters = text.encode("ascii").translate(URL_SAFE, WHITE_SPACE)[start.end() if start else 0 :]
        return decode_letters(letters.rstrip(b"="))
    except ValueError as error:
        raise BadRecipe(field, text[:40], f"send a picture in base64, not its address: {error}") from error


def decode_letters(letters: bytes) -> bytes:
    """Decode base64 that has no padding; raises ValueError. It is decoded in parts so that other threads can run."""
    if b"=" in letters:
        raise ValueError("padding is only allowed at the end")
    letters += b"=" * (-len(letters) % 4)
    parts = (letters[start : start + PART] for start in range(0, len(letters), PART))
    return b"".join(binascii.a2b_base64(part, strict_mode=True) for part in parts)


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
        picture = read_image(recipe.init_image)
        return replace(recipe, init_image=keep_png(read_upload(picture, is_ours=True)))
    except Forgotten as error:
        remedy = "upload the image first, or name a remembered picture by its key"
        raise BadRecipe("init_image", recipe.init_image, remedy) from error
