"""The pages people see: the form, a live job, a picture, the gallery.

Knows HTML and forms; what a request means is decided in `asking`, what is remembered in `memo`. Every page
works without JavaScript; the modules in `static/` only make it livelier.
"""

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from memo import BadKey, BadRecipe, Forgotten, Unavailable, to_text

from .asking import another, describe, submit
from .caller import VISITOR, visitor, who

bp = Blueprint("pages", __name__)

WHOLE = ("width", "height", "steps", "seed")
NUMBERS = (*WHOLE, "guidance_scale")
FIELDS = ("prompt", "negative_prompt", "model", *NUMBERS, "sampler", "schedule", "memo")
TILES = 24  # pictures in one helping of the gallery
VISITOR_SECONDS = 365 * 24 * 3600
NO_JOB = "No job of this name is known. Jobs are kept for seven days; their pictures stay in the gallery."


@bp.get("/")
def create() -> ResponseReturnValue:
    """The form, filled with defaults, the query string, or a picture's recipe, above the gallery."""
    return form_page(known_recipe() | request.args.to_dict())


@bp.post("/")
def ask() -> ResponseReturnValue:
    """Submit the form without JavaScript."""
    try:
        [job, *_] = submit(as_body(request.form), who().name)
    except BadRecipe as error:
        return form_page(request.form.to_dict(), fault=error), 422
    except Unavailable as error:
        return form_page(request.form.to_dict(), trouble=str(error)), 503
    return redirect(url_for("pages.job", job_id=job.id), 303)


@bp.get("/jobs/<job_id>")
def job(job_id: str) -> ResponseReturnValue:
    """One job, live."""
    return job_page("job.html", job_id)


@bp.get("/jobs/<job_id>/card")
def card(job_id: str) -> ResponseReturnValue:
    """The job's card alone, for a page that has it already and wants it anew."""
    return job_page("card.html", job_id)


@bp.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> ResponseReturnValue:
    """Cancel without JavaScript."""
    if current_app.extensions["queue"].cancel(job_id) is None:
        abort(404, NO_JOB)
    return redirect(url_for("pages.job", job_id=job_id), 303)


@bp.post("/jobs/<job_id>/another")
def more(job_id: str) -> ResponseReturnValue:
    """Another picture of the same meaning, one that this visitor was not given yet."""
    found = current_app.extensions["queue"].job(job_id)
    if found is None:
        abort(404, NO_JOB)
    return redirect(url_for("pages.job", job_id=another(found, who().name).id), 303)


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
    found = current_app.extensions["memory"].picture(key)
    return render_template("picture.html", picture=found, recipe_text=to_text(found.recipe))


def form_page(typed: Mapping[str, object], *, fault: BadRecipe | None = None, trouble: str | None = None) -> str:
    """The form with what was typed, what is wrong with it, and the gallery."""
    models = current_app.extensions["catalogue"].describe()
    chosen = next((model for model in models if model["name"] == typed.get("model")), models[0])
    values = as_text({"model": chosen["name"], "memo": "auto", **chosen["defaults"], **typed})
    return render_template(
        "create.html",
        models=models,
        chosen=chosen,
        sizes=dict.fromkeys([*(f"{side}x{side}" for side in chosen["sizes"]), values["size"]]),
        values=values,
        fault=fault,
        trouble=trouble,
        **gallery(),
    )


def gallery() -> dict[str, object]:
    """One helping of pictures, newest first, and the cursor of the next."""
    before = request.args.get("before", math.nan, type=float)
    cursor = before if math.isfinite(before) else None
    try:
        pictures = current_app.extensions["memory"].newest(limit=TILES, before=cursor)
    except Unavailable:
        return {"pictures": None, "older": None}
    return {"pictures": pictures, "older": pictures[-1].created if len(pictures) == TILES else None}


def job_page(template: str, job_id: str) -> ResponseReturnValue:
    """The template with the job, or the page that says that there is no such job."""
    found = current_app.extensions["queue"].job(job_id)
    if found is None:
        abort(404, NO_JOB)
    return render_template(template, job=describe(found))


def known_recipe() -> dict[str, object]:
    """The settings of the picture that the query string names, or none."""
    key = request.args.get("picture")
    if not key:
        return {}
    try:
        return asdict(current_app.extensions["memory"].picture(key).recipe)
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
    if name == "guidance_scale" and re.fullmatch(r"[+-]?[0-9]{1,20}([.,][0-9]{1,20})?", text):
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
