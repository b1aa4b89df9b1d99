"""The OpenAI Images API, /v1, for clients that change nothing but their base URL. See docs/clients.md.

https://platform.openai.com/docs/api-reference/images
"""

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from jobs.job import Job, Origin, State
from jobs.models import Model
from jobs.serialize import match_to_dict, near_to_dict
from memo import MemoError, Picture, Unavailable
from web.access import read_image, read_preview, savings, watch_job
from web.api.init_images import LARGEST_UPLOAD
from web.auth import current_user
from web.extensions import catalogue
from web.formats import OutputFormat, convert, convert_preview
from web.json_body import read_object
from web.limits.gates import conversion_turn
from web.limits.long_requests import event_stream, hold_thread
from web.links import link_to
from web.picture_requests import request_pictures
from web.problems import ERROR_FORMATS, RETRY_SECONDS
from web.rerolls import name_recipient, record_received
from web.uploads import keep_upload, large_body

from .edit_form import read_form
from .generation_request import ImagesRequest, find_model, read_images_request
from .retries import run_unless_repeated

bp = Blueprint("openai", __name__, url_prefix="/v1")

PREFIX = "/v1/"
WAIT_SECONDS = 570.0  # the openai package gives up after 600
PARTIAL_SECONDS = 5.0  # for which a partial image may wait to be converted; then it is left out
KEEPALIVE_SECONDS = 15.0  # of silence after which a stream sends a comment
NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
DIALECT_NAMES = {  # native: dialect
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
JOB_ERRORS = {  # status and code
    State.FAILED: (500, "painting_failed"),
    State.CANCELLED: (409, "cancelled"),
    State.QUEUED: (503, "still_waiting"),
    State.RUNNING: (503, "still_painting"),
}


@bp.post("/images/generations")
def generate() -> ResponseReturnValue:
    """Create pictures for a prompt."""
    return respond(read_images_request(read_object(), catalogue()), "image_generation")


@bp.post("/images/edits")
def edit() -> ResponseReturnValue:
    """Create pictures for a prompt that start from the form's `image`."""
    with large_body(LARGEST_UPLOAD):
        images_request = read_edit(*read_form())
    return respond(images_request, "image_edit")


def read_edit(fields: Mapping[str, object], image: bytes) -> ImagesRequest:
    """The checked request, whose picture is kept; raises BadRecipe."""
    images_request = read_images_request(fields, catalogue(), edit=True)
    return replace(images_request, body={**images_request.body, "init_image": keep_upload(image)})


@bp.get("/models")
def models() -> ResponseReturnValue:
    """List the models, the default first."""
    return {"object": "list", "data": [model_object(model) for model in catalogue().models().values()]}


@bp.get("/models/<path:name>")
def model(name: str) -> ResponseReturnValue:
    """Get one model; OpenAI's names stand for the default one."""
    return model_object(find_model(name, catalogue())[0])


def model_object(model: Model) -> dict[str, Any]:
    """See https://platform.openai.com/docs/api-reference/models; `sizes` is an extension."""
    created = int((model.folder / "model.json").stat().st_mtime)
    return {"id": model.name, "object": "model", "created": created, "owned_by": "memoaized", "sizes": model.sizes}


def respond(images_request: ImagesRequest, event_prefix: str) -> ResponseReturnValue:
    """The pictures of a request: all in one response, or as events whose names start with `event_prefix`."""
    hold_thread()
    recipient = name_recipient(images_request.user)
    jobs = run_unless_repeated(
        [images_request.body, images_request.count], recipient, lambda: create_jobs(images_request, recipient)
    )
    if images_request.stream:
        return event_stream(events(images_request, jobs, event_prefix), memo_headers(jobs))
    return wait_for_pictures(images_request, jobs)


def create_jobs(images_request: ImagesRequest, recipient: str) -> list[Job]:
    """One job for each picture, all different."""
    body = images_request.body
    if images_request.user and not current_user().name:  # a user with a key is known by the name of the key
        body = {**body, "user": images_request.user}
    return request_pictures(body, images_request.count, recipient)


def wait_for_pictures(images_request: ImagesRequest, jobs: Sequence[Job]) -> ResponseReturnValue:
    """The response when all jobs are final, or when clients would give up waiting."""
    deadline = time.monotonic() + WAIT_SECONDS
    jobs = [wait_until(job, deadline) for job in jobs]
    for job in jobs:
        if job.state is not State.DONE:
            return job_error(job)
    document = {
        "created": int(time.time()),
        "data": [image_object(job, images_request) for job in jobs],
        "background": "opaque",
        "output_format": images_request.output.format,
        "size": size_text(picture_of(jobs[0]), images_request.output),
        "usage": NO_USAGE,
        "memo": {
            "model": images_request.model,
            "notes": [*images_request.notes, *dict.fromkeys(note for job in jobs for note in job.notes)],
            "pictures": [memo_object(job) for job in jobs],
        },
    }
    record_received(jobs)
    return Response(json.dumps(document), mimetype="application/json", headers=memo_headers(jobs))


def wait_until(job: Job, deadline: float) -> Job:
    """The job when it is final, or else as it is at this time of the monotonic clock."""
    if job.state.final:
        return job
    *_, last = job, *watch_job(job, max(0.0, deadline - time.monotonic()))
    return last


def picture_of(job: Job) -> Picture:
    """The picture of a job that is done."""
    assert job.picture is not None
    return job.picture


def size_text(picture: Picture, output: OutputFormat) -> str:
    """Width and height of the file in pixels, such as 512x768."""
    width, height = output.size or (picture.recipe.width, picture.recipe.height)
    return f"{width}x{height}"


def image_object(job: Job, images_request: ImagesRequest) -> dict[str, str]:
    """One picture by link or in base64, with the prompt that it was painted for if that differs."""
    picture = picture_of(job)
    output = images_request.output
    if images_request.as_url:
        image = {"url": link_to(picture.key, output)}
    else:
        image = {"b64_json": base64_image(picture, output)}
    prompt = picture.recipe.prompt
    return image if prompt == images_request.body["prompt"] else {**image, "revised_prompt": prompt}


def base64_image(picture: Picture, output: OutputFormat) -> str:
    """The file in base64."""
    with conversion_turn():
        return base64.b64encode(convert(read_image(picture.key), output)).decode()


def memo_object(job: Job) -> dict[str, Any]:
    """This server's extension: where a picture came from and why, and what it cost and saved."""
    picture = picture_of(job)
    seconds, joules = savings(job)
    spent = picture.joules if job.origin in (Origin.PAINTED, Origin.NEAR) else 0.0
    return {
        "job": job.id,
        "key": picture.key,
        "origin": job.origin,
        "reason": job.reason,
        **(match_to_dict(job.match) if job.match else {"score": None, "remembered_prompt": None, "how": None}),
        "near": near_to_dict(job.recipe, job.near),
        "prompt": picture.recipe.prompt,
        "seed": picture.recipe.seed,
        "painted_size": size_text(picture, OutputFormat()),
        "watt_hours_spent": round(spent / 3600, 6),
        "seconds_saved": round(seconds, 3),
        "watt_hours_saved": round(joules / 3600, 6),
    }


def memo_headers(jobs: Sequence[Job]) -> dict[str, str]:
    """Where the pictures came from, with one item per picture, and what they saved in all, as headers."""
    saved = [savings(job) for job in jobs]
    scores = [f"{job.match.score:.4f}" for job in jobs if job.match]
    headers = {
        "X-Memo-Origin": ", ".join(job.origin for job in jobs),
        "X-Memo-Jobs": ", ".join(job.id for job in jobs),
        "X-Memo-Seconds-Saved": f"{sum(seconds for seconds, _ in saved):.3f}",
        "X-Memo-Watt-Hours-Saved": f"{sum(joules for _, joules in saved) / 3600:.6f}",
    }
    return {**headers, "X-Memo-Score": ", ".join(scores)} if scores else headers


def events(images_request: ImagesRequest, jobs: Sequence[Job], event_prefix: str) -> Iterator[str]:
    """The pictures one after the other, each preceded by partial images; an error ends the stream."""
    try:
        for number, job in enumerate(jobs):
            for snapshot, index in snapshots(job, images_request.partial_images):
                job = snapshot
                preview = read_preview(job) if index is not None else None
                partial = partial_image(job, images_request, preview, index) if preview else None
                yield event(f"{event_prefix}.partial_image", partial) if partial else ": still here\n\n"
            if job.state is not State.DONE:
                yield event("error", error_object(*JOB_ERRORS[job.state], describe_failure(job)))
                return
            yield event(f"{event_prefix}.completed", completed_image(job, images_request, number))
            record_received([job])
    except MemoError as error:
        yield event("error", error_object(503, "unavailable", str(error)))
    except HTTPException as error:
        status = error.code or 500
        yield event("error", error_object(status, CODES.get(status), error.description or error.name))


def snapshots(job: Job, partial_images: int) -> Iterator[tuple[Job, int | None]]:
    """Yield the job until it is final, each time with the index of the partial image to send now, or None.

    The partial images are spread over the steps; a quick painting has fewer of them.
    """
    index, last_step, exists = 0, 0, True
    while exists and not job.state.final:
        exists = False  # a deleted job yields no snapshot
        for snapshot in watch_job(job, KEEPALIVE_SECONDS):
            job, exists, step = snapshot, True, snapshot.previewed or 0
            is_time = step * (partial_images + 1) >= job.recipe.steps * (index + 1)
            is_due = index < partial_images and step > last_step and is_time
            yield job, index if is_due else None
            index, last_step = index + is_due, step if is_due else last_step


def event(name: str, data: Mapping[str, Any]) -> str:
    """One Server-Sent Event."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"


def partial_image(
    job: Job, images_request: ImagesRequest, preview: bytes, index: int | None
) -> dict[str, Any] | None:
    """A rough image of the unfinished picture, at most in the painted size; None if it would have to wait long."""
    recipe = job.recipe
    painted = recipe.width, recipe.height
    width, height = min(images_request.output.size or painted, painted, key=prod)
    output = replace(images_request.output, size=(width, height))
    try:
        with conversion_turn(PARTIAL_SECONDS):
            data = base64.b64encode(convert_preview(preview, output)).decode()
    except Unavailable:
        return None
    memo = {"job": job.id, "step": job.step, "steps": recipe.steps, "seconds_left": job.seconds_left}
    return {**image_event(output, data), "size": f"{width}x{height}", "partial_image_index": index, "memo": memo}


def completed_image(job: Job, images_request: ImagesRequest, number: int) -> dict[str, Any]:
    """A finished picture."""
    picture = picture_of(job)
    notes = [*images_request.notes, *job.notes]
    memo = {"model": images_request.model, "notes": notes, "picture": number, **memo_object(job)}
    data = image_event(images_request.output, base64_image(picture, images_request.output))
    return {**data, "size": size_text(picture, images_request.output), "usage": NO_USAGE, "memo": memo}


def image_event(output: OutputFormat, data: str) -> dict[str, Any]:
    """The fields that partial and finished images have in common."""
    fields = {
        "created_at": int(time.time()),
        "output_format": output.format,
        "background": "opaque",
        "quality": "auto",
    }
    return {"b64_json": data, **fields}


def describe_failure(job: Job) -> str:
    """Why a job has no picture, in words."""
    if job.state is State.FAILED:
        return f"job {job.id} failed: {job.error}"
    if job.state is State.CANCELLED:
        return f"job {job.id} was cancelled"
    return f"job {job.id} is not finished yet: send the same request again to keep waiting for it"


def job_error(job: Job) -> Response:
    """The error of a job without a picture. Clients should retry only if the job is not final."""
    status, code = JOB_ERRORS[job.state]
    response = error_response(status, error_object(status, code, describe_failure(job)))
    response.headers["X-Should-Retry"] = "false" if job.state.final else "true"
    if not job.state.final:
        response.headers["Retry-After"] = "1"
    return response


def error_object(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """See https://platform.openai.com/docs/guides/error-codes."""
    error_type = TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def error_response(status: int, document: Mapping[str, Any]) -> Response:
    """An error as a response."""
    return Response(json.dumps(document), status, mimetype="application/json")


def format_error(status: int, title: str, detail: str, more: Mapping[str, Any]) -> Response:
    """An error of a path under /v1. Invalid fields are 400 in this dialect, and an unknown model is 404."""
    code = CODES.get(status)
    field = more.get("field")
    if field is None:
        return error_response(status, error_object(status, code, detail))
    param = DIALECT_NAMES.get(field, field)
    message = f"{param}: {more['value']} is not valid: {more['fix']}"
    if field == "model":
        return error_response(404, error_object(404, "model_not_found", message, param))
    return error_response(400 if status == 422 else status, error_object(400, code, message, param))


@bp.after_app_request
def add_request_id(response: Response) -> Response:
    """Set the headers that clients log and follow: the id of the request, and when to retry."""
    if request.path.startswith(PREFIX):
        response.headers["X-Request-Id"] = f"req_{secrets.token_hex(16)}"
        if response.status_code in (429, 503):
            response.headers.setdefault("Retry-After", RETRY_SECONDS)
    return response


ERROR_FORMATS[PREFIX] = format_error
