"""The native JSON API, /api/v1: jobs and pictures. See docs/api.md."""

import io
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, abort, redirect, request, send_file
from flask.typing import ResponseReturnValue

from jobs.job import Job, Origin
from memo import BadRecipe, Forgotten, Unavailable
from memo.index import SearchResult
from memo.recipe import check_choice, read_whole, tidy
from memo.webp import write_webp
from web import access
from web.access import LONGEST_SEARCH, find_job, find_picture, own_picture_keys, read_image
from web.auth import current_user
from web.extensions import catalogue, memory, queue
from web.idempotency import HEADER, LONGEST_KEY, run_idempotently
from web.json_body import read_object
from web.limits.gates import conversion_turn
from web.limits.long_requests import event_stream
from web.picture_requests import COUNT, job_document, key_id, picture_document, request_pictures, request_variation

from .documents import (
    JobBody,
    JobDocument,
    JobsDocument,
    ModelsDocument,
    PictureDocument,
    PicturesDocument,
    WebhookSecretDocument,
)
from .openapi import DocumentedResponse, Parameter, documented, ok

bp = Blueprint("api", __name__, url_prefix="/api/v1")

MAX_LISTED = 100
DEFAULT_LISTED = 24
LONGEST_NUMBER = 20  # digits of a number in a query
SEARCHED_FOR_OWN = 200  # search results among which a user's own pictures are looked for
FORMATS = ("png", "webp")
FLAG = {"type": "string", "enum": ["0", "1"], "default": "0"}
LIMIT = Parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": DEFAULT_LISTED},
    "the largest number of results",
)
BEFORE = Parameter("before", {"type": "number"}, "the `next` of the previous page")
NEAR = Parameter(
    "near", {"type": "string"}, f"up to {LONGEST_SEARCH} characters to search for by meaning, nearest pictures first"
)
MODEL = Parameter("model", {"type": "string"}, "only pictures painted by this model")
MINE = Parameter("mine", FLAG, "1: only the pictures that this user received in the last seven days")
FORMAT = Parameter("format", {"type": "string", "enum": list(FORMATS), "default": "png"}, "the file format")
QUALITY = Parameter(
    "quality", {"type": "integer", "minimum": 1, "maximum": 100}, "the quality of a WebP file; lossless by default"
)
REDIRECT = Parameter("redirect", FLAG, "1: redirect to the PNG in the store, if the store serves files itself")
IDEMPOTENCY_KEY = Parameter(
    HEADER,
    {"type": "string", "pattern": f'^([!#-~]{{1,{LONGEST_KEY}}}|"[!#-~]{{1,{LONGEST_KEY}}}")$'},
    "a unique name of this request, such as a UUID: sent again within 24 hours, it returns the same jobs",
    "header",
)
STEP = Parameter("step", {"type": "string"}, "ignored; it gives each new preview an address of its own")
THIS_JOB = {"job_id": "$response.body#/id"}
JOB_LINKS = dict.fromkeys(
    ("get_job", "delete_cancel_job", "post_create_variation", "get_events", "post_label_job"), THIS_JOB
)
FIRST_PICTURE = {"key": "$response.body#/pictures/0/key"}
PICTURE_LINKS = dict.fromkeys(("get_picture", "get_image", "post_feedback", "delete_delete_picture"), FIRST_PICTURE)
CREATED_JOBS = {
    status: DocumentedResponse(
        description, JobDocument | JobsDocument, headers={"Location": "the first job's URL"}, links=JOB_LINKS
    )
    for status, description in (
        (200, "Every picture came from memory."),
        (202, "At least one picture is being painted."),
    )
}
CREATED_JOB = {status: replace(response, document=JobDocument) for status, response in CREATED_JOBS.items()}
FOREVER = "private, max-age=31536000, immutable"
FILE_HEADERS = {"ETag": "identifies the file", "Cache-Control": "allows caching it for a year: it never changes"}


@bp.post("/jobs")
@documented(CREATED_JOBS, errors=(409,), parameters=(IDEMPOTENCY_KEY,), body=JobBody)
def create_job() -> ResponseReturnValue:
    """Request a picture, or several with `count`: 200 if all come from memory, 202 if any must be painted."""
    body = read_object()
    return jobs_response(body, lambda: request_pictures(body), several=body.get(COUNT) is not None)


@bp.post("/jobs/<job_id>/variation")
@documented(CREATED_JOB, errors=(400, 404, 409, 422), parameters=(IDEMPOTENCY_KEY,))
def create_variation(job_id: str) -> ResponseReturnValue:
    """Request a variation: another picture of the same prompt that neither this job nor this user has received."""
    job = find_job(job_id)
    return jobs_response(None, lambda: [request_variation(job, current_user().name)], several=False)


def jobs_response(body: object, create: Callable[[], list[Job]], *, several: bool) -> ResponseReturnValue:
    """The jobs that `create` makes, or those of an earlier request with the same Idempotency-Key."""
    jobs, replayed = run_idempotently(body, create)
    documents = [job_document(job) for job in jobs]
    headers = {"Location": documents[0]["links"]["self"]}
    headers |= {"Idempotency-Replayed": "true"} if replayed else {}
    return {"jobs": documents} if several else documents[0], creation_status(jobs), headers


def creation_status(jobs: Sequence[Job]) -> int:
    """200 if every picture came from memory, 202 if one is being painted."""
    return 200 if all(job.origin is Origin.MEMORY for job in jobs) else 202


@bp.get("/jobs")
@documented(ok(JobsDocument, "The newest jobs."), errors=(422,), parameters=(LIMIT,))
def list_jobs() -> ResponseReturnValue:
    """List jobs, newest first."""
    return {"jobs": [job_document(job) for job in access.recent_jobs(read_limit())]}


@bp.get("/jobs/<job_id>")
@documented(ok(JobDocument, "The job."), errors=(404,))
def job(job_id: str) -> ResponseReturnValue:
    """Get a job's present state."""
    return job_document(find_job(job_id))


@bp.delete("/jobs/<job_id>")
@documented(ok(JobDocument, "The job afterwards."), errors=(404,))
def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel a job; a final job stays as it is."""
    return job_document(access.cancel_job(job_id))


@bp.get("/jobs/<job_id>/preview")
@documented({200: DocumentedResponse("The preview.", media_types=("image/webp",))}, errors=(404,), parameters=(STEP,))
def preview(job_id: str) -> ResponseReturnValue:
    """Get a small, rough image of the unfinished picture; 404 while there is none."""
    image = access.read_preview(find_job(job_id))
    if image is None:
        abort(404, f"there is no preview of job {job_id!r}: it is not being painted, or has taken no step yet")
    return Response(image, mimetype="image/webp", headers={"Cache-Control": "no-store"})


@bp.get("/jobs/<job_id>/events")
@documented(
    {200: DocumentedResponse("Events named `job`, with the job as JSON.", media_types=("text/event-stream",))},
    errors=(404,),
)
def events(job_id: str) -> ResponseReturnValue:
    """Follow a job as Server-Sent Events, from now until it is final."""
    find_job(job_id)
    return event_stream(job_messages(job_id))


def job_messages(job_id: str) -> Iterator[str]:
    """One message per change, and a comment while nothing changes. It ends when the queue does not respond."""
    try:
        for snapshot in queue().watch(job_id):
            yield f"event: job\ndata: {json.dumps(job_document(snapshot))}\n\n" if snapshot else ": still here\n\n"
    except Unavailable as error:
        yield f": {error}\n\n"


@bp.get("/pictures")
@documented(
    {200: DocumentedResponse("A page of pictures.", PicturesDocument, links=PICTURE_LINKS)},
    errors=(422,),
    parameters=(LIMIT, BEFORE, NEAR, MODEL, MINE),
)
def list_pictures() -> ResponseReturnValue:
    """List pictures, newest first, in pages; with `near`, search by meaning, in a single page."""
    count, before, keys = read_limit(), read_cursor(), own_picture_keys() if read_flag("mine") else None
    if words := read_search_words():
        return {"pictures": [result_document(result) for result in search(words, count, keys)], "next": None}
    if keys is not None and not keys:
        return {"pictures": [], "next": None}
    filters = {"model": request.args.get("model", ""), "keys": keys}
    pictures = memory().newest(scope=current_user().scope, limit=count, before=before, **filters)
    next_cursor = str(pictures[-1].created) if len(pictures) == count else None
    return {"pictures": [picture_document(picture) for picture in pictures], "next": next_cursor}


def search(words: str, count: int, keys: Collection[str] | None) -> list[SearchResult]:
    """The pictures nearest in meaning; only those with these keys, unless `keys` is None."""
    limit = count if keys is None else SEARCHED_FOR_OWN
    model = request.args.get("model", "")
    results = memory().search(words, scope=current_user().scope, limit=limit, model=model)
    return [result for result in results if keys is None or result.picture.key in keys][:count]


def result_document(result: SearchResult) -> dict[str, Any]:
    """A search result: a picture and its cosine similarity."""
    return {**picture_document(result.picture), "score": round(result.cosine, 4)}


@bp.get("/pictures/<key>")
@documented(ok(PictureDocument, "The picture."), errors=(404,))
def picture(key: str) -> ResponseReturnValue:
    """Get a picture's recipe and metadata."""
    return picture_document(find_picture(key))


@bp.get("/pictures/<key>/image")
@documented(
    {
        200: DocumentedResponse("The file.", media_types=("image/png", "image/webp"), headers=FILE_HEADERS),
        206: DocumentedResponse(
            "The part that the header Range names.", media_types=("image/png", "image/webp"), headers=FILE_HEADERS
        ),
        302: DocumentedResponse(
            "The PNG is at Location, for an hour.", media_types=("text/html",), headers={"Location": "the PNG's URL"}
        ),
        304: DocumentedResponse("If-None-Match shows that the client has the file already.", headers=FILE_HEADERS),
    },
    errors=(404, 416, 422),
    parameters=(FORMAT, QUALITY, REDIRECT),
)
def image(key: str) -> ResponseReturnValue:
    """Download a picture as PNG or WebP, with its recipe inside.

    The file never changes and can be cached for ever. Ranges and ETags are supported.
    """
    format, quality = read_choice("format", FORMATS), read_quality()
    if read_flag("redirect") and format == "png" and (link := store_link(key)):
        return redirect(link)
    png, name = read_image(key), f"{key}.{format}"
    etag = key if format == "png" else f"{key}-{quality or 'lossless'}"
    if format == "png" or request.if_none_match.contains(etag):
        data = png
    else:
        with conversion_turn():
            data = write_webp(png, quality)
    response = send_file(io.BytesIO(data), f"image/{format}", download_name=name, etag=etag, conditional=True)
    response.headers["Cache-Control"] = FOREVER
    return response


@bp.get("/pictures/<key>/thumbnail")
@documented(
    {
        200: DocumentedResponse(
            "A small copy without its recipe.", media_types=("image/webp",), headers=FILE_HEADERS
        ),
        304: DocumentedResponse("If-None-Match shows that the client has the file already.", headers=FILE_HEADERS),
    },
    errors=(404,),
)
def thumbnail(key: str) -> ResponseReturnValue:
    """Download a WebP of at most 384 pixels a side, for pages that show many pictures."""
    data = io.BytesIO(access.read_thumbnail(key))
    response = send_file(data, "image/webp", download_name=f"{key}.webp", etag=f"{key}-small", conditional=True)
    response.headers["Cache-Control"] = FOREVER
    return response


def store_link(key: str) -> str | None:
    """The address at which the store itself serves the PNG, if it does; raises Forgotten or BadKey."""
    scope = current_user().visible_scope
    if not memory().belongs(key, scope):
        raise Forgotten(key)
    return memory().link(key, scope)


@bp.delete("/pictures/<key>")
@documented({204: DocumentedResponse("The picture is deleted.")}, errors=(404,))
def delete_picture(key: str) -> ResponseReturnValue:
    """Delete a picture: its file, metadata and index entry, and its initial image if no other picture uses it."""
    access.delete_picture(key)
    return "", 204


@bp.get("/models")
@documented(ok(ModelsDocument, "The models."))
def list_models() -> ResponseReturnValue:
    """List the available models, the default first."""
    return {"models": catalogue().to_dicts()}


@bp.get("/webhook-secret")
@documented(ok(WebhookSecretDocument, "The secret."), errors=(404,))
def webhook_secret() -> ResponseReturnValue:
    """Get the secret that verifies webhooks which were requested with this API key."""
    secret = queue().webhooks.secret_of(key) if (key := key_id()) else ""
    if not secret:
        abort(404, "there is none: send an API key, and set JOBS_WEBHOOK_SECRET on this server")
    return {"secret": secret}, {"Cache-Control": "no-store"}


def read_limit() -> int:
    """The query parameter `limit`; raises BadRecipe."""
    text = request.args.get("limit", str(DEFAULT_LISTED))
    return read_number("limit", text, MAX_LISTED)


def read_cursor() -> float | None:
    """The query parameter `before`, in seconds since 1970; raises BadRecipe."""
    before = request.args.get("before")
    return None if before is None else parse_cursor(before)


def parse_cursor(text: str) -> float:
    """A cursor as seconds since 1970; raises BadRecipe."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise BadRecipe("before", text, "use the value of `next` from the previous page")
    return seconds


def read_search_words() -> str:
    """The query parameter `near`, tidied like a prompt; raises BadRecipe."""
    text = request.args.get("near", "")
    if len(text) > LONGEST_SEARCH:
        raise BadRecipe("near", text, f"shorten it to at most {LONGEST_SEARCH} characters")
    return tidy("near", text)


def read_choice(name: str, choices: tuple[str, ...]) -> str:
    """A query parameter that must be one of these, by default the first; raises BadRecipe."""
    value = request.args.get(name, choices[0])
    check_choice(name, value, choices)
    return value


def read_flag(name: str) -> bool:
    """A query parameter that is 1 or 0; raises BadRecipe."""
    return read_choice(name, ("0", "1")) == "1"


def read_quality() -> int | None:
    """The query parameter `quality`, None (lossless) if it is absent; raises BadRecipe."""
    text = request.args.get("quality")
    return None if text is None else read_number("quality", text, 100)


def read_number(name: str, text: str, most: int) -> int:
    """A query parameter as a whole number from 1 to `most`; raises BadRecipe."""
    number = int(text) if len(text) < LONGEST_NUMBER and text.isascii() and text.isdigit() else 0
    return read_whole(name, number or text, 1, most)
