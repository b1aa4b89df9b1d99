"""AI-Horde's API, /api/v2, for clients that change nothing but their base URL. See docs/clients.md.

It follows https://github.com/Haidra-Org/AI-Horde, but has no kudos and no volunteers: its requests are treated like
all others.
"""

import base64
import contextlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from jobs.job import Job, State
from jobs.serialize import job_to_generation
from jobs.webhooks.deliverer import QUALITY
from jobs.webhooks.deliveries import HORDE, Webhook
from memo import Forgotten
from memo.webp import write_webp
from web import access, picture_requests
from web.auth import current_user
from web.extensions import catalogue, job_store, queue
from web.formats import OutputFormat
from web.json_body import read_object
from web.limits.gates import conversion_turn
from web.links import link_to
from web.problems import ERROR_FORMATS, RETRY_SECONDS
from web.rerolls import name_recipient, record_received
from web.uploads import keep_upload, large_body

from .generation_request import DIALECT_NAMES, HordeRequest, read_request, warning

PREFIX = "/api/v2"
bp = Blueprint("horde", __name__, url_prefix=PREFIX)

LARGEST_REQUEST = 16 * 2**20  # bytes; a request may carry an initial image
OUTPUT = OutputFormat("webp", QUALITY)
CODES = {  # the dialect's error codes by status …
    401: "InvalidAPIKey",
    403: "Forbidden",
    404: "ThingNotFound",
    413: "SourceImageSizeExceeded",
    429: "TooManyPrompts",
    503: "MaintenanceMode",
}
FIELD_CODES = {  # … and by field
    "prompt": "MissingPrompt",
    "models": "UnsupportedModel",
    "params.width": "InvalidSize",
    "params.height": "InvalidSize",
    "params.steps": "TooManySteps",
    "params.sampler_name": "UnsupportedSampler",
    "source_image": "SourceImageUnreadable",
    "source_mask": "SourceMaskUnnecessary",
    "params.control_type": "ControlNetUnsupported",
}


@bp.post("/generate/async")
def generate() -> ResponseReturnValue:
    """Request pictures: 202 with the id of the request."""
    with large_body(LARGEST_REQUEST):
        horde_request = read_request(read_object("source_image", "source_mask"), catalogue().models())
        webhook = picture_requests.check_webhook(horde_request.webhook)
        init_image = {"init_image": keep_upload(horde_request.source)} if horde_request.source else {}
    picture_request = picture_requests.parse_request({**horde_request.native, **init_image}, name_recipient())
    if horde_request.dry_run:
        return {"kudos": 0}
    request_id = str(uuid.uuid4())
    with picture_requests.all_or_nothing(picture_request.count) as jobs:
        picture_requests.add_jobs(picture_request, jobs, picture_request.count)
        job_store().requests.keep_group(request_id, [job.id for job in jobs], {"as_url": horde_request.as_url})
        for job in jobs if webhook else ():
            img = link_to(job.key, OUTPUT, long=True) if horde_request.as_url else ""
            key = picture_requests.key_id()
            hook = Webhook(url=webhook, job=job.id, form=HORDE, request=request_id, img=img, key=key)
            queue().webhooks.add(job, hook)
    return accepted_document(request_id, horde_request, jobs), 202


def accepted_document(request_id: str, horde_request: HordeRequest, jobs: Sequence[Job]) -> dict[str, Any]:
    """The response to a valid request."""
    notes = dict.fromkeys(note for job in jobs for note in job.notes)
    warnings = [*horde_request.warnings, *(warning("PromptChanged", note) for note in notes)]
    document = {"id": request_id, "kudos": 0, "warnings": warnings}
    if not is_possible(jobs):
        notice = f"no worker is running for {jobs[0].recipe.model}: the request will wait until one starts"
        document |= {"message": notice, "warnings": [*warnings, warning("NoAvailableWorker", notice)]}
    return document


@bp.get("/generate/check/<request_id>")
def check(request_id: str) -> ResponseReturnValue:
    """Get the progress of a request."""
    jobs, _ = find_group(request_id)
    return progress(jobs)


@bp.get("/generate/status/<request_id>")
def status(request_id: str) -> ResponseReturnValue:
    """Get the progress of a request, and its finished pictures."""
    jobs, as_url = find_group(request_id)
    return progress_and_pictures(jobs, as_url)


@bp.delete("/generate/status/<request_id>")
def cancel(request_id: str) -> ResponseReturnValue:
    """Cancel the unfinished jobs of a request; returns the finished pictures."""
    jobs, as_url = find_group(request_id)
    return progress_and_pictures([access.cancel_job(job.id) for job in jobs], as_url)


@bp.get("/status/models")
def models() -> ResponseReturnValue:
    """List the models, with their workers and waiting jobs."""
    if request.args.get("type", "image") != "image":
        return []
    served = [name for report in job_store().heartbeats.workers().values() for name in report.get("models", ())]
    return [
        {
            "name": name,
            "type": "image",
            "count": served.count(name),
            "jobs": (waiting := job_store().statistics.waiting(name))[0],
            "queued": waiting[0],
            "eta": math.ceil(waiting[1]),
            "performance": 0,
        }
        for name in catalogue().models()
    ]


@bp.get("/status/heartbeat")
def heartbeat() -> ResponseReturnValue:
    """Confirm that the server is running."""
    return {"message": "OK", "version": version("memoaized")}


@bp.get("/find_user")
def find_user() -> ResponseReturnValue:
    """Get the user of the key."""
    user = current_user()
    name = user.name if user.key else "Anonymous"
    return {
        "username": f"{name}#0",
        "id": 0,
        "kudos": 0,
        "moderator": user.admin,
        "trusted": True,
        "worker_count": 0,
    }


def find_group(request_id: str) -> tuple[list[Job], bool]:
    """The jobs of a request, and whether pictures are sent by URL; aborts with 404 if it is not the user's."""
    group = job_store().requests.group(request_id)
    with contextlib.suppress(NotFound):
        if group is not None:
            return access.find_jobs(group["jobs"]), bool(group["as_url"])
    abort(404, f"there is no request {request_id[:40]!r}; requests are kept for seven days")


def progress(jobs: Sequence[Job]) -> dict[str, Any]:
    """The progress of a whole request."""
    states = [job.state for job in jobs]
    failed = [job.error for job in jobs if job.state is State.FAILED]
    positions = [job.position for job in jobs if job.position is not None]
    document = {
        "finished": states.count(State.DONE),
        "processing": states.count(State.RUNNING),
        "waiting": states.count(State.QUEUED),
        "restarted": 0,
        "done": all(state.final for state in states),
        "faulted": bool(failed),
        "wait_time": math.ceil(access.seconds_until_done(jobs)),
        "queue_position": min(positions) + 1 if positions else 0,
        "kudos": 0,
        "is_possible": is_possible(jobs),
    }
    return document | ({"message": f"a picture failed: {failed[0]}"} if failed else {})


def is_possible(jobs: Sequence[Job]) -> bool:
    """Whether workers are running for all unfinished jobs."""
    models = {job.recipe.model for job in jobs if not job.state.final}
    if not models:
        return True
    workers = job_store().heartbeats.workers().values()
    return models <= {name for report in workers for name in report.get("models", ())}


def progress_and_pictures(jobs: Sequence[Job], as_url: bool) -> dict[str, Any]:
    """The progress, and a generation for each finished picture."""
    done = [job for job in jobs if job.state is State.DONE]
    generations = [job_to_generation(job, image_value(job, as_url)) for job in done]
    record_received(done)
    return {**progress(jobs), "generations": generations, "shared": False}


def image_value(job: Job, as_url: bool) -> str:
    """The picture's URL, valid for an hour, or WebP in base64; "" if it was deleted in the meantime."""
    if as_url:
        return link_to(job.key, OUTPUT)
    try:
        with conversion_turn():
            return base64.b64encode(write_webp(access.read_image(job.key), QUALITY)).decode()
    except Forgotten:
        return ""


def format_error(status: int, title: str, detail: str, more: Mapping[str, Any]) -> Response:
    """An error of a path under /api/v2. Invalid fields are 400 in this dialect."""
    field = DIALECT_NAMES.get(more.get("field", ""), more.get("field"))
    code = "RequestNotFound" if status == 404 and "/generate/" in request.path else CODES.get(status, "BadRequest")
    if field:
        status, code = 400, code_of_field(field, more["value"], more["fix"])
        detail = f"{field}: {more['value']} is not valid: {more['fix']}"
    response = Response(json.dumps({"message": detail, "rc": code}), status, mimetype="application/json")
    if status in (429, 503):
        response.headers.setdefault("Retry-After", RETRY_SECONDS)
    return response


def code_of_field(field: str, value: str, fix: str) -> str:
    """The dialect's error code for an invalid field. MissingPrompt is only for a prompt without any words."""
    if field == "prompt" and value[:1] in ("'", '"') and len(value) > len("''"):
        return "InvalidPromptSize" if fix.startswith("shorten") else "BadRequest"
    return FIELD_CODES.get(field, "BadRequest")


ERROR_FORMATS[PREFIX] = format_error
