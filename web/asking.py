"""What a request for a picture means: its body as a recipe, looked up in memory, queued on a miss."""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from flask import abort, current_app, url_for

from memo import POLICIES, SHARED, BadRecipe, Memory, Picture, Recall, Recipe, to_text
from memo.recipe import LARGEST_SEED, check_choice, check_whole
from worker.catalogue import Catalogue
from worker.jobs import Job, Origin
from worker.queue import Queue

from .caller import who

FIELDS = tuple(field.name for field in fields(Recipe) if field.name != "revision")  # the server knows that one
MOST_ENDED = 3  # paintings that are found ended one after the other before a new one is begun
MEMO = "memo"  # the policy: auto, off, exact or refresh
COUNT, USER, PRIORITY = "count", "user", "priority"
MOST_PRIORITY = 10  # degrees, and as many downwards
MOST_PICTURES = 8  # of one request
LONGEST_USER = 128  # characters of the name of who asks


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for pictures, checked."""

    recipe: Recipe
    policy: str = "auto"
    count: int = 1
    user: str = ""  # whoever asks, as they call themselves; "" = unknown
    priority: int = 0  # orders what this user waits for


def ask(body: Mapping[str, object]) -> list[Job]:
    """`submit` for whoever is behind this request: all that a dialect needs to ask for pictures."""
    return submit(body, who().name)


def job_of(job_id: str) -> Job:
    """A job as it stands now; 404 for one that is not known, or not the caller's to see."""
    queue: Queue = current_app.extensions["queue"]
    if (found := queue.job(job_id)) is None:
        abort(404, f"there is no job {job_id[:40]!r}; jobs are kept for seven days")
    return found


def follow(job: Job, seconds: float) -> Iterator[Job]:
    """The job at every change until it is final, or until so many seconds are over."""
    queue: Queue = current_app.extensions["queue"]
    until = time.monotonic() + seconds
    for snapshot in queue.watch(job.id, heartbeat=1.0):
        if snapshot:
            yield snapshot
        if time.monotonic() > until:
            return


def cancel(job_id: str) -> Job:
    """Cancel a job that is the caller's; one that is final already stays as it is."""
    queue: Queue = current_app.extensions["queue"]
    return queue.cancel(job_of(job_id).id) or job_of(job_id)


def picture_of(key: str) -> Picture:
    """A picture that the caller may see; raises Forgotten, or BadKey."""
    memory: Memory = current_app.extensions["memory"]
    return memory.picture(key)


def image_of(key: str) -> bytes:
    """Its PNG; raises Forgotten, or BadKey."""
    memory: Memory = current_app.extensions["memory"]
    return memory.image(key)


def submit(body: Mapping[str, object], user: str = "") -> list[Job]:
    """One job for each picture, none of them twice: what memory has, and the rest is painted. Raises BadRecipe."""
    wanted = read(body, current_app.extensions["catalogue"], user)
    jobs: list[Job] = []
    for number in range(wanted.count):
        seed = wanted.recipe.seed
        recipe = wanted.recipe if seed is None else replace(wanted.recipe, seed=(seed + number) % (LARGEST_SEED + 1))
        jobs.append(serve(replace(wanted, recipe=recipe), given(jobs)))
    return jobs


def another(job: Job, user: str = "") -> Job:
    """A picture of the same meaning that neither this job nor this user was given: from memory, else painted."""
    user = user or job.user or job.id
    queue: Queue = current_app.extensions["queue"]
    first = queue.job(user)  # a chain without a name is called after its first job
    return serve(Wanted(job.recipe.wish, user=user), given([job, *([first] if first else []), *queue.of_user(user)]))


def given(jobs: Collection[Job]) -> set[str]:
    """The pictures that these jobs have or will have, and the paintings that they wait for."""
    pictures = {job.picture.key if job.picture else job.recipe.key for job in jobs}
    return pictures | {job.painting for job in jobs if job.painting}


def serve(wanted: Wanted, seen: Collection[str]) -> Job:
    """The job of one picture that is none of those seen."""
    memory: Memory = current_app.extensions["memory"]
    queue: Queue = current_app.extensions["queue"]
    begun = time.perf_counter()
    recall, joined = look_up(memory, queue, wanted, seen)
    took = time.perf_counter() - begun
    if joined:
        return joined
    if recall.match:
        return queue.remembered(wanted.recipe, recall.match, recall.reason, wanted.user, took)
    joinable = wanted.policy in ("auto", "relaxed", "exact") and not seen
    asked = {"scope": SHARED, "joinable": joinable, "user": wanted.user, "priority": wanted.priority}
    job = queue.submit(wanted.recipe, reason=recall.reason, **asked)
    if job.painting and job.origin == Origin.PAINTED:
        memory.begun(job.painting, wanted.recipe)
    return job


def look_up(memory: Memory, queue: Queue, wanted: Wanted, seen: Collection[str]) -> tuple[Recall, Job | None]:
    """What memory answers, and the job when it waits for a painting under way that means the same."""
    asked: dict[str, Any] = {"policy": wanted.policy, "scope": SHARED, "seen": seen}
    recall = memory.recall(wanted.recipe, **asked)
    for _ in range(MOST_ENDED):
        if recall.painting is None:
            break
        if joined := queue.join(recall.painting, recall.reason, wanted.user):
            return recall, joined
        memory.ended(recall.painting)  # a moment ago: its picture may be remembered by now
        recall = memory.recall(wanted.recipe, **asked)
    return recall, None


def read(body: Mapping[str, object], catalogue: Catalogue, user: str = "") -> Wanted:
    """What a body asks for, with the model's defaults filled in; raises BadRecipe."""
    known = (*FIELDS, MEMO, COUNT, USER, PRIORITY)
    for name, value in body.items():
        if name not in known:
            raise BadRecipe(name, value, f"no such field; there are {', '.join(known)}")
    values = {name: value for name, value in body.items() if value is not None}
    asked: dict[str, Any] = {MEMO: "auto", COUNT: 1, USER: user, PRIORITY: 0}
    asked |= {name: values.pop(name) for name in asked if name in values}
    check_choice(MEMO, asked[MEMO], POLICIES)
    check_whole(COUNT, asked[COUNT], 1, MOST_PICTURES)
    check_whole(PRIORITY, asked[PRIORITY], -MOST_PRIORITY, MOST_PRIORITY)
    if not isinstance(asked[USER], str) or len(asked[USER]) > LONGEST_USER:
        raise BadRecipe(USER, asked[USER], f"it must be text of at most {LONGEST_USER} characters")
    return Wanted(catalogue.recipe(values), asked[MEMO], asked[COUNT], asked[USER], asked[PRIORITY])


def describe(job: Job) -> dict[str, Any]:
    """The job as JSON."""
    links = {"self": url_for("api.job", job_id=job.id), "events": url_for("api.events", job_id=job.id)}
    if job.previewed is not None:
        links["preview"] = url_for("api.preview", job_id=job.id, step=job.previewed)
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
        "seconds_left": job.seconds_left,
        "said": job.said,
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
    names = ("key", "created", "seconds", "device", "joules", "metered")
    facts = {name: getattr(picture, name) for name in names}
    return {**facts, **asdict(picture.recipe), "recipe_text": to_text(picture.recipe), "links": links}
