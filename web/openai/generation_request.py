"""Translates a request of the OpenAI Images API into the fields of the native API.

https://platform.openai.com/docs/api-reference/images has the fields; `negative_prompt`, `num_inference_steps`,
`guidance_scale`, `seed`, `strength` and `memo` are extensions, named as in other servers of this API.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.models import Catalogue, Model
from memo import BadRecipe
from memo.recipe import SIDE, check_choice, read_whole
from web.formats import BEST_QUALITY, MIME_TYPES, OutputFormat
from web.json_body import LONGEST_SCALAR, parse_json, to_number, to_switch
from web.picture_requests import LONGEST_USER, fold_seed

OPENAI_MODELS = ("dall-e", "gpt-image", "chatgpt-image")  # prefixes of names that stand for the default model
BASE64_MODELS = ("gpt-image", "chatgpt-image")  # those that answer with base64 unless asked for a URL
RENAMED = {"num_inference_steps": "steps"}  # dialect: native
SAME_NAME = ("prompt", "negative_prompt", "guidance_scale", "seed", "strength")
CHOICES = {
    "background": ("auto", "opaque"),
    "quality": ("auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"),
    "response_format": ("url", "b64_json"),
    "output_format": tuple(MIME_TYPES),
    "moderation": ("auto", "low"),
    "style": ("vivid", "natural"),
    "input_fidelity": ("low", "high"),
}
IGNORED = ("quality", "moderation", "style", "input_fidelity", "safety_identifier")
ONLY_FOR_EDITS = ("strength", "input_fidelity")
NUMBERS = ("seed", "num_inference_steps", "guidance_scale", "strength", "n", "output_compression", "partial_images")
WHOLE_NUMBERS = {"n": (1, 10), "output_compression": (0, BEST_QUALITY), "partial_images": (0, 3)}
TEXTS = ("prompt", "negative_prompt", "model", "user", "safety_identifier")  # fields that are never converted
SIZE = re.compile(r"([1-9]\d{0,3})\s*(?:px)?\s*[x×*✕✖⨯хｘ]\s*([1-9]\d{0,3})\s*(?:px)?")  # х, Cyrillic
FIELDS = (
    *SAME_NAME,
    *RENAMED,
    *CHOICES,
    *WHOLE_NUMBERS,
    "model",
    "size",
    "stream",
    "user",
    "safety_identifier",
    "memo",
)


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """A checked request. `body` is the body of a native request, without the count."""

    body: dict[str, Any]
    model: str
    count: int = 1
    output: OutputFormat = field(default_factory=OutputFormat)
    as_url: bool = True
    stream: bool = False
    partial_images: int = 0
    user: str = ""  # the name that the client gives its own user
    notes: tuple[str, ...] = ()  # what is ignored, and how the pictures depart from the request, in words


def read_images_request(body: Mapping[str, object], catalogue: Catalogue, *, edit: bool = False) -> ImagesRequest:
    """The checked request; raises BadRecipe with the field's name in this dialect.

    Values that the native API checks are left to it.
    """
    values = {name: tidy_value(name, value) for name, value in body.items() if not is_empty(name, value)}
    check_fields(values, edit)
    check_values(values)
    values["seed"], seed_note = fold_seed(values.get("seed"))
    model, model_note = find_model(values.get("model"), catalogue)
    native = {name: values[name] for name in SAME_NAME if name in values}
    native |= {native_name: values[name] for name, native_name in RENAMED.items() if name in values}
    native |= {"model": model.name, **read_policy(values.get("memo"))}
    width, height, size, size_note = choose_size(values.get("size", "auto"), model, catalogue)
    native |= {"width": width, "height": height} if width else {}
    ignored = [f"{name} has no effect here" for name in IGNORED if values.get(name, "auto") != "auto"]
    return ImagesRequest(
        body=native,
        model=model.name,
        count=values.get("n", 1),
        output=read_output_format(values, size),
        as_url=values.get("response_format", default_response_format(values.get("model"))) == "url",
        stream=values.get("stream", False),
        user=values.get("user", ""),
        partial_images=values.get("partial_images", 0),
        notes=tuple(filter(None, (model_note, size_note, seed_note, *ignored))),
    )


def is_empty(name: str, value: object) -> bool:
    """Whether a field counts as left out: many clients send every field of their form."""
    if name in TEXTS:
        return value is None or (value == "" and name != "prompt")
    return value is None or value in ("", [], {})


def tidy_value(name: str, value: Any) -> Any:
    """The value as its field has it in JSON: forms, and some clients, send numbers and objects as text.

    Anything else is returned unchanged.
    """
    if name in NUMBERS:
        return to_number(value)
    if name == "stream":
        return to_switch(value)
    if name == "model" and isinstance(value, str):
        return value.strip()
    if not isinstance(value, str) or name in TEXTS:
        return value
    text = value.strip().casefold()
    if name == "memo":
        return parse_memo(value)
    return "jpeg" if (name, text) == ("output_format", "jpg") else text


def parse_memo(text: str) -> object:
    """The object in a text; the text itself if there is none."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def check_fields(values: Mapping[str, object], edit: bool) -> None:
    """Raise BadRecipe for an unknown field."""
    known = [name for name in FIELDS if edit or name not in ONLY_FOR_EDITS]
    for name, value in values.items():
        if name in ONLY_FOR_EDITS and not edit:
            raise BadRecipe(name, value, "only edits have this field: leave it out, or use /v1/images/edits")
        if name not in known:
            raise BadRecipe(name, value, f"there is no such field; the fields are {', '.join(known)}")


def check_values(values: Mapping[str, Any]) -> None:
    """Raise BadRecipe for an invalid value."""
    if values.get("background") == "transparent":
        raise BadRecipe("background", "transparent", "pictures here are always opaque: leave it out")
    for name, choices in CHOICES.items():
        if name in values:
            check_choice(name, values[name], choices)
    for name, (least, most) in WHOLE_NUMBERS.items():
        read_whole(name, values.get(name, most), least, most)
    if not isinstance(values.get("stream", False), bool):
        raise BadRecipe("stream", values["stream"], "it must be true or false")
    for name in ("user", "safety_identifier"):
        if not isinstance(text := values.get(name, ""), str) or len(text) > LONGEST_USER:
            raise BadRecipe(name, text, f"it must be text of at most {LONGEST_USER} characters")


def read_output_format(values: Mapping[str, Any], size: tuple[int, int] | None) -> OutputFormat:
    """The file format of the pictures; raises BadRecipe."""
    kind, quality = values.get("output_format", "png"), values.get("output_compression", BEST_QUALITY)
    if kind == "png" and quality != BEST_QUALITY:
        raise BadRecipe("output_compression", quality, "PNG is lossless: leave it out, or choose webp or jpeg")
    return OutputFormat(kind, quality, size)


def find_model(name: object, catalogue: Catalogue) -> tuple[Model, str]:
    """The model of this name. OpenAI's names stand for the default model; a note says so. Raises BadRecipe."""
    models = catalogue.models()
    default = next(iter(models.values()))
    if name is None or (isinstance(name, str) and name in models):
        return models.get(str(name), default), ""
    if isinstance(name, str) and name.casefold().startswith(OPENAI_MODELS):
        return default, f"{name} is not available: {default.name} paints instead"
    check_choice("model", name, tuple(models))
    return default, ""


def default_response_format(model: object) -> str:
    """The response format that clients of this model expect by default."""
    return "b64_json" if str(model).casefold().startswith(BASE64_MODELS) else "url"


def read_policy(memo: object) -> dict[str, object]:
    """The memory policy as a native field, from an object such as {"policy": "off"}; raises BadRecipe."""
    if memo is None:
        return {}
    if not isinstance(memo, dict) or set(memo) - {"policy"}:
        raise BadRecipe("memo", memo, 'it must be an object such as {"policy": "off"}')
    return {"memo": memo["policy"]} if memo.get("policy") not in (None, "") else {}


def choose_size(size: object, model: Model, catalogue: Catalogue) -> tuple[int, int, tuple[int, int] | None, str]:
    """Width and height to paint (0 for the model's own), the size to deliver (None for the same), and a note.

    A square that the model does not paint is painted as the next larger one that it does, or else as its largest one,
    and resampled. Raises BadRecipe for other sizes that it does not paint.
    """
    if size == "auto":
        return 0, 0, None, ""
    width, height = read_size(size)
    try:
        catalogue.recipe({"prompt": "any", "model": model.name, "width": width, "height": height})
    except BadRecipe as error:
        if width != height:
            raise BadRecipe(
                "size", size, f"{error.remedy}; or choose a square of any size, which is scaled"
            ) from error
    else:
        return width, height, None, ""
    side = min((side for side in model.sizes if side >= width), default=max(model.sizes))
    return side, side, (width, height), f"painted at {side}x{side} and scaled to {width}x{height}"


def read_size(size: object) -> tuple[int, int]:
    """Width and height in text such as 1024x1024 or 1024 × 1024; raises BadRecipe."""
    match = SIZE.fullmatch(size) if isinstance(size, str) and len(size) <= LONGEST_SCALAR else None
    if not match or not all(int(side) in SIDE for side in match.groups()):
        least, most = SIDE.start, SIDE.stop - 1
        raise BadRecipe("size", size, f"write WIDTHxHEIGHT, each from {least} to {most} pixels, or auto")
    return int(match[1]), int(match[2])
