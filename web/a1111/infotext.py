"""Reads the text in which AUTOMATIC1111 stores a picture's settings in its file.

`memo.picture` writes such text. Its format is that of modules/infotext_utils.py in
https://github.com/AUTOMATIC1111/stable-diffusion-webui.
"""

import io
import json
import re
import warnings

from PIL import Image, UnidentifiedImageError

from memo import BadRecipe
from memo.picture import PARAMETERS_CHUNK

FORMATS = ("PNG", "JPEG", "WEBP")
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
FEWEST_PAIRS = 3  # that make the last line a line of settings
NEGATIVE = "Negative prompt:"
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286  # Exif 2.32, tables 4 and 9


def read_texts(data: bytes) -> dict[str, str]:
    """The texts in an image file, by name; raises BadRecipe if it is not a picture."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            texts = {str(name): value for name, value in image.info.items() if isinstance(value, str)}
            comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        raise BadRecipe("image", f"{len(data)} bytes", f"send a PNG, JPEG or WebP picture: {error}") from error
    if isinstance(comment, bytes) and comment.startswith(b"UNICODE\0"):
        texts.setdefault(PARAMETERS_CHUNK, comment[8:].decode("utf-16-be", errors="replace"))
    return texts


def read_settings(text: str) -> dict[str, str]:
    """The prompt, the negative prompt and all settings, by their names in the text.

    A size such as `Size: 512x768` is also returned as its sides, `Size-1` and `Size-2`.
    """
    lines = text.strip().split("\n")
    pairs = PAIR.findall(lines[-1])
    prompt_lines = lines[:-1] if len(pairs) >= FEWEST_PAIRS else lines
    prompt, _, negative = "\n".join(prompt_lines).partition(NEGATIVE)
    settings = {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    for name, value in pairs if len(pairs) >= FEWEST_PAIRS else []:
        value = unquote(value)
        settings[name] = value
        if sides := re.fullmatch(r"(\d+)x(\d+)", value):
            settings |= {f"{name}-1": sides[1], f"{name}-2": sides[2]}
    return settings


def unquote(value: str) -> str:
    """The value without the quotation marks that protect its commas."""
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
