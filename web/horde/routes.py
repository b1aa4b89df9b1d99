"""AI-Horde's dialect, /api/v2: ask for pictures, look how far they are, fetch them, cancel.

As https://github.com/Haidra-Org/AI-Horde has it, for clients whose base URL is changed. There are no kudos here, and
no volunteers: what a request means is read by `horde_request`, and painted like any other.
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
from jobs.serialize import as_generation
from jobs.webhooks.deliveries import HORDE, QUALITY, Hook
from memo import Forgotten, Picture
from memo.webp import write_webp
from web import picture_requests
from web.auth import who
from web.formats import Form
from web.json_body import read_object
from web.links import link_to
from web.problems import RETRY_SECONDS, SHAPES
from web.services import catalogue, job_store, queue

from .generation_request import THEIRS, HordeRequest, read_request, warning

PREFIX = "/api/v2"
bp = Blueprint("horde", __name__, url_prefix=PREFIX)

LARGEST_REQUEST = 16 * 2**20  # bytes: a picture to start from comes with it
FORM = Form("webp", QUALITY)
CODES = {  # the dialect's own names of faults, by status …
    401: "InvalidAPIKey",
    403: "Forbidden",
    404: "ThingNotFound",
    413: "SourceImageSizeExceeded",
    429: "TooManyPrompts",
    503: "MaintenanceMode",
}
FAULTS = {  # … and by field
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
    """Ask for pictures: 202 with the id of them all."""
    request.max_content_length = LARGEST_REQUEST
    asked = read_request(read_object(), catalogue().models())
    webhook = picture_requests.check_webhook(asked.webhook)
    init_image = {"init_image": picture_requests.keep_upload(asked.source)} if asked.source else {}
    native = {**asked.native, **init_image}
    wanted = picture_requests.wanted_of(native)
    if asked.dry_run:
        return {"kudos": 0}
    name = str(uuid.uuid4())
    with picture_requests.as_one(wanted.count) as jobs:
        picture_requests.begin(wanted, jobs, wanted.count)
        job_store().requests.keep_group(name, [job.id for job in jobs], {"as_url": asked.as_url})
        for job in jobs if webhook else ():
            img = link_to(job.key, FORM, kept=True) if asked.as_url else ""
            queue().webhooks.notify(job, Hook(url=webhook, job=job.id, form=HORDE, request=name, img=img))
    return accepted(name, asked, jobs), 202


def accepted(name: str, asked: HordeRequest, jobs: Sequence[Job]) -> dict[str, Any]:
    """The answer to a request that is followed."""
    answer = {"id": name, "kudos": 0, "warnings": asked.warnings}
    if not possible(jobs):
        idle = f"no worker paints with {jobs[0].recipe.model} at the moment: the request waits for one"
        answer |= {"message": idle, "warnings": [*asked.warnings, warning("NoAvailableWorker", idle)]}
    return answer


@bp.get("/generate/check/<name>")
def check(name: str) -> ResponseReturnValue:
    """How far they are."""
    jobs, _ = group(name)
    return progress(jobs)


@bp.get("/generate/status/<name>")
def status(name: str) -> ResponseReturnValue:
    """How far they are, and the pictures there are by now."""
    jobs, as_url = group(name)
    return whole(jobs, as_url)


@bp.delete("/generate/status/<name>")
def cancel(name: str) -> ResponseReturnValue:
    """Cancel what is not final, and answer with the pictures there are."""
    jobs, as_url = group(name)
    return whole([picture_requests.cancel(job.id) for job in jobs], as_url)


@bp.get("/status/models")
def models() -> ResponseReturnValue:
    """The models there are, how many workers paint with each, and what waits for them."""
    if request.args.get("type", "image") != "image":
        return []
    served = [name for facts in job_store().heartbeats.workers().values() for name in facts.get("models", ())]
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
    """That somebody is here."""
    return {"message": "OK", "version": version("memoaized")}


@bp.get("/find_user")
def find_user() -> ResponseReturnValue:
    """Whose key it is."""
    caller = who()
    name = caller.name if caller.holder else "Anonymous"
    return {
        "username": f"{name}#0",
        "id": 0,
        "kudos": 0,
        "moderator": caller.admin,
        "trusted": True,
        "worker_count": 0,
    }


def group(name: str) -> tuple[list[Job], bool]:
    """The jobs of a request, and whether pictures are told by URL; 404 for one that is not the caller's."""
    found = job_store().requests.group(name)
    with contextlib.suppress(NotFound):
        if found is not None:
            return picture_requests.jobs_of(found["jobs"]), bool(found["as_url"])
    abort(404, f"there is no request {name[:40]!r}; requests are kept for seven days")


def progress(jobs: Sequence[Job]) -> dict[str, Any]:
    """Of the whole request."""
    states = [job.state for job in jobs]
    failed = [job.error for job in jobs if job.state is State.FAILED]
    positions = [job.position for job in jobs if job.position is not None]
    told = {
        "finished": states.count(State.DONE),
        "processing": states.count(State.RUNNING),
        "waiting": states.count(State.QUEUED),
        "restarted": 0,
        "done": all(state.final for state in states),
        "faulted": bool(failed),
        "wait_time": wait_time(jobs),
        "queue_position": min(positions) + 1 if positions else 0,
        "kudos": 0,
        "is_possible": possible(jobs),
    }
    return told | ({"message": f"it failed: {failed[0]}"} if failed else {})


def wait_time(jobs: Sequence[Job]) -> int:
    """Seconds until the last of them is painted, as such paintings go, one after the other."""
    longest = 0.0
    for job in jobs:
        if job.position is not None:
            like = Picture(recipe=job.recipe, created=0.0, seconds=0.0)  # nothing is known when none was painted yet
            longest = max(longest, (job.position + 1) * job_store().statistics.mean_cost(like)[0])
        longest = max(longest, job.seconds_left or 0.0)
    return math.ceil(longest)


def possible(jobs: Sequence[Job]) -> bool:
    """Whether somebody is there to paint what is not final yet."""
    wanted = {job.recipe.model for job in jobs if not job.state.final}
    if not wanted:
        return True
    return wanted <= {name for facts in job_store().heartbeats.workers().values() for name in facts.get("models", ())}


def whole(jobs: Sequence[Job], as_url: bool) -> dict[str, Any]:
    """Progress, and a generation for each picture there is."""
    done = [job for job in jobs if job.state is State.DONE]
    return {
        **progress(jobs),
        "generations": [as_generation(job, image(job, as_url)) for job in done],
        "shared": False,
    }


def image(job: Job, as_url: bool) -> str:
    """The picture's URL, good for an hour, or WebP in base64; "" for one that was forgotten meanwhile."""
    if as_url:
        return link_to(job.key, FORM)
    try:
        return base64.b64encode(write_webp(picture_requests.image_of(job.key), QUALITY)).decode()
    except Forgotten:
        return ""


def shape(status: int, title: str, detail: str, more: Mapping[str, Any]) -> Response:
    """Errors of all paths below /api/v2; what cannot be followed is 400 in this dialect."""
    field = THEIRS.get(more.get("field", ""), more.get("field"))
    code = "RequestNotFound" if status == 404 and "/generate/" in request.path else CODES.get(status, "BadRequest")
    if field:
        status, code = 400, FAULTS.get(field, "BadRequest")
        detail = f"{field}: {more['value']} cannot be used; {more['fix']}"
    answer = Response(json.dumps({"message": detail, "rc": code}), status, mimetype="application/json")
    if status in (429, 503):
        answer.headers.setdefault("Retry-After", RETRY_SECONDS)
    return answer


SHAPES[PREFIX] = shape
