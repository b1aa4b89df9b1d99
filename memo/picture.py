"""A painted picture, and its PNG file, which carries its own recipe."""

import binascii
import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import takewhile
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .errors import BadKey, BadPicture, shorten
from .image_files import read_texts
from .image_files.containers import split_png
from .image_files.kinds import describe_file, find_kind
from .recipe import Recipe, from_text, to_text

SHARED = "shared"  # the scope of pictures that belong to everybody
RECIPE_CHUNK = "memoaized-recipe"  # the reversible text form, with checksum
RECORD_CHUNK = "memoaized-record"  # JSON: when, how long, on what
RECORD_TYPES: dict[str, tuple[type, ...]] = {  # the types that each field of a record may have
    **dict.fromkeys(("created", "seconds", "joules"), (int, float)),
    **dict.fromkeys(("scope", "device"), (str,)),
    "metered": (bool,),
    "notes": (list, tuple),
    "near": (dict,),
}
NEAR_TYPES: dict[str, tuple[type, ...]] = {
    "picture": (str,),
    "share": (int, float),
    "steps_saved": (int,),
    "generation": (int,),  # missing in older files
}
PARAMETERS_CHUNK = "parameters"  # what AUTOMATIC1111's "PNG Info" reads
A1111_SAMPLERS = {"dpm++2m": "DPM++ 2M", "ddim": "DDIM", "euler": "Euler", "euler-a": "Euler a", "lcm": "LCM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NearStart:
    """Why a picture starts from another one although nobody asked for it: memory knew a similar prompt's picture."""

    picture: str  # the key of the picture that it starts from
    share: float  # how much of that picture the two prompts share, 0 to 3
    steps_saved: int
    generation: int = 1  # 2 if that picture has a near start, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A painted picture: its recipe, with seed, and the record of when, where and how it was painted."""

    recipe: Recipe
    created: float  # seconds since 1970
    seconds: float  # from the first step to the encoded file
    scope: str = SHARED  # whose memory holds it
    device: str = ""  # for example "cpu float32"
    joules: float = 0.0  # its share of the energy of its steps; 0 if unknown
    metered: bool = False  # whether the device measured the joules; otherwise they are estimated
    notes: tuple[str, ...] = ()  # what the picture leaves out of the prompt, in words
    near: NearStart | None = None  # if memory chose the initial picture

    @property
    def wish(self) -> Recipe:
        """The user's wish: the recipe without its seed, and without an initial picture that memory chose."""
        return as_requested(self.recipe, self.near).wish

    @property
    def key(self) -> str:
        """The key of the picture, its only name."""
        return key_in(self.scope, self.recipe)


def as_requested(recipe: Recipe, near: NearStart | None) -> Recipe:
    """The recipe without an initial picture that memory chose, and so with the default strength."""
    return replace(recipe, init_image="") if near else recipe


def key_in(scope: str, recipe: Recipe) -> str:
    """32 hex digits: the key of a recipe's picture in a scope.

    A shared picture has the recipe's own key. In any other scope the same recipe makes another picture, whose key
    reveals nothing to those who do not know the scope's name.
    """
    if scope == SHARED:
        return recipe.key
    return hashlib.blake2b(f"{scope}\0{recipe.key}".encode(errors="surrogatepass"), digest_size=16).hexdigest()


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
    """The picture that `write_png` wrote into a file; raises BadKey if the file carries no intact recipe.

    No pixels are decoded.
    """
    if find_kind(data) != "PNG":
        raise BadKey(f"this file is {describe_file(data)}; recipes are in PNG and WebP files painted here")
    try:
        texts = read_texts(data)
    except BadPicture as error:
        raise BadKey(f"not a readable PNG file: {error}") from error
    recipe = texts.get(RECIPE_CHUNK)
    if not recipe:
        raise BadKey("this PNG carries no recipe: it was not painted here, or its metadata was stripped")
    return from_record(from_text(recipe), read_record(texts.get(RECORD_CHUNK, "{}") or ""))


def scope_of(data: bytes) -> str:
    """The scope of a PNG that `write_png` wrote, read without decoding any pixels; raises BadKey."""
    _, values = find_record(data)
    return str(values.get("scope", SHARED))


def without_scope(data: bytes) -> bytes:
    """The same PNG without its scope, which a user must not see. Raises BadKey."""
    position, values = find_record(data)
    if values.get("scope", SHARED) == SHARED:
        return data
    public = json.dumps({name: value for name, value in values.items() if name != "scope"}, sort_keys=True)
    body = b"tEXt" + RECORD_CHUNK.encode() + b"\0" + public.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", binascii.crc32(body))
    return data[: position.start] + chunk + data[position.stop :]


def find_record(data: bytes) -> tuple[slice, dict[str, object]]:
    """The position and the values of a PNG's record, both empty without one; raises BadKey if it is damaged."""
    keyword = RECORD_CHUNK.encode() + b"\0"
    for kind, position in takewhile(lambda chunk: chunk[0] != b"IDAT", split_png(data)):
        body = data[position.start + 8 : position.stop - 4]
        if kind == b"tEXt" and body.startswith(keyword):
            return position, read_record(body.removeprefix(keyword))
    return slice(0), {}


def read_record(text: str | bytes) -> dict[str, object]:
    """The values of a record in JSON; raises BadKey if the JSON is not a record."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadKey(f"the record of this picture is damaged: {error}") from error
    if not isinstance(values, dict):
        raise BadKey("the record of this picture is damaged: it is not a JSON object")
    check_types(values, RECORD_TYPES)
    if "near" in values:
        check_types({**dict.fromkeys(NEAR_TYPES), "generation": 1, **values["near"]}, NEAR_TYPES)
    return values


def check_types(values: Mapping[str, object], types: Mapping[str, tuple[type, ...]]) -> None:
    """Raise BadKey for a value of another type than those of its name."""
    for name, kinds in types.items():
        if name in values and not isinstance(values[name], kinds):
            raise BadKey(f"the record of this picture is damaged: its {name} is {shorten(values[name])}")


def record(picture: Picture) -> dict[str, object]:
    """The record of a picture, JSON-able: all its fields except the recipe, and without those that are empty."""
    return {name: value for name, value in asdict(picture).items() if name != "recipe" and value not in ((), None)}


def from_record(recipe: Recipe, values: Mapping[str, object]) -> Picture:
    """The picture with a recipe and the values that `record` returned.

    Unknown fields are ignored, so that newer files stay readable.
    """
    known = {field.name for field in fields(Picture)} - {"recipe"}
    required = {"created": 0.0, "seconds": 0.0}
    recorded: dict[str, Any] = required | {name: value for name, value in values.items() if name in known}
    recorded["notes"] = tuple(map(str, recorded.get("notes", ())))  # a list in JSON
    recorded["near"] = read_near(recorded.get("near"))
    return Picture(recipe=recipe, **recorded)


def read_near(values: Mapping[str, Any] | None) -> NearStart | None:
    """The near start that a record describes, without values of newer versions; None if it describes none."""
    return NearStart(**{name: values[name] for name in NEAR_TYPES if name in values}) if values else None


def parameters(recipe: Recipe) -> str:
    """The recipe in AUTOMATIC1111's `parameters` text (modules/infotext_utils.py reads it)."""
    settings: dict[str, object] = {
        "Steps": recipe.steps,
        "Sampler": A1111_SAMPLERS[recipe.sampler],
        "Schedule type": "Karras" if recipe.schedule == "karras" else "Uniform",
        "CFG scale": f"{recipe.guidance_scale:.8g}",  # all digits that a recipe keeps
        "Seed": recipe.seed,
        "Size": f"{recipe.width}x{recipe.height}",
        "Model hash": recipe.revision[:10],
        "Model": quoted(recipe.model),
        **({"Denoising strength": f"{recipe.strength:g}"} if recipe.init_image else {}),
        "Version": "memoAIzed",
    }
    negative = f"\nNegative prompt: {recipe.negative_prompt}" if recipe.negative_prompt else ""
    last_line = ", ".join(f"{name}: {value}" for name, value in settings.items())
    return f"{prompt_with_adapter(recipe)}{negative}\n{last_line}"


def prompt_with_adapter(recipe: Recipe) -> str:
    """The prompt as AUTOMATIC1111 writes it, which names the LoRA file."""
    return f"{recipe.prompt} <lora:{recipe.adapter.partition('@')[0]}>" if recipe.adapter else recipe.prompt


def quoted(text: str) -> str:
    """The value, in quotation marks if a comma, colon or newline would cut it short; as AUTOMATIC1111 writes it."""
    return json.dumps(text, ensure_ascii=False) if any(character in text for character in ",:\n") else text
