"""The OpenAI Images API, /v1: for clients that change nothing but their base URL. See docs/clients.md.

Knows that dialect's answers, errors and events; what a request means is read in `order` and decided in `asking`.
https://platform.openai.com/docs/api-reference/images
"""

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, abort, request, stream_with_context
from flask.typing import ResponseReturnValue

from jobs.job import Job, Origin, State
from jobs.models import Model
from memo import BadRecipe, MemoError, Picture
from web.api.init_images import LARGEST_UPLOAD
from web.auth import who
from web.formats import Form, converted, rough
from web.json_body import read_object
from web.links import link_to
from web.picture_requests import asdict_match, ask, follow, image_of, keep_upload, preview_of, saved_by
from web.problems import RETRY_SECONDS, SHAPES
from web.retries import carried_out
from web.services import catalogue

from .generation_request import ImagesRequest, model_of, read_images_request

bp = Blueprint("openai", __name__, url_prefix="/v1")

PREFIX = "/v1/"
WAIT_SECONDS = 570.0  # the openai package gives up after 600
LIFE_SECONDS = 15.0  # without an event before a stream says that it is still there
UNBILLED = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
WHOLE_TEXTS = ("n", "seed", "num_inference_steps", "output_compression", "partial_images")  # in forms
NUMBER_TEXTS = ("guidance_scale", "strength")
THEIR_NAMES = {
    "steps": "num_inference_steps",
    "memo": "memo.policy",
    "count": "n",
    "width": "size",
    "height": "size",
    "init_image": "image",
}
CODES = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    422: "invalid_value",
    429: "rate_limit_exceeded",
    503: "unavailable",
}
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
ENDINGS = {
    State.FAILED: (500, "painting_failed"),
    State.CANCELLED: (409, "cancelled"),
    State.QUEUED: (503, "still_waiting"),
    State.RUNNING: (503, "still_painting"),
}


@bp.post("/images/generations")
def generate() -> ResponseReturnValue:
    """Pictures of a prompt."""
    return fulfilled(read_images_request(read_object(), catalogue()), "image_generation")


@bp.post("/images/edits")
def edit() -> ResponseReturnValue:
    """Pictures of a prompt that begin with a picture; a form with it as `image`."""
    request.max_content_length = LARGEST_UPLOAD
    order = read_images_request(read_form(), catalogue(), edit=True)
    init_image = keep_upload(uploaded())
    return fulfilled(replace(order, body={**order.body, "init_image": init_image}), "image_edit")


@bp.get("/models")
def models() -> ResponseReturnValue:
    """What can be painted with, the default one first."""
    return {"object": "list", "data": [described(model) for model in catalogue().models().values()]}


@bp.get("/models/<path:name>")
def model(name: str) -> ResponseReturnValue:
    """One model; OpenAI's names stand for the default one."""
    return described(model_of(name, catalogue())[0])


def described(model: Model) -> dict[str, Any]:
    """As https://platform.openai.com/docs/api-reference/models has it, and the sizes."""
    created = int((model.folder / "model.json").stat().st_mtime)
    return {"id": model.name, "object": "model", "created": created, "owned_by": "memoaized", "sizes": model.sizes}


def read_form() -> dict[str, object]:
    """The fields of a multipart form as JSON would have them; 415 for another body. Raises BadRecipe."""
    if request.mimetype != "multipart/form-data":
        abort(415, "send the picture and the fields as multipart/form-data")
    for name in ("mask", "markup"):
        if name in request.files or name in request.form:
            raise BadRecipe(name, "a picture", "a whole picture can be changed here, not a part of it: leave it out")
    values: dict[str, object] = {name: typed(name, text) for name, text in request.form.items()}
    if "memo[policy]" in values:  # how the openai package writes an object into a form
        values["memo"] = {"policy": values.pop("memo[policy]")}
    return values


def typed(name: str, text: str) -> object:
    """A field's text as the number, truth value or object that it is meant to be, if it is one."""
    if name == "stream":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        if name in WHOLE_TEXTS:
            return int(text)
        if name in NUMBER_TEXTS:
            return float(text)
        return json.loads(text) if name == "memo" else text
    except (ValueError, RecursionError):
        return text


def uploaded() -> bytes:
    """The one picture of the form; raises BadRecipe."""
    given = [*request.files.getlist("image"), *request.files.getlist("image[]")]
    if len(given) != 1:
        raise BadRecipe("image", f"{len(given)} pictures", "send one picture")
    data: bytes = given[0].read()
    return data


def fulfilled(order: ImagesRequest, kind: str) -> ResponseReturnValue:
    """The pictures of an order: all at once, or as events."""
    jobs = carried_out([order.body, order.count, order.user], lambda: ask_all(order))
    if order.stream:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headlines(jobs)}
        messages = stream_with_context(events(order, jobs, kind))
        return Response(messages, mimetype="text/event-stream", headers=headers)
    return answered(order, jobs)


def ask_all(order: ImagesRequest) -> list[Job]:
    """One job for each picture, none of them twice."""
    named = {"user": order.user} if order.user and not who().name else {}  # a caller with a key is known by that
    return ask({**order.body, **named}, order.count)


def answered(order: ImagesRequest, jobs: Sequence[Job]) -> ResponseReturnValue:
    """When all are final, or nobody would wait any longer."""
    until = time.monotonic() + WAIT_SECONDS
    jobs = [waited(job, until) for job in jobs]
    for job in jobs:
        if job.state is not State.DONE:
            return ended_badly(job)
    answer = {
        "created": int(time.time()),
        "data": [datum(job, order) for job in jobs],
        "background": "opaque",
        "output_format": order.form.format,
        "size": size_of(picture(jobs[0]), order.form),
        "usage": UNBILLED,
        "memo": {"model": order.model, "notes": order.notes, "pictures": [told(job) for job in jobs]},
    }
    return Response(json.dumps(answer), mimetype="application/json", headers=headlines(jobs))


def waited(job: Job, until: float) -> Job:
    """The job when it is final, or as it stands at that moment of the monotonic clock."""
    if job.state.final:
        return job
    *_, last = job, *follow(job, max(0.0, until - time.monotonic()))
    return last


def picture(job: Job) -> Picture:
    """Of a job that is done."""
    assert job.picture is not None
    return job.picture


def size_of(painted: Picture, form: Form) -> str:
    """Width and height of the file in pixels."""
    width, height = form.size or (painted.recipe.width, painted.recipe.height)
    return f"{width}x{height}"


def datum(job: Job, order: ImagesRequest) -> dict[str, str]:
    """One picture, by link or in base64, and the prompt that it was painted for if it was another."""
    painted = picture(job)
    given = (
        {"url": link_to(painted.key, order.form)} if order.as_url else {"b64_json": in_base64(painted, order.form)}
    )
    prompt = painted.recipe.prompt
    return given if prompt == order.body["prompt"] else {**given, "revised_prompt": prompt}


def in_base64(painted: Picture, form: Form) -> str:
    """The file as text."""
    return base64.b64encode(converted(image_of(painted.key), form)).decode()


def told(job: Job) -> dict[str, Any]:
    """How a picture came: from memory or not, why, what it was painted for, what that cost and saved."""
    painted = picture(job)
    seconds, joules = saved_by(job)
    spent = painted.joules if job.origin is Origin.PAINTED else 0.0
    return {
        "job": job.id,
        "key": painted.key,
        "origin": job.origin,
        "reason": job.reason,
        **(asdict_match(job) or {"score": None, "remembered_prompt": None, "how": None}),
        "prompt": painted.recipe.prompt,
        "seed": painted.recipe.seed,
        "painted_size": size_of(painted, Form()),
        "watt_hours_spent": round(spent / 3600, 6),
        "seconds_saved": round(seconds, 3),
        "watt_hours_saved": round(joules / 3600, 6),
    }


def headlines(jobs: Sequence[Job]) -> dict[str, str]:
    """The same in short, as headers, an item a picture."""
    saved = [saved_by(job) for job in jobs]
    scores = [f"{job.match.score:.4f}" for job in jobs if job.match]
    headers = {
        "X-Memo-Origin": ", ".join(job.origin for job in jobs),
        "X-Memo-Jobs": ", ".join(job.id for job in jobs),
        "X-Memo-Seconds-Saved": f"{sum(seconds for seconds, _ in saved):.3f}",
        "X-Memo-Watt-Hours-Saved": f"{sum(joules for _, joules in saved) / 3600:.6f}",
    }
    return {**headers, "X-Memo-Score": ", ".join(scores)} if scores else headers


def events(order: ImagesRequest, jobs: Sequence[Job], kind: str) -> Iterator[str]:
    """The pictures one after the other, each preceded by partial ones; a fault ends the stream."""
    try:
        for number, job in enumerate(jobs):
            for snapshot, index in watched(job, order.partial_images):
                job = snapshot
                preview = preview_of(job) if index is not None else None
                yield (
                    event(f"{kind}.partial_image", partial(job, order, preview, index))
                    if preview
                    else ": still here\n\n"
                )
            if job.state is not State.DONE:
                yield event("error", error_object(*ENDINGS[job.state], why(job)))
                return
            yield event(f"{kind}.completed", completed(job, order, number))
    except MemoError as error:
        yield event("error", error_object(503, "unavailable", str(error)))


def watched(job: Job, wanted: int) -> Iterator[tuple[Job, int | None]]:
    """A job until it is final, and which of the wanted partial pictures each snapshot is good for.

    They are spread over the steps; there are fewer of them where a painting is quick.
    """
    sent, shown, known = 0, 0, True
    while known and not job.state.final:
        known = False  # any more
        for snapshot in follow(job, LIFE_SECONDS):
            job, known, step = snapshot, True, snapshot.previewed or 0
            due = sent < wanted and step > shown and step * (wanted + 1) >= job.recipe.steps * (sent + 1)
            yield job, sent if due else None
            sent, shown = sent + due, step if due else shown


def event(name: str, data: Mapping[str, Any]) -> str:
    """One Server-Sent Event."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"


def partial(job: Job, order: ImagesRequest, preview: bytes, index: int | None) -> dict[str, Any]:
    """What a picture looks like by now: rough, in the size that it will have."""
    recipe = job.recipe
    width, height = order.form.size or (recipe.width, recipe.height)
    form = replace(order.form, size=(width, height))
    data = base64.b64encode(rough(preview, form)).decode()
    now = {"job": job.id, "step": job.step, "steps": recipe.steps, "seconds_left": job.seconds_left}
    return {**frame(form, data), "size": f"{width}x{height}", "partial_image_index": index, "memo": now}


def completed(job: Job, order: ImagesRequest, number: int) -> dict[str, Any]:
    """A whole picture."""
    painted = picture(job)
    memo = {"model": order.model, "notes": order.notes, "picture": number, **told(job)}
    data = frame(order.form, in_base64(painted, order.form))
    return {**data, "size": size_of(painted, order.form), "usage": UNBILLED, "memo": memo}


def frame(form: Form, data: str) -> dict[str, Any]:
    """What partial and whole pictures have in common."""
    said = {"created_at": int(time.time()), "output_format": form.format, "background": "opaque", "quality": "auto"}
    return {"b64_json": data, **said}


def why(job: Job) -> str:
    """In words, for whoever gets no picture."""
    if job.state is State.FAILED:
        return f"job {job.id} failed: {job.error}"
    if job.state is State.CANCELLED:
        return f"job {job.id} was cancelled"
    return f"job {job.id} goes on: send the same request again to go on waiting for it"


def ended_badly(job: Job) -> Response:
    """A job that has no picture, or none yet; only then should the client try again by itself."""
    status, code = ENDINGS[job.state]
    answer = refusal(status, error_object(status, code, why(job)))
    answer.headers["X-Should-Retry"] = "false" if job.state.final else "true"
    if not job.state.final:
        answer.headers["Retry-After"] = "1"
    return answer


def error_object(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """As https://platform.openai.com/docs/guides/error-codes has it."""
    kind = TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, document: Mapping[str, Any]) -> Response:
    """An error as answer."""
    return Response(json.dumps(document), status, mimetype="application/json")


def shape(status: int, title: str, detail: str, more: Mapping[str, Any]) -> Response:
    """Errors of all paths below /v1; what cannot be followed is 400 in this dialect, and an unknown model 404."""
    code = CODES.get(status)
    field = more.get("field")
    if field is None:
        return refusal(status, error_object(status, code, detail))
    param = THEIR_NAMES.get(field, field)
    message = f"{param}: {more['value']} cannot be used; {more['fix']}"
    if field == "model":
        return refusal(404, error_object(404, "model_not_found", message, param))
    return refusal(400 if status == 422 else status, error_object(400, code, message, param))


@bp.after_app_request
def name_request(response: Response) -> Response:
    """What the client logs and obeys: the request's name, and when to come again."""
    if request.path.startswith(PREFIX):
        response.headers["X-Request-Id"] = f"req_{secrets.token_hex(16)}"
        if response.status_code in (429, 503):
            response.headers.setdefault("Retry-After", RETRY_SECONDS)
    return response


SHAPES[PREFIX] = shape
