"""Converts jobs, paintings and pictures to the text that Redis keeps, and back; makes no connection."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from jobs.job import Job, MemoryMatch, Origin, State
from memo import SHARED, Picture, Recipe
from memo.picture import NearStart, from_record, read_near, record
from memo.recipe import from_canonical, to_canonical


def hash_name(name: str) -> str:
    """32 hex digits that stand for a name of any characters in a Redis key."""
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def dump(value: object) -> str:
    """A value as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as JSON; `load_recipe` reads it."""
    return dump(to_canonical(recipe))


def load_recipe(text: str) -> Recipe:
    """The recipe that `dump_recipe` wrote."""
    return from_canonical(json.loads(text))


def dump_picture(picture: Picture) -> str:
    """The picture's recipe and record as JSON; `load_picture` reads it."""
    return dump({"recipe": to_canonical(picture.recipe), "record": record(picture)})


def load_picture(text: str | None) -> Picture | None:
    """The picture that `dump_picture` wrote; None for no text."""
    if not text:
        return None
    values = json.loads(text)
    return from_record(from_canonical(values["recipe"]), values["record"])


def dump_near(near: NearStart | None) -> dict[str, str]:
    """The field of a painting that keeps its near start, if it has one; `load_near` reads it."""
    return {"near": dump(asdict(near))} if near else {}


def load_near(text: str | None) -> NearStart | None:
    """The near start that `dump_near` wrote; None for no text."""
    return read_near(json.loads(text)) if text else None


def dump_notes(notes: Sequence[str]) -> dict[str, str]:
    """The field of a job that keeps its notes, if it has any; `load_notes` reads it."""
    return {"notes": dump(list(notes))} if notes else {}


def load_notes(text: str | None) -> tuple[str, ...]:
    """The notes that `dump_notes` wrote; none for no text."""
    return tuple(json.loads(text)) if text else ()


def all_notes(fields: Mapping[str, str], picture: Picture | None) -> tuple[str, ...]:
    """The notes on a request, and those on its picture."""
    return load_notes(fields.get("notes")) + (picture.notes if picture else ())


def pair_up(reply: Sequence[str]) -> dict[str, str]:
    """The hash that a script returned as field, value, field, value …"""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def read_number(text: str | None) -> float | None:
    """The number in a field; None for a field that is missing or empty."""
    return float(text) if text else None


def job_from_memory(job: str, fields: Mapping[str, str]) -> Job:
    """A job that memory answered, from the fields of its hash."""
    picture = load_picture(fields["picture"])
    return Job(
        id=job,
        painting=None,
        state=State.DONE,
        origin=Origin.MEMORY,
        reason=fields["reason"],
        recipe=load_recipe(fields["recipe"]),
        created=float(fields["created"]),
        finished=float(fields["created"]),
        notes=all_notes(fields, picture),
        picture=picture,
        user=fields.get("user", ""),
        scope=fields.get("scope", SHARED),
        random_seed=True,
        receipt=fields.get("receipt", ""),
        match=MemoryMatch(**json.loads(fields["match"])),
    )


def job_from_painting(
    job: str, fields: Mapping[str, str], *, painting: Mapping[str, str], position: int | None
) -> Job | None:
    """A job from the fields of its hash and of its painting's; None when the painting is gone.

    A cancelled job stays cancelled, whatever becomes of the painting.
    """
    if not painting:
        return None
    cancelled = read_number(fields.get("cancelled"))
    state = State.CANCELLED if cancelled else State(painting["state"])
    recipe = load_recipe(painting["recipe"])
    running = state is State.RUNNING
    picture = load_picture(painting.get("picture")) if state is State.DONE else None
    return Job(
        id=job,
        painting=fields["painting"],
        state=state,
        origin=Origin(fields["origin"]),
        reason=fields["reason"],
        recipe=recipe,
        created=float(fields["created"]),
        started=read_number(painting.get("started")),
        finished=cancelled or read_number(painting.get("finished")),
        step=recipe.steps if state is State.DONE else int(painting["step"]),
        position=position if state is State.QUEUED else None,
        seconds_left=read_number(painting.get("seconds_left")) if running else None,
        message=painting.get("message", "") if running else "",
        previewed=int(painting["previewed"]) if running and "previewed" in painting else None,
        error=painting.get("error"),
        notes=all_notes(fields, picture),
        picture=picture,
        near=load_near(painting.get("near")),
        user=fields.get("user", ""),
        scope=painting["scope"],
        random_seed=fields.get("random_seed") != "0",
        always_paint=fields.get("always_paint") == "1",
        receipt=fields.get("receipt", ""),
        waiters=int(painting.get("waiters", 1)),
    )
