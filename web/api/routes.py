"""The native JSON API, /api/v1: jobs and pictures. See docs/api.md."""

import io
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from flask import Blueprint, Response, abort, redirect, request, send_file
from flask.typing import ResponseReturnValue

from jobs.job import Job, Origin
from memo import BadRecipe, Forgotten, Unavailable
from memo.index import Neighbour
from memo.recipe import check_choice, tidy
from memo.webp import write_webp
from web.auth import who
from web.idempotency import HEADER, LONGEST, once
from web.json_body import read_object
from web.picture_requests import (
    COUNT,
    LONGEST_SEARCH,
    another,
    ask,
    cancel,
    describe,
    describe_picture,
    forget,
    image_of,
    job_of,
    own,
    picture_of,
    preview_of,
    recent,
    thumbnail_of,
)
from web.services import catalogue, memory, queue
from web.streams import streamed

from .documents import JobBody, JobDocument, JobsDocument, ModelsDocument, PictureDocument, PicturesDocument
from .openapi import Answer, Parameter, described, told

bp = Blueprint("api", __name__, url_prefix="/api/v1")

MOST_LISTED = 100
LISTED = 24
LOOKED_AT = 200  # pictures that are searched for one's own
FORMATS = ("png", "webp")
FLAG = {"type": "string", "enum": ["0", "1"], "default": "0"}
LIMIT = Parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED}, "how many at most"
)
BEFORE = Parameter("before", {"type": "number"}, "the `next` of the answer before")
NEAR = Parameter(
    "near", {"type": "string"}, f"up to {LONGEST_SEARCH} characters: what shows something like it, nearest first"
)
MODEL = Parameter("model", {"type": "string"}, "painted by this model")
MINE = Parameter("mine", FLAG, "1: only what this caller was given in the last seven days")
FORMAT = Parameter("format", {"type": "string", "enum": list(FORMATS), "default": "png"}, "of the file")
QUALITY = Parameter(
    "quality", {"type": "integer", "minimum": 1, "maximum": 100}, "of WebP; without it nothing is lost"
)
REDIRECT = Parameter("redirect", FLAG, "1: 302 to the store's own address of the PNG, where the store has one")
IDEMPOTENCY_KEY = Parameter(
    HEADER,
    {"type": "string", "pattern": f'^([!#-~]{{1,{LONGEST}}}|"[!#-~]{{1,{LONGEST}}}")$'},
    "a name of this request, such as a UUID: sent again within 24 hours, it is answered by the same jobs",
    "header",
)
STEP = Parameter("step", {"type": "string"}, "any; makes a new address of a new preview")
JOB = {"job_id": "$response.body#/id"}
AFTER = dict.fromkeys(("get_job", "delete_cancel_job", "post_create_another", "get_events", "post_label_job"), JOB)
NEWEST = {"key": "$response.body#/pictures/0/key"}
FIRST = dict.fromkeys(("get_picture", "get_image", "post_feedback", "delete_delete_picture"), NEWEST)
ASKED = {
    200: Answer(
        "Memory had every picture.", JobDocument | JobsDocument, headers={"Location": "the first job"}, links=AFTER
    ),
    202: Answer("One is painted.", JobDocument | JobsDocument, headers={"Location": "the first job"}, links=AFTER),
}
ONE = {status: replace(answer, document=JobDocument) for status, answer in ASKED.items()}
FOREVER = "private, max-age=31536000, immutable"
FILE = {"ETag": "of the file", "Cache-Control": "it never changes"}


@bp.post("/jobs")
@described(ASKED, refused=(409,), parameters=(IDEMPOTENCY_KEY,), body=JobBody)
def create_job() -> ResponseReturnValue:
    """Ask for a picture, or with `count` for several: 200 when memory has them all, 202 when some are painted."""
    body = read_object()
    return asked(body, lambda: ask(body), several=body.get(COUNT) is not None)


@bp.post("/jobs/<job_id>/another")
@described(ONE, refused=(400, 404, 409, 422), parameters=(IDEMPOTENCY_KEY,))
def create_another(job_id: str) -> ResponseReturnValue:
    """Ask for a picture of the same meaning that was not given yet to this job, or to this user."""
    found = job_of(job_id)
    return asked(None, lambda: [another(found, who().name)], several=False)


def asked(body: object, work: Callable[[], list[Job]], *, several: bool) -> ResponseReturnValue:
    """The jobs of a request; those of an earlier one, if it had the same Idempotency-Key."""
    jobs, again = once(body, work)
    told = [describe(job) for job in jobs]
    headers = {"Location": told[0]["links"]["self"], **({"Idempotency-Replayed": "true"} if again else {})}
    return {"jobs": told} if several else told[0], status_of(jobs), headers


def status_of(jobs: Sequence[Job]) -> int:
    """200 when memory had every picture, 202 when one is being painted."""
    return 200 if all(job.origin is Origin.MEMORY for job in jobs) else 202


@bp.get("/jobs")
@described(told(JobsDocument, "The newest jobs."), refused=(422,), parameters=(LIMIT,))
def list_jobs() -> ResponseReturnValue:
    """The newest jobs first."""
    return {"jobs": [describe(job) for job in recent(limit())]}


@bp.get("/jobs/<job_id>")
@described(told(JobDocument, "The job as it stands now."), refused=(404,))
def job(job_id: str) -> ResponseReturnValue:
    """How a job stands."""
    return describe(job_of(job_id))


@bp.delete("/jobs/<job_id>")
@described(told(JobDocument, "The job afterwards."), refused=(404,))
def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel a job; one that is final already stays as it is."""
    return describe(cancel(job_id))


@bp.get("/jobs/<job_id>/preview")
@described({200: Answer("The preview.", media=("image/webp",))}, refused=(404,), parameters=(STEP,))
def preview(job_id: str) -> ResponseReturnValue:
    """What the picture looks like by now, small and rough; 404 when there is nothing to see."""
    found = preview_of(job_of(job_id))
    if found is None:
        abort(404, f"there is no preview of a job {job_id!r}: it is not being painted, or nothing can be seen yet")
    return Response(found, mimetype="image/webp", headers={"Cache-Control": "no-store"})


@bp.get("/jobs/<job_id>/events")
@described(
    {200: Answer("Messages `event: job` with the job as JSON in `data`.", media=("text/event-stream",))},
    refused=(404,),
)
def events(job_id: str) -> ResponseReturnValue:
    """The job as Server-Sent Events, from now until it is final."""
    job_of(job_id)
    return streamed(messages(job_id))


def messages(job_id: str) -> Iterator[str]:
    """One message a change, a comment when nothing happens; the stream ends when the queue does not answer."""
    try:
        for snapshot in queue().watch(job_id):
            yield f"event: job\ndata: {json.dumps(describe(snapshot))}\n\n" if snapshot else ": still here\n\n"
    except Unavailable as error:
        yield f": {error}\n\n"


@bp.get("/pictures")
@described(
    {200: Answer("A page of pictures.", PicturesDocument, links=FIRST)},
    refused=(422,),
    parameters=(LIMIT, BEFORE, NEAR, MODEL, MINE),
)
def list_pictures() -> ResponseReturnValue:
    """The gallery, newest first; `next` is the cursor for `before`. With `near` a search by meaning, in one page."""
    count, before, keys = limit(), cursor(), own() if flag("mine") else None
    if words := near():
        return {"pictures": [scored(one) for one in found(words, count, keys)], "next": None}
    if keys is not None and not keys:
        return {"pictures": [], "next": None}
    only = {"model": request.args.get("model", ""), "keys": keys}
    pictures = memory().newest(scope=who().scope, limit=count, before=before, **only)
    following = str(pictures[-1].created) if len(pictures) == count else None
    return {"pictures": [describe_picture(picture) for picture in pictures], "next": following}


def found(words: str, count: int, keys: Collection[str] | None) -> list[Neighbour]:
    """The pictures nearest in meaning, of these keys where some are given."""
    many = count if keys is None else LOOKED_AT
    pictures = memory().search(words, scope=who().scope, limit=many, model=request.args.get("model", ""))
    return [one for one in pictures if keys is None or one.key in keys][:count]


def scored(one: Neighbour) -> dict[str, Any]:
    """A picture with its cosine."""
    return {**describe_picture(one.found.picture), "score": round(one.cosine, 4)}


@bp.get("/pictures/<key>")
@described(told(PictureDocument, "The picture."), refused=(404,))
def picture(key: str) -> ResponseReturnValue:
    """What is known of a picture."""
    return describe_picture(picture_of(key))


@bp.get("/pictures/<key>/image")
@described(
    {
        200: Answer("The file.", media=("image/png", "image/webp"), headers=FILE),
        206: Answer("The part that the header Range names.", media=("image/png", "image/webp"), headers=FILE),
        302: Answer("It is at the Location for an hour.", media=("text/html",), headers={"Location": "of the PNG"}),
        304: Answer("It is known, as If-None-Match says.", headers=FILE),
    },
    refused=(404, 416, 422),
    parameters=(FORMAT, QUALITY, REDIRECT),
)
def image(key: str) -> ResponseReturnValue:
    """The PNG or WebP with its recipe, cacheable for ever since it never changes; ranges and ETags are answered."""
    kind, lossy = choice("format", FORMATS), quality()
    if flag("redirect") and kind == "png" and (link := link_of(key)):
        return redirect(link)
    png, name = image_of(key), f"{key}.{kind}"
    etag = key if kind == "png" else f"{key}-{lossy or 'lossless'}"
    if kind == "png" or request.if_none_match.contains(etag):
        data = png
    else:
        data = write_webp(png, lossy)
    answer = send_file(io.BytesIO(data), f"image/{kind}", download_name=name, etag=etag, conditional=True)
    answer.headers["Cache-Control"] = FOREVER
    return answer


@bp.get("/pictures/<key>/thumbnail")
@described(
    {
        200: Answer("A small copy without its recipe.", media=("image/webp",), headers=FILE),
        304: Answer("It is known, as If-None-Match says.", headers=FILE),
    },
    refused=(404,),
)
def thumbnail(key: str) -> ResponseReturnValue:
    """WebP of at most 384 pixels a side, for pages that show many pictures."""
    found = io.BytesIO(thumbnail_of(key))
    answer = send_file(found, "image/webp", download_name=f"{key}.webp", etag=f"{key}-small", conditional=True)
    answer.headers["Cache-Control"] = FOREVER
    return answer


def link_of(key: str) -> str | None:
    """Where the store itself serves the PNG, if it does; raises Forgotten, or BadKey."""
    sees = who().sees
    if not memory().belongs(key, sees):
        raise Forgotten(key)
    return memory().link(key, sees)


@bp.delete("/pictures/<key>")
@described({204: Answer("It is forgotten.")}, refused=(404,))
def delete_picture(key: str) -> ResponseReturnValue:
    """Forget a picture: bytes, metadata and index entry, and what it alone was started from."""
    forget(key)
    return "", 204


@bp.get("/models")
@described(told(ModelsDocument, "The models."))
def list_models() -> ResponseReturnValue:
    """The models there are, the default one first."""
    return {"models": catalogue().describe()}


def limit() -> int:
    """The query parameter `limit`; raises BadRecipe."""
    given = request.args.get("limit", str(LISTED))
    if not (given.isascii() and given.isdigit()) or not 1 <= int(given[:9]) <= MOST_LISTED:
        raise BadRecipe("limit", given, f"it must be a whole number from 1 to {MOST_LISTED}")
    return int(given)


def cursor() -> float | None:
    """The query parameter `before`; raises BadRecipe."""
    before = request.args.get("before")
    return None if before is None else as_time(before)


def near() -> str:
    """The query parameter `near`, tidied like a prompt; raises BadRecipe."""
    given = request.args.get("near", "")
    if len(given) > LONGEST_SEARCH:
        raise BadRecipe("near", given, f"shorten it to at most {LONGEST_SEARCH} characters")
    return tidy("near", given)


def choice(name: str, choices: tuple[str, ...]) -> str:
    """A query parameter that is one of these, the first if it is not there; raises BadRecipe."""
    given = request.args.get(name, choices[0])
    check_choice(name, given, choices)
    return given


def flag(name: str) -> bool:
    """A query parameter that is 1 or 0; raises BadRecipe."""
    return choice(name, ("0", "1")) == "1"


def quality() -> int | None:
    """The query parameter `quality`; raises BadRecipe."""
    given = request.args.get("quality")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit()) or not 1 <= int(given[:9]) <= 100:
        raise BadRecipe("quality", given, "it must be a whole number from 1 to 100")
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
