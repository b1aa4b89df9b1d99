"""The gallery: what is remembered, newest first or by meaning, and new pictures as they are finished.

Knows HTML; what a search finds is decided in `memo`, what was finished stands on the board.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, render_template, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue

from memo import Picture, Unavailable

from .caller import who
from .pages import last_finished
from .parts import catalogue, memory, queue

bp = Blueprint("gallery", __name__, url_prefix="/gallery")

TILES = 24  # pictures in one helping
FOUND = 60  # pictures that a search shows
LONGEST_SEARCH = 200  # characters
HEARTBEAT = 10.0  # seconds; a closed window is noticed at the next
SPECIMENS = 1000  # pictures of one's own that are known


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
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    told = stream_with_context(messages(since, chosen()))
    return Response(told, mimetype="text/event-stream", headers=headers)


@bp.get("/new")
def news() -> ResponseReturnValue:
    """The same as JSON, for those whom event streams do not reach: tiles, and where to ask next time."""
    choice = chosen()
    finished = queue().finished(as_name(request.args.get("since")))
    seen = [picture for _, picture in finished if is_shown(picture, choice)]
    since = finished[-1][0] if finished else as_name(request.args.get("since"))
    again = url_for("gallery.news", **choice.arguments(since=since))
    return {"tiles": tiles(list(reversed(seen))), "next": again}


def messages(since: str, choice: Choice) -> Iterator[str]:
    """One message a picture, a comment when nothing happens; the stream ends when the queue does not answer."""
    yield "retry: 1000\n\n"
    try:
        for found in queue().watch_finished(since, heartbeat=HEARTBEAT):
            if found is None:
                yield ": still here\n\n"
            elif is_shown(found[1], choice):
                yield f"id: {found[0]}\nevent: picture\ndata: {json.dumps(tiles([found[1]]))}\n\n"
    except Unavailable as error:
        yield f": {error}\n\n"


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
    return [picture for picture in pictures if picture.key in own()] if choice.mine else pictures


def is_shown(picture: Picture, choice: Choice) -> bool:
    """Whether a new picture belongs into this gallery."""
    there = picture.scope == who().scope and choice.model in ("", picture.recipe.model)
    return there and (not choice.mine or picture.key in own())


def own() -> set[str]:
    """The keys of pictures that this caller was given in the last days."""
    name = who().name
    jobs = queue().of_user(name)[:SPECIMENS] if name else []
    return {job.picture.key for job in jobs if job.picture}


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
