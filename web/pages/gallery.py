"""The gallery: remembered pictures, newest first or by meaning, and new ones as they are finished."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from memo import Picture, Unavailable
from memo.recipe import drop_invisible
from web.access import LONGEST_SEARCH, own_picture_keys
from web.auth import current_user
from web.extensions import catalogue, job_store, memory, queue
from web.limits.long_requests import event_stream

from .create_page import newest_event_id

bp = Blueprint("gallery", __name__, url_prefix="/gallery")

PAGE_SIZE = 24  # pictures
MAX_RESULTS = 60  # pictures of a search
HEARTBEAT_SECONDS = 10.0  # a closed window is noticed at the next heartbeat
OWN_SECONDS = 3.0  # between two lookups of the user's own pictures in one stream

FinishedPicture = tuple[str, Picture]  # with its id in the stream of finished pictures


@dataclass(frozen=True, slots=True)
class GalleryFilter:
    """Which pictures the gallery shows."""

    words: str = ""  # searched by meaning
    model: str = ""
    mine: bool = False

    def query(self, **more: object) -> dict[str, Any]:
        """The filter as arguments of `url_for`, with further ones."""
        own = {"q": self.words, "model": self.model, "mine": "1" if self.mine else ""}
        return {name: value for name, value in {**own, **more}.items() if value}


@bp.get("")
def gallery() -> ResponseReturnValue:
    """One page of pictures, with a link to older ones."""
    filter = read_filter()
    since = newest_event_id()
    try:
        pictures, older = page_of_pictures(filter, read_cursor())
    except Unavailable:
        pictures, older = None, None
    live = bool(since) and not filter.words and read_cursor() is None
    return render_template(
        "gallery.html",
        filter=filter,
        models=catalogue().to_dicts(),
        pictures=pictures,
        more=url_for("gallery.gallery", **filter.query(before=older)) if older else None,
        events=url_for("gallery.events", **filter.query(since=since)) if live else None,
        new_pictures=url_for("gallery.new_pictures", **filter.query(since=since)) if live else None,
    )


@bp.get("/events")
def events() -> ResponseReturnValue:
    """The tiles of new pictures as Server-Sent Events, without end."""
    since = read_event_id(request.headers.get("Last-Event-ID") or request.args.get("since"))
    return event_stream(picture_messages(since, read_filter()))


@bp.get("/new")
def new_pictures() -> ResponseReturnValue:
    """New pictures as JSON, for browsers that event streams do not reach: tiles, and the address of the next ones."""
    filter = read_filter()
    since = read_event_id(request.args.get("since"))
    finished = filter_finished(job_store().jobs.finished_pictures(since), filter)
    pictures = [picture for _, picture in finished]
    next_url = url_for("gallery.new_pictures", **filter.query(since=finished[-1][0] if finished else since))
    return {"tiles": render_tiles(list(reversed(pictures))), "next": next_url}


def picture_messages(since: str, filter: GalleryFilter) -> Iterator[str]:
    """One message per picture, and comments in between: only writing reveals that a client is gone.

    Comments are sent by the clock alone, so that they tell nothing of pictures that are not shown. It ends when the
    queue does not respond.
    """
    yield "retry: 1000\nevent: ready\ndata: true\n\n"  # a page that does not receive this polls instead
    try:
        for pictures in watch_pictures(since, filter):
            for event_id, picture in pictures:
                yield f"id: {event_id}\nevent: picture\ndata: {json.dumps(render_tiles([picture]))}\n\n"
            if not pictures:
                yield ": still here\n\n"
    except Unavailable as error:
        yield f": {error}\n\n"


def watch_pictures(since: str, filter: GalleryFilter) -> Iterator[list[FinishedPicture]]:
    """The pictures of this gallery as they are finished; an empty list at each heartbeat.

    Finding a user's own pictures means reading all their jobs, so with `mine` new pictures are collected for
    OWN_SECONDS and checked together.
    """
    pause = OWN_SECONDS if filter.mine else 0.0
    pending: list[FinishedPicture] = []
    next_check = 0.0
    for finished in queue().watch_finished(since, heartbeat=pause or HEARTBEAT_SECONDS):
        pending += [finished] if finished and is_candidate(finished[1], filter) else []
        if pending and time.monotonic() >= next_check:
            next_check = time.monotonic() + pause
            if shown := filter_finished(pending, filter):
                yield shown
            pending = []
        if finished is None:
            yield []


def page_of_pictures(filter: GalleryFilter, before: float | None) -> tuple[list[Picture], float | None]:
    """The pictures of one page, and the cursor of the next page if there is one. Raises Unavailable."""
    if filter.words:
        return search(filter), None
    keys = own_picture_keys() if filter.mine else None
    if keys is not None and not keys:
        return [], None
    scope = current_user().scope
    pictures = memory().newest(scope=scope, limit=PAGE_SIZE, before=before, model=filter.model, keys=keys)
    return pictures, pictures[-1].created if len(pictures) == PAGE_SIZE else None


def search(filter: GalleryFilter) -> list[Picture]:
    """The pictures whose prompts are nearest in meaning to the words, nearest first."""
    results = memory().search(filter.words, scope=current_user().scope, limit=MAX_RESULTS, model=filter.model)
    pictures = [result.picture for result in results]
    keys = own_picture_keys() if filter.mine else None
    return [picture for picture in pictures if keys is None or picture.key in keys]


def filter_finished(finished: Sequence[FinishedPicture], filter: GalleryFilter) -> list[FinishedPicture]:
    """The new pictures that this gallery shows."""
    visible = [(event_id, picture) for event_id, picture in finished if is_candidate(picture, filter)]
    keys = own_picture_keys() if filter.mine and visible else None
    return [(event_id, picture) for event_id, picture in visible if keys is None or picture.key in keys]


def is_candidate(picture: Picture, filter: GalleryFilter) -> bool:
    """Whether the gallery shows this picture, unless it shows only the user's own."""
    return picture.scope == current_user().scope and filter.model in ("", picture.recipe.model)


def read_filter() -> GalleryFilter:
    """The filter in the query string."""
    words = drop_invisible(request.args.get("q", "")).strip()[:LONGEST_SEARCH]
    return GalleryFilter(words, request.args.get("model", ""), request.args.get("mine") == "1")


def read_cursor() -> float | None:
    """The time before which this page starts; None (the newest pictures) for anything that is not a time."""
    before = request.args.get("before", math.nan, type=float)
    return before if math.isfinite(before) else None


def read_event_id(text: str | None) -> str:
    """The id of a finished picture, a Redis stream id (milliseconds-number); "0-0" for anything else."""
    milliseconds, _, number = (text or "").partition("-")
    return f"{int(milliseconds)}-{int(number)}" if is_number(milliseconds) and is_number(number) else "0-0"


def is_number(text: str) -> bool:
    """Whether Redis accepts the text as part of a stream id."""
    return text.isascii() and text.isdigit() and len(text) < 19


def render_tiles(pictures: list[Picture]) -> str:
    """The pictures as HTML tiles."""
    return render_template("tiles.html", pictures=pictures)
