"""The gallery: what is remembered, newest first or by meaning, and new pictures as they are finished.

Knows HTML; what a search finds is decided in `memo`, what was finished stands on the board.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from memo import Picture, Unavailable
from web.auth import who
from web.picture_requests import LONGEST_SEARCH, own
from web.services import catalogue, job_store, memory, queue
from web.streams import streamed

from .jobs_pages import last_finished

bp = Blueprint("gallery", __name__, url_prefix="/gallery")

TILES = 24  # pictures in one helping
FOUND = 60  # pictures that a search shows
HEARTBEAT = 10.0  # seconds; a closed window is noticed at the next
OWN_SECONDS = 3.0  # between two times that a stream reads which those are

Finished = tuple[str, Picture]  # with its name on the board


@dataclass(frozen=True, slots=True)
class Choice:
    """Which pictures are to be seen."""

    words: str = ""  # searched by meaning
    model: str = ""
    mine: bool = False

    def arguments(self, **more: object) -> dict[str, Any]:
        """For `url_for`."""
        chosen = {"q": self.words, "model": self.model, "mine": "1" if self.mine else ""}
        return {name: value for name, value in {**chosen, **more}.items() if value}


@bp.get("")
def gallery() -> ResponseReturnValue:
    """One helping of pictures, and the way to the next."""
    choice = chosen()
    since = last_finished()
    try:
        pictures, older = helping(choice, cursor())
    except Unavailable:
        pictures, older = None, None
    live = bool(since) and not choice.words and cursor() is None
    return render_template(
        "gallery.html",
        choice=choice,
        models=catalogue().describe(),
        pictures=pictures,
        more=url_for("gallery.gallery", **choice.arguments(before=older)) if older else None,
        events=url_for("gallery.events", **choice.arguments(since=since)) if live else None,
        news=url_for("gallery.news", **choice.arguments(since=since)) if live else None,
    )


@bp.get("/events")
def events() -> ResponseReturnValue:
    """Tiles of pictures as they are finished, as Server-Sent Events, for ever."""
    since = as_name(request.headers.get("Last-Event-ID") or request.args.get("since"))
    return streamed(messages(since, chosen()))


@bp.get("/new")
def news() -> ResponseReturnValue:
    """The same as JSON, for those whom event streams do not reach: tiles, and where to ask next time."""
    choice = chosen()
    finished = job_store().jobs.finished_pictures(as_name(request.args.get("since")))
    seen = [picture for _, picture in fitting(finished, choice)]
    since = finished[-1][0] if finished else as_name(request.args.get("since"))
    again = url_for("gallery.news", **choice.arguments(since=since))
    return {"tiles": tiles(list(reversed(seen))), "next": again}


def messages(since: str, choice: Choice) -> Iterator[str]:
    """One message a picture, else a comment: only who is written to is known to be gone.

    The stream ends when the queue does not answer.
    """
    yield "retry: 1000\n\n"
    try:
        for seen in shown(since, choice):
            for name, picture in seen:
                yield f"id: {name}\nevent: picture\ndata: {json.dumps(tiles([picture]))}\n\n"
            if not seen:
                yield ": still here\n\n"
    except Unavailable as error:
        yield f": {error}\n\n"


def shown(since: str, choice: Choice) -> Iterator[list[Finished]]:
    """What belongs into this gallery as it is finished; nothing for what does not, and when nothing happens.

    What is one's own costs reading all that one asked for, so then several are looked at together.
    """
    pause = OWN_SECONDS if choice.mine else 0.0
    heard: list[Finished] = []
    next_look = 0.0
    for found in queue().watch_finished(since, heartbeat=pause or HEARTBEAT):
        heard += [found] if found else []
        if not heard or time.monotonic() < next_look:
            yield []
            continue
        next_look = time.monotonic() + pause
        yield fitting(heard, choice)
        heard = []


def helping(choice: Choice, before: float | None) -> tuple[list[Picture], float | None]:
    """The pictures, and the cursor of those that follow. Raises Unavailable."""
    if choice.words:
        return searched(choice), None
    keys = own() if choice.mine else None
    if keys is not None and not keys:
        return [], None
    pictures = memory().newest(scope=who().scope, limit=TILES, before=before, model=choice.model, keys=keys)
    return pictures, pictures[-1].created if len(pictures) == TILES else None


def searched(choice: Choice) -> list[Picture]:
    """The pictures that show something like the words, nearest first."""
    near = memory().search(choice.words, scope=who().scope, limit=FOUND, model=choice.model)
    pictures = [one.found.picture for one in near]
    keys = own() if choice.mine else None
    return [picture for picture in pictures if keys is None or picture.key in keys]


def fitting(finished: Sequence[Finished], choice: Choice) -> list[Finished]:
    """Those new pictures that belong into this gallery."""
    scope = who().scope
    there = [one for one in finished if one[1].scope == scope and choice.model in ("", one[1].recipe.model)]
    keys = own() if choice.mine and there else None
    return [one for one in there if keys is None or one[1].key in keys]


def chosen() -> Choice:
    """What the query string chooses."""
    words = request.args.get("q", "").strip()[:LONGEST_SEARCH]
    return Choice(words, request.args.get("model", ""), request.args.get("mine") == "1")


def cursor() -> float | None:
    """Where this helping begins; what is no time means the newest."""
    before = request.args.get("before", math.nan, type=float)
    return before if math.isfinite(before) else None


def as_name(given: str | None) -> str:
    """The name of a finished picture as the board gives them, milliseconds-number; what is none means the first."""
    first, _, second = (given or "").partition("-")
    return f"{int(first)}-{int(second)}" if plain(first) and plain(second) else "0-0"


def plain(text: str) -> bool:
    """Whether it is a number that the board can read."""
    return text.isascii() and text.isdigit() and len(text) < 19


def tiles(pictures: list[Picture]) -> str:
    """As HTML."""
    return render_template("tiles.html", pictures=pictures)
