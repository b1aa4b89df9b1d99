"""Reads the text in which AUTOMATIC1111 stores a picture's settings in its file.

`memo.picture` writes such text. Its format is that of modules/infotext_utils.py in
https://github.com/AUTOMATIC1111/stable-diffusion-webui.
"""

import json
import re
from collections.abc import Mapping, Sequence

from memo import BadKey, BadRecipe, from_text
from memo.errors import BadPicture
from memo.image_files import file_texts
from memo.image_files.file_texts import LARGEST_TEXT, USER_COMMENT
from memo.picture import PARAMETERS_CHUNK, RECIPE_CHUNK, prompt_with_adapter

PAIR = re.compile(  # tried once for each run of letters and blanks, so that reading takes linear time
    r'(?<![\w\s/-])[\s/-]*+(\w[\w \-/]++):\s*+("(?:\\.|[^\\"])++"(?=,|$)|[^,]*+)(?:,|$)'
)
FEWEST_PAIRS = 3  # that make the last line a line of settings
NEGATIVE = "Negative prompt:"


def read_texts(data: bytes) -> dict[str, str]:
    """The texts in an image file, by name; raises BadRecipe if it is not a picture, or its parameters are too long.

    If there is no text named `parameters`, the EXIF comment takes its place.
    """
    try:
        texts = file_texts.read_texts(data)
    except BadPicture as error:
        raise BadRecipe("image", f"{len(data)} bytes", str(error)) from error
    if comment := texts.pop(USER_COMMENT, ""):
        texts.setdefault(PARAMETERS_CHUNK, comment)
    if texts.get(PARAMETERS_CHUNK, "") is None:
        raise BadRecipe("image", f"{len(data)} bytes", f"its parameters are longer than {LARGEST_TEXT} bytes")
    return {name: text for name, text in texts.items() if text is not None}


def read_settings(text: str) -> dict[str, str]:
    """The prompt, the negative prompt and all settings, by their names in the text.

    A size such as `Size: 512x768` is also returned as its sides, `Size-1` and `Size-2`.
    """
    lines = text.strip().split("\n")
    pairs = PAIR.findall(lines[-1])
    settings = read_prompts(lines[:-1] if len(pairs) >= FEWEST_PAIRS else lines)
    for name, value in pairs if len(pairs) >= FEWEST_PAIRS else []:
        value = unquote(value)
        settings[name] = value
        if sides := re.fullmatch(r"(\d+)x(\d+)", value):
            settings |= {f"{name}-1": sides[1], f"{name}-2": sides[2]}
    return settings


def read_prompts(lines: Sequence[str]) -> dict[str, str]:
    """The prompt, and the negative prompt, which begins with a line that starts with NEGATIVE."""
    start = next((row for row, line in enumerate(lines) if line.lstrip().startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).strip().removeprefix(NEGATIVE)
    return {"Prompt": "\n".join(lines[:start]).strip(), "Negative prompt": negative.strip()}


def read_painted_prompts(texts: Mapping[str, str]) -> dict[str, str]:
    """The exact prompts from the recipe in a picture that this server painted; {} for other pictures."""
    try:
        recipe = from_text(texts.get(RECIPE_CHUNK, ""))
    except BadKey:
        return {}
    return {"Prompt": prompt_with_adapter(recipe), "Negative prompt": recipe.negative_prompt}


def unquote(value: str) -> str:
    """The value without the quotation marks that protect its commas."""
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
