"""Jobs and pictures as JSON-able dictionaries, for HTTP responses and webhooks, which add links of their own.

`job_to_dict` has the format of GET /api/v1/jobs/<id>, and `job_to_generation` that of a generation of AI-Horde
(https://github.com/Haidra-Org/AI-Horde/blob/main/README_integration.md).
"""

import uuid
from dataclasses import asdict
from typing import Any

from memo import Picture, Recipe, to_text
from memo.picture import NearStart

from .job import Job, MemoryMatch, Origin, State

HORDE_STATES = {State.DONE: "ok", State.FAILED: "faulted", State.CANCELLED: "cancelled"}
ORIGINS = {
    Origin.MEMORY: "from memory",
    Origin.JOINED: "painted for several requests",
    Origin.NEAR: "painted from a similar picture",
    Origin.PAINTED: "painted",
}
JOB_FIELDS = (
    *("id", "state", "origin", "reason", "step", "position", "seconds_left", "message", "error"),
    *("created", "started", "finished"),
)
PICTURE_FIELDS = ("key", "created", "seconds", "device", "joules", "metered")


def job_to_dict(job: Job) -> dict[str, Any]:
    """The job with its recipe, match, near start and picture; each of the latter is None while there is none."""
    return {
        **{name: getattr(job, name) for name in JOB_FIELDS},
        "prompt": job.recipe.prompt,
        "recipe": asdict(job.recipe),
        "steps": job.recipe.steps,
        "notes": list(job.notes),
        "match": match_to_dict(job.match) if job.match else None,
        "near": near_to_dict(job.recipe, job.near),
        "picture": picture_to_dict(job.picture) if job.picture else None,
    }


def match_to_dict(match: MemoryMatch) -> dict[str, Any]:
    """The remembered prompt that answered, how similar the prompts are (0 to 1), and how they match."""
    return {"score": round(match.score, 4), "remembered_prompt": match.prompt, "how": match.how}


def near_to_dict(recipe: Recipe, near: NearStart | None) -> dict[str, Any] | None:
    """The picture from which a similar one was painted, their share (0 to 3), and what it saves, if there is one."""
    return {**asdict(near), "strength": recipe.strength} if near else None


def picture_to_dict(picture: Picture) -> dict[str, Any]:
    """The picture with its whole recipe."""
    fields = {name: getattr(picture, name) for name in PICTURE_FIELDS}
    near = near_to_dict(picture.recipe, picture.near)
    return {**fields, **asdict(picture.recipe), "near": near, "recipe_text": to_text(picture.recipe)}


def job_to_generation(job: Job, img: str) -> dict[str, Any]:
    """A final job as a generation of AI-Horde.

    `img` is the picture's URL, or a WebP file in base64; "" without a picture.
    """
    painter = (job.picture.device if job.picture else "") or "memoAIzed"
    seed = (job.picture or job).recipe.seed  # memory may answer with a picture of another seed than the job's
    return {
        "img": img,
        "seed": "" if seed is None else str(seed),
        "worker_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"memoaized:{painter}")),
        "worker_name": painter,
        "model": job.recipe.model,
        "id": str(uuid.UUID(job.id)),
        "state": HORDE_STATES.get(job.state, "processing"),
        "censored": False,
        "gen_metadata": [
            {"type": "information", "value": "see_ref", "ref": text} for text in (explain_origin(job), *job.notes)
        ],
    }


def explain_origin(job: Job) -> str:
    """Why the job failed, or else where its picture comes from and why: "painted: nothing similar"."""
    return job.error or f"{ORIGINS[job.origin]}: {job.reason}"
