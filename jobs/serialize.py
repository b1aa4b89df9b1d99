"""A job as JSON for whoever is told of it elsewhere than in an answer: a receiver of webhooks. Knows no HTTP.

`as_native` is what GET /api/v1/jobs/<id> says, but for the links, which only the web knows; `as_generation` is a
picture as AI-Horde tells it (https://github.com/Haidra-Org/AI-Horde/blob/main/README_integration.md).
"""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from memo import Picture, to_text

from .job import Job, Origin, State

HORDE_STATES = {State.DONE: "ok", State.FAILED: "faulted", State.CANCELLED: "cancelled"}
FACTS = ("id", "state", "origin", "reason", "step", "position", "seconds_left", "message", "error")
TIMES = ("created", "started", "finished")
PICTURED = ("key", "created", "seconds", "device", "joules", "metered")


def as_native(job: Job, links: Mapping[str, str]) -> dict[str, Any]:
    """The job, and absolute links to it and to its picture."""
    match = job.match
    return {
        **{name: getattr(job, name) for name in (*FACTS, *TIMES)},
        "prompt": job.recipe.prompt,
        "recipe": asdict(job.recipe),
        "steps": job.recipe.steps,
        "match": match and {"score": round(match.score, 4), "remembered_prompt": match.prompt, "how": match.how},
        "picture": picture_facts(job.picture) if job.picture else None,
        "links": {name: link for name, link in links.items() if name == "self" or job.picture},
    }


def picture_facts(picture: Picture) -> dict[str, Any]:
    """The picture with its whole recipe."""
    facts = {name: getattr(picture, name) for name in PICTURED}
    return {**facts, **asdict(picture.recipe), "recipe_text": to_text(picture.recipe)}


def as_generation(job: Job, img: str) -> dict[str, Any]:
    """A final job; `img` is the picture's URL or base64 of a WebP file, "" when there is none."""
    painter = (job.picture.device if job.picture else "") or "memoAIzed"
    return {
        "img": img,
        "seed": "" if job.recipe.seed is None and not job.picture else str(seed_of(job)),
        "worker_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"memoaized:{painter}")),
        "worker_name": painter,
        "model": job.recipe.model,
        "id": as_uuid(job.id),
        "state": HORDE_STATES.get(job.state, "processing"),
        "censored": False,
        "gen_metadata": [{"type": "information", "value": "see_ref", "ref": how_it_came(job)}],
    }


def seed_of(job: Job) -> int | None:
    """The seed of the picture, which for an answer from memory is not what was asked for."""
    return job.picture.recipe.seed if job.picture else job.recipe.seed


def how_it_came(job: Job) -> str:
    """In words."""
    said = {Origin.MEMORY: "from memory", Origin.JOINED: "painted for several", Origin.PAINTED: "painted"}
    return job.error or f"{said[job.origin]}: {job.reason}"


def as_uuid(job: str) -> str:
    """Our 32 hex digits as clients of AI-Horde expect an id."""
    return str(uuid.UUID(job))
