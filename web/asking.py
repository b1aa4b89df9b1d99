"""What a request for a picture means: its body as a recipe, looked up in memory, queued on a miss."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from flask import current_app, url_for

from memo import POLICIES, SHARED, BadRecipe, Memory, Picture, Recall, Recipe, to_text
from memo.recipe import check_choice
from worker.catalogue import Catalogue
from worker.jobs import Job, Origin
from worker.queue import Queue

FIELDS = tuple(field.name for field in fields(Recipe) if field.name != "revision")  # the server knows that one
MOST_ENDED = 3  # paintings that are found ended one after the other before a new one is begun
MEMO = "memo"  # the policy: auto, off, exact or refresh


def submit(body: Mapping[str, object]) -> tuple[Job, int]:
    """The job and the HTTP status: 200 from memory, 202 when it is being painted. Raises BadRecipe."""
    catalogue: Catalogue = current_app.extensions["catalogue"]
    memory: Memory = current_app.extensions["memory"]
    queue: Queue = current_app.extensions["queue"]
    recipe, policy = read(body, catalogue)
    recall, joined = look_up(memory, queue, recipe, policy)
    if joined:
        return joined, 202
    if recall.match:
        return queue.remembered(recipe, recall.match, recall.reason), 200
    joinable = policy in ("auto", "exact")
    job = queue.submit(recipe, reason=recall.reason, scope=SHARED, joinable=joinable)
    if job.painting and job.origin == Origin.PAINTED:
        memory.begun(job.painting, recipe)
    return job, 202


def look_up(memory: Memory, queue: Queue, recipe: Recipe, policy: str) -> tuple[Recall, Job | None]:
    """What memory answers, and the job when it waits for a painting under way that means the same."""
    recall = memory.recall(recipe, policy=policy, scope=SHARED)
    for _ in range(MOST_ENDED):
        if recall.painting is None:
            break
        if joined := queue.join(recall.painting, recall.reason):
            return recall, joined
        memory.ended(recall.painting)  # a moment ago: its picture may be remembered by now
        recall = memory.recall(recipe, policy=policy, scope=SHARED)
    return recall, None


def read(body: Mapping[str, object], catalogue: Catalogue) -> tuple[Recipe, str]:
    """The recipe with the model's defaults filled in, and the memory policy; raises BadRecipe."""
    for name, value in body.items():
        if name not in (*FIELDS, MEMO):
            raise BadRecipe(name, value, f"no such field; there are {', '.join((*FIELDS, MEMO))}")
    wanted = {name: value for name, value in body.items() if value is not None}
    policy = wanted.pop(MEMO, "auto")
    check_choice(MEMO, policy, POLICIES)
    return catalogue.recipe(wanted), str(policy)


def describe(job: Job) -> dict[str, Any]:
    """The job as JSON."""
    links = {"self": url_for("api.job", job_id=job.id), "events": url_for("api.events", job_id=job.id)}
    if job.picture:
        links["picture"] = url_for("api.picture", key=job.picture.key)
    return {
        "id": job.id,
        "state": job.state,
        "origin": job.origin,
        "reason": job.reason,
        "prompt": job.recipe.prompt,
        "recipe": asdict(job.recipe),
        "step": job.step,
        "steps": job.recipe.steps,
        "position": job.position,
        "error": job.error,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "match": asdict_match(job),
        "picture": describe_picture(job.picture) if job.picture else None,
        "links": links,
    }


def asdict_match(job: Job) -> dict[str, Any] | None:
    """Which remembered prompt answered, for a job from memory."""
    if job.match is None:
        return None
    return {"score": round(job.match.score, 4), "remembered_prompt": job.match.prompt, "how": job.match.how}


def describe_picture(picture: Picture) -> dict[str, Any]:
    """The picture as JSON."""
    links = {
        "self": url_for("api.picture", key=picture.key),
        "image": url_for("api.image", key=picture.key),
    }
    facts = {"key": picture.key, "created": picture.created, "seconds": picture.seconds, "device": picture.device}
    return {**facts, **asdict(picture.recipe), "recipe_text": to_text(picture.recipe), "links": links}
