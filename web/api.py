"""The native JSON API, /api/v1: jobs and pictures. See docs/api.md."""

import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import NoReturn

from flask import Blueprint, Response, abort, current_app, request, send_file, stream_with_context
from flask.typing import ResponseReturnValue

from memo import BadRecipe, Memory, Unavailable
from worker.jobs import Job, Origin
from worker.queue import Queue

from .asking import COUNT, another, ask, cancel, describe, describe_picture, image_of, job_of, picture_of
from .caller import who

bp = Blueprint("api", __name__, url_prefix="/api/v1")

MOST_LISTED = 100
LISTED = 24


def queue() -> Queue:
    """The door to the workers."""
    found: Queue = current_app.extensions["queue"]
    return found


def memory() -> Memory:
    """What was painted."""
    found: Memory = current_app.extensions["memory"]
    return found


@bp.post("/jobs")
def create_job() -> ResponseReturnValue:
    """Ask for a picture, or with `count` for several: 200 when memory has them all, 202 when some are painted."""
    body = read_object()
    jobs = ask(body)
    told = [describe(job) for job in jobs]
    answer = told[0] if body.get(COUNT) is None else {"jobs": told}
    return answer, status_of(jobs), {"Location": told[0]["links"]["self"]}


@bp.post("/jobs/<job_id>/another")
def create_another(job_id: str) -> ResponseReturnValue:
    """Ask for a picture of the same meaning that was not given yet to this job, or to this user."""
    job = another(job_of(job_id), who().name)
    answer = describe(job)
    return answer, status_of([job]), {"Location": answer["links"]["self"]}


def status_of(jobs: Sequence[Job]) -> int:
    """200 when memory had every picture, 202 when one is being painted."""
    return 200 if all(job.origin is Origin.MEMORY for job in jobs) else 202


@bp.get("/jobs")
def list_jobs() -> ResponseReturnValue:
    """The newest jobs first."""
    return {"jobs": [describe(job) for job in queue().recent(limit())]}


@bp.get("/jobs/<job_id>")
def job(job_id: str) -> ResponseReturnValue:
    """How a job stands."""
    return describe(job_of(job_id))


@bp.delete("/jobs/<job_id>")
def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel a job; one that is final already stays as it is."""
    return describe(cancel(job_id))


@bp.get("/jobs/<job_id>/preview")
def preview(job_id: str) -> ResponseReturnValue:
    """What the picture looks like by now, small and rough; 404 when there is nothing to see."""
    found = queue().preview(job_of(job_id).id)
    if found is None:
        abort(404, f"there is no preview of a job {job_id!r}: it is not being painted, or nothing can be seen yet")
    return Response(found, mimetype="image/webp", headers={"Cache-Control": "no-store"})


@bp.get("/jobs/<job_id>/events")
def events(job_id: str) -> ResponseReturnValue:
    """The job as Server-Sent Events, from now until it is final."""
    job_of(job_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Response(stream_with_context(messages(job_id)), mimetype="text/event-stream", headers=headers)


def messages(job_id: str) -> Iterator[str]:
    """One message a change, a comment when nothing happens; the stream ends when the queue does not answer."""
    try:
        for snapshot in queue().watch(job_id):
            yield f"event: job\ndata: {json.dumps(describe(snapshot))}\n\n" if snapshot else ": still here\n\n"
    except Unavailable as error:
        yield f": {error}\n\n"


@bp.get("/pictures")
def list_pictures() -> ResponseReturnValue:
    """The gallery, newest first; `next` is the cursor for `before`."""
    count = limit()
    before = request.args.get("before")
    pictures = memory().newest(limit=count, before=as_time(before) if before else None)
    cursor = str(pictures[-1].created) if len(pictures) == count else None
    return {"pictures": [describe_picture(picture) for picture in pictures], "next": cursor}


@bp.get("/pictures/<key>")
def picture(key: str) -> ResponseReturnValue:
    """What is known of a picture."""
    return describe_picture(picture_of(key))


@bp.get("/pictures/<key>/image")
def image(key: str) -> ResponseReturnValue:
    """The PNG; it never changes, so it may be cached for ever. Ranges and ETags are answered."""
    answer = send_file(
        io.BytesIO(image_of(key)), "image/png", download_name=f"{key}.png", etag=key, conditional=True
    )
    answer.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return answer


@bp.delete("/pictures/<key>")
def delete_picture(key: str) -> ResponseReturnValue:
    """Forget a picture: bytes, metadata and index entry."""
    memory().forget(key)
    return "", 204


@bp.get("/models")
def list_models() -> ResponseReturnValue:
    """The models there are, the default one first."""
    return {"models": current_app.extensions["catalogue"].describe()}


def read_object() -> dict[str, object]:
    """The body as a JSON object; 415 for another content type, 400 for anything that is not one."""
    if not request.is_json:
        abort(415, "send the request as JSON, with the header Content-Type: application/json")
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        abort(400, f"the body is not JSON: {error}")
    if not isinstance(body, dict):
        abort(400, 'the body must be a JSON object such as {"prompt": "a red fox in the snow"}')
    return body


def limit() -> int:
    """The query parameter `limit`; raises BadRecipe."""
    given = request.args.get("limit", str(LISTED))
    if not (given.isascii() and given.isdigit()) or not 1 <= int(given[:9]) <= MOST_LISTED:
        raise BadRecipe("limit", given, f"it must be a whole number from 1 to {MOST_LISTED}")
    return int(given)


def as_time(given: str) -> float:
    """A cursor as seconds since 1970; raises BadRecipe."""
    try:
        moment = float(given)
    except ValueError:
        moment = math.nan
    if not math.isfinite(moment):
        raise BadRecipe("before", given, "use the `next` of the answer before")
    return moment


def no_job(job_id: str) -> NoReturn:
    """404."""
    abort(404, f"there is no job {job_id[:40]!r}; jobs are kept for seven days")
