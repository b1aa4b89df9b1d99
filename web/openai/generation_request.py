"""What a request of the OpenAI Images API asks for, in this server's own fields. Knows the dialect; paints nothing.

https://platform.openai.com/docs/api-reference/images has the fields; `negative_prompt`, `num_inference_steps`,
`guidance_scale`, `seed`, `strength` and `memo` are beyond it, as other servers of this API have them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.models import Catalogue, Model
from memo import BadRecipe
from memo.recipe import SIDE, check_choice, check_whole
from web.formats import BEST, MIME, Form
from web.picture_requests import LONGEST_USER

THEIR_MODELS = ("dall-e", "gpt-image", "chatgpt-image")  # how the names begin that stand for the default model
IN_BASE64 = ("gpt-image", "chatgpt-image")  # those of them that have always answered with bytes
OWN = {"num_inference_steps": "steps"}  # their fields that are called otherwise here
SAME = ("prompt", "negative_prompt", "guidance_scale", "seed", "strength")
CHOICES = {
    "background": ("auto", "opaque"),
    "quality": ("auto", "standard", "hd", "low", "medium", "high", "xhigh", "max"),
    "response_format": ("url", "b64_json"),
    "output_format": tuple(MIME),
    "moderation": ("auto", "low"),
    "style": ("vivid", "natural"),
    "input_fidelity": ("low", "high"),
}
WITHOUT_EFFECT = ("quality", "moderation", "style", "input_fidelity", "safety_identifier")
OF_EDITS = ("strength", "input_fidelity")
WHOLE = {"n": (1, 10), "output_compression": (0, BEST), "partial_images": (0, 3)}
KNOWN = (*SAME, *OWN, *CHOICES, *WHOLE, "model", "size", "stream", "user", "safety_identifier", "memo")


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """A checked request. `body` is for `asking.ask`, without the count."""

    body: dict[str, Any]
    model: str
    count: int = 1
    form: Form = field(default_factory=Form)
    as_url: bool = True
    stream: bool = False
    partial_images: int = 0
    user: str = ""  # of the program that asks
    notes: tuple[str, ...] = ()  # what of it is followed in another way than one may think, in words


def read_images_request(given: Mapping[str, object], catalogue: Catalogue, *, edit: bool = False) -> ImagesRequest:
    """Raises BadRecipe, naming the field as the request has it; what `ask` checks is left to it."""
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    check_known(values, edit)
    check_values(values)
    model, taken_as = model_of(values.get("model"), catalogue)
    body = {name: values[name] for name in SAME if name in values}
    body |= {own: values[theirs] for theirs, own in OWN.items() if theirs in values}
    body |= {"model": model.name, **policy_of(values.get("memo"))}
    width, height, size, scaled = size_of(values.get("size", "auto"), model, catalogue)
    body |= {"width": width, "height": height} if width else {}
    idle = [f"{name} has no effect here" for name in WITHOUT_EFFECT if values.get(name, "auto") != "auto"]
    return ImagesRequest(
        body=body,
        model=model.name,
        count=values.get("n", 1),
        form=form_of(values, size),
        as_url=values.get("response_format", usual_answer(values.get("model"))) == "url",
        stream=values.get("stream", False),
        user=values.get("user", ""),
        partial_images=values.get("partial_images", 0),
        notes=tuple(filter(None, (taken_as, scaled, *idle))),
    )


def check_known(values: Mapping[str, object], edit: bool) -> None:
    """Raise BadRecipe for a field that there is not."""
    known = [name for name in KNOWN if edit or name not in OF_EDITS]
    for name, value in values.items():
        if name not in known:
            raise BadRecipe(name, value, f"no such field; there are {', '.join(known)}")


def check_values(values: Mapping[str, Any]) -> None:
    """Raise BadRecipe for a value that one of these fields cannot have."""
    if values.get("background") == "transparent":
        raise BadRecipe("background", "transparent", "pictures here have no transparent parts; leave it out")
    for name, choices in CHOICES.items():
        if name in values:
            check_choice(name, values[name], choices)
    for name, (least, most) in WHOLE.items():
        check_whole(name, values.get(name, most), least, most)
    if not isinstance(values.get("stream", False), bool):
        raise BadRecipe("stream", values["stream"], "it must be true or false")
    for name in ("user", "safety_identifier"):
        if not isinstance(text := values.get(name, ""), str) or len(text) > LONGEST_USER:
            raise BadRecipe(name, text, f"it must be text of at most {LONGEST_USER} characters")


def form_of(values: Mapping[str, Any], size: tuple[int, int] | None) -> Form:
    """How the pictures are handed out; raises BadRecipe."""
    kind, quality = values.get("output_format", "png"), values.get("output_compression", BEST)
    if kind == "png" and quality != BEST:
        raise BadRecipe("output_compression", quality, "PNG files lose nothing: ask for webp or jpeg")
    return Form(kind, quality, size)


def model_of(name: object, catalogue: Catalogue) -> tuple[Model, str]:
    """The model of a name, the default one for OpenAI's names, and then a note. Raises BadRecipe."""
    models = catalogue.models()
    default = next(iter(models.values()))
    if name is None or name in models:
        return models.get(str(name), default), ""
    if isinstance(name, str) and name.startswith(THEIR_MODELS):
        return default, f"{name} is not here: {default.name} paints instead"
    check_choice("model", name, tuple(models))
    return default, ""


def usual_answer(model: object) -> str:
    """What clients of this model expect when they do not say it."""
    return "b64_json" if str(model).startswith(IN_BASE64) else "url"


def policy_of(memo: object) -> dict[str, object]:
    """The memory policy as this server's own field, from an object such as {"policy": "off"}; raises BadRecipe."""
    if memo is None:
        return {}
    if not isinstance(memo, dict) or set(memo) - {"policy"}:
        raise BadRecipe("memo", memo, 'it must be an object such as {"policy": "off"}')
    return {"memo": memo["policy"]} if memo.get("policy") is not None else {}


def size_of(size: object, model: Model, catalogue: Catalogue) -> tuple[int, int, tuple[int, int] | None, str]:
    """Width and height to paint in (0 = the model's own), the size to hand it out in (None = the same), and a note.

    A square that the model does not paint is painted in its nearest larger one, else in its largest, and scaled by a
    filter. Raises BadRecipe for other sizes that it does not paint.
    """
    if size == "auto":
        return 0, 0, None, ""
    width, height = read_size(size)
    try:
        catalogue.recipe({"prompt": "any", "model": model.name, "width": width, "height": height})
    except BadRecipe as error:
        if width != height:
            raise BadRecipe("size", size, f"{error.remedy}; squares of other sizes are scaled") from error
    else:
        return width, height, None, ""
    side = min((side for side in model.sizes if side >= width), default=max(model.sizes))
    return side, side, (width, height), f"painted in {side}x{side} and scaled to {width}x{height}"


def read_size(size: object) -> tuple[int, int]:
    """Width and height of a text such as 1024x1024; raises BadRecipe."""
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", size) if isinstance(size, str) else None
    if not found or not all(int(side) in SIDE for side in found.groups()):
        least, most = SIDE.start, SIDE.stop - 1
        raise BadRecipe("size", size, f"write WIDTHxHEIGHT, each from {least} to {most} pixels, or auto")
    return int(found[1]), int(found[2])
