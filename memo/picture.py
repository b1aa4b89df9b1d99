"""A picture that was painted, and the PNG bytes that carry their own recipe.

Knows no store and no index: only what is written into the file and read back from it.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from .errors import BadKey
from .recipe import Recipe, from_text, to_text

RECIPE_CHUNK = "memoaized-recipe"  # the reversible text form, with checksum
RECORD_CHUNK = "memoaized-record"  # JSON: when, how long, on what
PARAMETERS_CHUNK = "parameters"  # what AUTOMATIC1111's "PNG Info" reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A painted picture: its recipe, with seed, and how it came about."""

    recipe: Recipe
    created: float  # seconds since 1970
    seconds: float  # from the first step to the encoded file
    scope: str = "shared"  # whose memory it belongs to
    device: str = ""  # what painted it, for example "cpu float32"
    joules: float = 0.0  # its share of what its steps took; 0 if nobody knows
    metered: bool = False  # joules measured by the device, else estimated

    @property
    def key(self) -> str:
        """The picture's only name."""
        return self.recipe.key


def write_png(image: Image.Image, picture: Picture) -> bytes:
    """PNG bytes of an RGB image with recipe, record and A1111 parameters in text chunks."""
    info = PngInfo()
    info.add_text(RECIPE_CHUNK, to_text(picture.recipe))
    info.add_text(RECORD_CHUNK, json.dumps(record(picture), sort_keys=True))
    info.add_itxt(PARAMETERS_CHUNK, parameters(picture.recipe))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def read_png(data: bytes) -> Picture:
    """The picture that `write_png` described; raises BadKey when the file carries no intact recipe."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            text = dict(image.text) if isinstance(image, PngImageFile) else {}
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise BadKey(f"not a readable PNG file: {error}") from error
    if RECIPE_CHUNK not in text:
        raise BadKey("this PNG carries no recipe: it was not painted here, or its metadata was stripped")
    return from_record(from_text(text[RECIPE_CHUNK]), json.loads(text.get(RECORD_CHUNK, "{}")))


def record(picture: Picture) -> dict[str, object]:
    """All of a picture but its recipe, JSON-able."""
    return {name: value for name, value in asdict(picture).items() if name != "recipe"}


def from_record(recipe: Recipe, values: Mapping[str, object]) -> Picture:
    """The opposite of `record`; unknown names are left out, so newer files stay readable."""
    known = {field.name for field in fields(Picture)} - {"recipe"}
    given = {"created": 0.0, "seconds": 0.0} | {name: value for name, value in values.items() if name in known}
    return Picture(recipe=recipe, **given)  # type: ignore[arg-type]  # written by `record`


def parameters(recipe: Recipe) -> str:
    """The recipe in AUTOMATIC1111's `parameters` text (modules/infotext_utils.py reads it)."""
    names = {"dpm++2m": "DPM++ 2M", "ddim": "DDIM", "euler": "Euler", "euler-a": "Euler a", "lcm": "LCM"}
    settings: dict[str, object] = {
        "Steps": recipe.steps,
        "Sampler": names[recipe.sampler],
        "Schedule type": "Karras" if recipe.schedule == "karras" else "Automatic",
        "CFG scale": f"{recipe.guidance_scale:g}",
        "Seed": recipe.seed,
        "Size": f"{recipe.width}x{recipe.height}",
        "Model hash": recipe.revision[:10],
        "Model": recipe.model,
        "Version": "memoAIzed",
    }
    negative = f"\nNegative prompt: {recipe.negative_prompt}" if recipe.negative_prompt else ""
    return f"{recipe.prompt}{negative}\n" + ", ".join(f"{name}: {value}" for name, value in settings.items())
