"""The start page: the form that requests pictures, above the newest pictures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge, TooManyRequests

from memo import BadKey, BadRecipe, Forgotten, Picture, Unavailable
from memo.recipe import STRENGTH
from web.access import find_picture
from web.api.init_images import LARGEST_UPLOAD
from web.auth import current_user
from web.extensions import catalogue, job_store, memory, web_config
from web.limits.gates import upload_turn
from web.picture_requests import request_pictures
from web.uploads import keep_upload

from .job_page import redirect_to_job
from .visitors import name_visitor

bp = Blueprint("create", __name__)
bp.after_request(name_visitor)

WHOLE_NUMBERS = ("width", "height", "steps", "seed", "count")
DECIMALS = ("guidance_scale", "strength")
TEXTS = ("prompt", "negative_prompt", "model", "adapter", "sampler", "schedule", "mode", "init_image", "memo")
FIELDS = (*TEXTS, *WHOLE_NUMBERS, *DECIMALS)
ASPECT_RATIOS = ((3, 2), (2, 3), (16, 9), (9, 16))  # offered besides squares if a model paints such sizes
TOO_LARGE = f"choose a picture of at most {LARGEST_UPLOAD // 2**20} MiB to start from"
NEWEST_SHOWN = 12  # pictures below the form


@bp.get("/")
def page() -> ResponseReturnValue:
    """The form, filled with defaults, the query string, or the recipe of a picture that it names."""
    return form_page(recipe_of_query() | request.args.to_dict())


@bp.post("/")
def submit() -> ResponseReturnValue:
    """Request the pictures; only browsers without JavaScript submit the form here."""
    form = request.form.to_dict()
    try:
        form |= uploaded_init_image()
        jobs = request_pictures(to_body(form))
    except BadRecipe as error:
        return form_page(form, fault=error), 422
    except Unavailable as error:
        return form_page(form, trouble=str(error)), 503
    except TooManyRequests as error:
        return form_page(form, trouble=error.description), 429, retry_header(error)
    if len(jobs) > 1:
        return redirect(url_for("job.several", id=[job.id for job in jobs]), 303)
    return redirect_to_job(jobs[0])


def retry_header(error: TooManyRequests) -> dict[str, str]:
    """The header that says when to try again."""
    return {name: value for name, value in error.get_headers() if name == "Retry-After"}


@bp.errorhandler(RequestEntityTooLarge)
def too_large(error: RequestEntityTooLarge) -> ResponseReturnValue:
    """The form again, but empty: a body that is too large is not read."""
    return form_page({}, trouble=f"this picture is too large: {TOO_LARGE}"), 413


def uploaded_init_image() -> dict[str, str]:
    """Store the picture uploaded with the form; returns it as the field `init_image`, or {} without a picture.

    Raises BadRecipe, TooManyRequests or Unavailable.
    """
    if not (file := request.files.get("image")):
        return {}
    with upload_turn():
        data = file.read()
        if len(data) > LARGEST_UPLOAD:
            raise BadRecipe("image", f"{len(data)} bytes", TOO_LARGE)
        return {"init_image": keep_upload(data)} if data else {}


def form_page(entered: Mapping[str, object], *, fault: BadRecipe | None = None, trouble: str | None = None) -> str:
    """The page with the values that were entered; `fault` marks a field, `trouble` is shown above the form."""
    models = form_models()
    model = next((model for model in models if model["name"] == entered.get("model")), models[0])
    defaults = {"model": model["name"], "mode": "fast", "memo": web_config().policy, "count": 1, "strength": STRENGTH}
    values = to_form({**defaults, **model["defaults"], **entered})
    return render_template(
        "create.html",
        models=models,
        model=model,
        sizes=dict.fromkeys([*model["form_sizes"], values["size"]]),
        values=values,
        init_image_visible=is_visible(values.get("init_image", "")),
        fault=fault,
        trouble=trouble,
        pictures=newest_pictures(),
        since=newest_event_id(),
    )


def form_models() -> list[dict[str, Any]]:
    """The available models, each with the sizes that the form offers."""
    return [{**model, "form_sizes": form_sizes(model)} for model in catalogue().to_dicts()]


def form_sizes(model: Mapping[str, Any]) -> list[str]:
    """Sizes to choose from: squares, and common aspect ratios of about the same area if the model paints them."""
    squares = [f"{side}x{side}" for side in model["sizes"]]
    if not model.get("size_range"):
        return squares
    smallest, largest, step = model["size_range"]
    native_side = model["defaults"]["width"]
    sizes = [
        tuple(round(native_side * ratio**0.5 / step) * step for ratio in (width / height, height / width))
        for width, height in ASPECT_RATIOS
    ]
    fitting = [size for size in sizes if smallest <= min(size) and max(size) <= largest]
    return squares + [f"{width}x{height}" for width, height in fitting]


def is_visible(key: str) -> bool:
    """Whether this is a picture that the user may see, rather than an upload or nothing."""
    try:
        return bool(key and find_picture(key))
    except (Forgotten, BadKey, Unavailable):
        return False


def newest_pictures() -> Sequence[Picture] | None:
    """The newest pictures; None while memory does not respond."""
    try:
        return memory().newest(scope=current_user().scope, limit=NEWEST_SHOWN)
    except Unavailable:
        return None


def newest_event_id() -> str:
    """The id after which to follow the stream of finished pictures; "" while the queue does not respond."""
    try:
        return job_store().jobs.latest_entry()
    except Unavailable:
        return ""


def recipe_of_query() -> dict[str, object]:
    """The settings of the picture that the query string names; empty without one."""
    key = request.args.get("picture")
    if not key:
        return {}
    try:
        return asdict(find_picture(key).recipe)
    except (Forgotten, BadKey):
        return {}


def to_form(values: Mapping[str, object]) -> dict[str, str]:
    """Values as the form shows them: width and height as one size, numbers without a trailing .0."""
    fields = {"size": f"{values['width']}x{values['height']}", **values}
    known = {name: fields[name] for name in (*FIELDS, "size") if fields.get(name) is not None}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in known.items()}


def to_body(form: Mapping[str, str]) -> dict[str, object]:
    """A submitted form as the JSON body of the API, which refuses a text in a field for numbers."""
    width, _, height = form.get("size", "").partition("x")
    fields = {"width": width, "height": height, **form}
    texts = {name: fields[name].strip() for name in FIELDS if name in fields}
    return {name: to_number(name, text) for name, text in texts.items() if text}


def to_number(name: str, text: str) -> object:
    """The text as a number if it is one and the field takes numbers, else unchanged."""
    if name in WHOLE_NUMBERS and re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    if name in DECIMALS and re.fullmatch(r"[+-]?[0-9]{1,20}([.,][0-9]{1,20})?", text):
        return float(text.replace(",", "."))
    return text
