"""The pages people see: the form, live jobs, a picture.

Knows HTML and forms; what a request means is decided in `asking`, what is remembered in `memo`. Every page
works without JavaScript; the modules in `static/` only make it livelier.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge, TooManyRequests

from jobs.job import Job, Origin
from memo import BadKey, BadRecipe, Forgotten, Picture, Unavailable, to_text
from memo.recipe import STRENGTH
from web import picture_requests
from web.api.init_images import LARGEST_UPLOAD
from web.auth import VISITOR, visitor, who
from web.picture_requests import describe, job_of, jobs_of, picture_of
from web.services import catalogue, job_store, memory

bp = Blueprint("pages", __name__)

WHOLE = ("width", "height", "steps", "seed", "count")
DECIMAL = ("guidance_scale", "strength")
TEXTS = ("prompt", "negative_prompt", "model", "adapter", "sampler", "schedule", "mode", "init_image", "memo")
FIELDS = (*TEXTS, *WHOLE, *DECIMAL)
SHAPES = ((3, 2), (2, 3), (16, 9), (9, 16))  # offered besides squares where a model paints other sizes
TOO_LARGE = f"a picture to start from may have {LARGEST_UPLOAD // 2**20} MB at most"
NEWEST = 12  # pictures below the form
VISITOR_SECONDS = 365 * 24 * 3600
MOST_SHOWN = picture_requests.MOST_PICTURES  # jobs on one page


@bp.get("/")
def create() -> ResponseReturnValue:
    """The form, filled with defaults, the query string, or a picture's recipe, above the newest pictures."""
    return form_page(known_recipe() | request.args.to_dict())


@bp.post("/")
def ask() -> ResponseReturnValue:
    """Submit the form without JavaScript."""
    form = request.form.to_dict()
    try:
        form |= uploaded()
        jobs = picture_requests.ask(as_body(form))
    except BadRecipe as error:
        return form_page(form, fault=error), 422
    except Unavailable as error:
        return form_page(form, trouble=str(error)), 503
    except TooManyRequests as error:
        return form_page(form, trouble=error.description), 429, later(error)
    if len(jobs) > 1:
        return redirect(url_for("pages.several", id=[job.id for job in jobs]), 303)
    return to_job(jobs[0])


def later(error: TooManyRequests) -> dict[str, str]:
    """When to come again, as a header."""
    return {name: value for name, value in error.get_headers() if name == "Retry-After"}


@bp.errorhandler(RequestEntityTooLarge)
def too_large(error: RequestEntityTooLarge) -> ResponseReturnValue:
    """The form again; what was typed into one that is too large to be read is not known."""
    return form_page({}, trouble=f"this was too large: {TOO_LARGE}"), 413


def uploaded() -> dict[str, str]:
    """The picture to start from that came with the form, as its field; nothing if none did. Raises BadRecipe."""
    file = request.files.get("image")
    data = file.read() if file else b""
    if len(data) > LARGEST_UPLOAD:
        raise BadRecipe("image", f"{len(data)} bytes", TOO_LARGE)
    return {"init_image": picture_requests.keep_upload(data)} if data else {}


def to_job(job: Job) -> ResponseReturnValue:
    """Go and see it."""
    return redirect(url_for("pages.job", job_id=job.id), 303)


@bp.get("/jobs")
def several() -> ResponseReturnValue:
    """The jobs that the query string names, side by side."""
    names = request.args.getlist("id")[:MOST_SHOWN]
    if not names:
        return redirect(url_for("pages.create"), 303)
    return render_template("jobs.html", cards=[as_card(job) for job in jobs_of(names)])


@bp.get("/jobs/<job_id>")
def job(job_id: str) -> ResponseReturnValue:
    """One job, live."""
    return render_template("job.html", **as_card(job_of(job_id)))


@bp.get("/jobs/<job_id>/card")
def card(job_id: str) -> ResponseReturnValue:
    """The job's card alone, for a page that has it already and wants it anew."""
    return render_template("card.html", **as_card(job_of(job_id)))


@bp.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> ResponseReturnValue:
    """Cancel without JavaScript."""
    return to_job(picture_requests.cancel(job_id))


@bp.post("/jobs/<job_id>/another")
def more(job_id: str) -> ResponseReturnValue:
    """Another picture of the same meaning, one that this visitor was not given yet."""
    return to_job(picture_requests.another(job_of(job_id), who().name))


@bp.post("/jobs/<job_id>/again")
def again(job_id: str) -> ResponseReturnValue:
    """Once more what came to nothing."""
    return to_job(picture_requests.again(job_of(job_id), who().name))


@bp.after_request
def name_visitor(response: Response) -> Response:
    """Give a browser a name by chance, so that it is never given a picture twice by "another one"."""
    if not visitor():
        name = secrets.token_hex(16)
        response.set_cookie(VISITOR, name, max_age=VISITOR_SECONDS, httponly=True, samesite="Lax")
    return response


@bp.get("/pictures/<key>")
def picture(key: str) -> ResponseReturnValue:
    """One picture with its recipe."""
    found = picture_of(key)
    image_to_image = any(model["name"] == found.recipe.model and model.get("image_to_image") for model in models())
    return render_template(
        "picture.html", picture=found, recipe_text=to_text(found.recipe), image_to_image=image_to_image
    )


def models() -> list[dict[str, Any]]:
    """What can be painted with, and the sizes that the form offers."""
    return [{**model, "offered": offered(model)} for model in catalogue().describe()]


def offered(model: Mapping[str, Any]) -> list[str]:
    """Sizes as the form says them: squares, and where a model paints any, usual shapes of about the same area."""
    squares = [f"{side}x{side}" for side in model["sizes"]]
    if not model.get("size_range"):
        return squares
    least, most, multiple = model["size_range"]
    native = model["defaults"]["width"]
    sides = [
        [round(native * (part / other) ** 0.5 / multiple) * multiple for part, other in ((a, b), (b, a))]
        for a, b in SHAPES
    ]
    return squares + [
        f"{width}x{height}" for width, height in sides if least <= min(width, height) <= max(width, height) <= most
    ]


def form_page(typed: Mapping[str, object], *, fault: BadRecipe | None = None, trouble: str | None = None) -> str:
    """The form with what was typed, what is wrong with it, and the newest pictures."""
    known = models()
    chosen = next((model for model in known if model["name"] == typed.get("model")), known[0])
    usual = {"model": chosen["name"], "mode": "fast", "memo": "auto", "count": 1, "strength": STRENGTH}
    values = as_text({**usual, **chosen["defaults"], **typed})
    return render_template(
        "create.html",
        models=known,
        chosen=chosen,
        sizes=dict.fromkeys([*chosen["offered"], values["size"]]),
        values=values,
        start_seen=is_kept(values.get("init_image", "")),
        fault=fault,
        trouble=trouble,
        pictures=newest(),
        since=last_finished(),
    )


def is_kept(key: str) -> bool:
    """Whether this is a picture that the caller may see, and not what somebody uploaded to start from."""
    try:
        return bool(key and picture_of(key))
    except (Forgotten, BadKey, Unavailable):
        return False


def newest() -> Sequence[Picture] | None:
    """The newest pictures; None while memory does not answer."""
    try:
        return memory().newest(scope=who().scope, limit=NEWEST)
    except Unavailable:
        return None


def last_finished() -> str:
    """Where the stream of finished pictures stands, or "" while the queue does not answer."""
    try:
        return next((name for name, _ in job_store().jobs.finished_pictures()), "0-0")
    except Unavailable:
        return ""


def as_card(found: Job) -> dict[str, Any]:
    """What the card of a job needs: itself, who else waits, and what it cost or saved."""
    waiting = job_store().statistics.count_waiting(found.recipe.model) if found.position is not None else 0
    saved = (
        job_store().statistics.mean_cost(found.picture) if found.picture and found.origin is Origin.MEMORY else None
    )
    return {"job": describe(found), "others": found.waiters - 1, "waiting": waiting, "saved": saved}


def known_recipe() -> dict[str, object]:
    """The settings of the picture that the query string names, or none."""
    key = request.args.get("picture")
    if not key:
        return {}
    try:
        return asdict(picture_of(key).recipe)
    except (Forgotten, BadKey):
        return {}


def as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Values as the form shows them: width and height as one size, numbers without a trailing .0."""
    known = {"size": f"{values['width']}x{values['height']}", **values}
    shown = {name: known[name] for name in (*FIELDS, "size") if known.get(name) is not None}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in shown.items()}


def as_body(form: Mapping[str, str]) -> dict[str, object]:
    """A sent form as the JSON body that a client would have sent; what is no number stays as it was typed."""
    width, _, height = form.get("size", "").partition("x")
    given = {"width": width, "height": height, **form}
    typed = {name: given[name].strip() for name in FIELDS if name in given}
    return {name: as_number(name, text) for name, text in typed.items() if text}


def as_number(name: str, text: str) -> object:
    """The text as the number that this field wants, if it is one."""
    if name in WHOLE and re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    if name in DECIMAL and re.fullmatch(r"[+-]?[0-9]{1,20}([.,][0-9]{1,20})?", text):
        return float(text.replace(",", "."))
    return text


@bp.app_template_filter()
def duration(seconds: float) -> str:
    """A length of time as a person says it: 40 ms, 3.2 s, 75 s, 4 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@bp.app_template_filter()
def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@bp.app_template_filter()
def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


@bp.app_template_filter()
def energy(joules: float) -> str:
    """Joules as watt-hours, to two digits."""
    hours = joules / 3600
    return f"{hours:.2g} Wh" if hours < 10 else f"{hours:,.0f} Wh"
