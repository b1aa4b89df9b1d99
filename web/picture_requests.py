"""What a request for a picture means: its body as a recipe, looked up in memory, queued on a miss."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from flask import abort, url_for

from jobs.job import Job, Origin
from jobs.models import Catalogue
from jobs.queue import Queue
from jobs.webhooks.deliveries import Hook
from memo import POLICIES, SHARED, BadRecipe, Forgotten, Memory, Picture, Recall, Recipe, Unavailable, to_text
from memo.picture import without_scope
from memo.recipe import LARGEST_SEED, as_strength, check_choice, check_whole

from .auth import who
from .limits import admit, charge
from .services import catalogue, job_store, memory, queue

FIELDS = tuple(field.name for field in fields(Recipe) if field.name != "revision")  # the server knows that one
MOST_ENDED = 3  # paintings that are found ended one after the other before a new one is begun
MEMO = "memo"  # the policy: auto, off, exact or refresh
COUNT, USER, PRIORITY, WEBHOOK = "count", "user", "priority", "webhook"
MOST_PRIORITY = 10  # degrees, and as many downwards
MOST_PICTURES = 8  # of one request
LONGEST_SEARCH = 200  # characters
SPECIMENS = 1000  # pictures of one's own that are known
LONGEST_USER = 128  # characters of the name of who asks


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for pictures, checked."""

    recipe: Recipe
    policy: str = "auto"
    count: int = 1
    user: str = ""  # whoever asks, as they call themselves; "" = unknown
    priority: int = 0  # orders what this user waits for
    scope: str = SHARED  # whose memory is looked in, and keeps what is painted
    webhook: str = ""  # the URL of whoever is to be told when it is final; "" = nobody


def ask(body: Mapping[str, object], count: int = 0) -> list[Job]:
    """One job for each picture, none of them twice: what memory has, and the rest is painted. Raises BadRecipe.

    All that a dialect needs to ask for pictures; it may say a count that no body can.
    """
    wanted = wanted_of(body)
    with as_one(count or wanted.count) as jobs:
        begin(wanted, jobs, count or wanted.count)
    return jobs


def wanted_of(body: Mapping[str, object]) -> Wanted:
    """What whoever is behind this request asks for; raises BadRecipe."""
    return read(body, catalogue(), who().name)


@contextmanager
def as_one(count: int) -> Iterator[list[Job]]:
    """A list for the jobs that a request for so many pictures begins: they are begun all, or none.

    When it is refused halfway, those begun already are cancelled, and nothing is counted. Aborts with 429.
    """
    charge(count, only_look=True)
    jobs: list[Job] = []
    try:
        yield jobs
        charge(len(jobs))
    except BaseException:
        with suppress(Unavailable):
            for job in jobs:
                job_store().submissions.cancel(job.id)
        raise


def begin(wanted: Wanted, jobs: list[Job], many: int) -> None:
    """Add so many jobs to those that the request has begun: seeds count up, and no picture is another one's."""
    begun = len(jobs)
    for number in range(begun, begun + many):
        seed = wanted.recipe.seed
        recipe = wanted.recipe if seed is None else replace(wanted.recipe, seed=(seed + number) % (LARGEST_SEED + 1))
        jobs.append(serve(replace(wanted, recipe=recipe), given(jobs)))
    if wanted.webhook:
        notify(jobs[begun:], wanted.webhook)


def job_of(job_id: str) -> Job:
    """A job as it stands now; 404 for one that is not known, or not the caller's to see."""
    if (found := job_store().jobs.find(job_id)) is None or who().sees not in (None, found.scope):
        abort(
            404, f"there is no job {job_id[:40]!r}; jobs are kept for seven days, or until their picture is deleted"
        )
    return found


def jobs_of(names: Sequence[str]) -> list[Job]:
    """Those of these jobs, at least one, that are still known and the caller's to see; 404 where none is."""
    sees = who().sees
    return [job for job in job_store().jobs.find_all(names) if sees in (None, job.scope)] or [job_of(names[0])]


def follow(job: Job, seconds: float) -> Iterator[Job]:
    """The job at every change until it is final, or until so many seconds are over."""
    until = time.monotonic() + seconds
    for snapshot in queue().watch(job.id, heartbeat=1.0):
        if snapshot:
            yield snapshot
        if time.monotonic() > until:
            return


def cancel(job_id: str) -> Job:
    """Cancel a job that is the caller's; one that is final already stays as it is."""
    job_store().submissions.cancel(job_of(job_id).id)
    return job_of(job_id)


def picture_of(key: str) -> Picture:
    """A picture that the caller may see; raises Forgotten, or BadKey."""
    return memory().picture(key, who().sees)


def image_of(key: str) -> bytes:
    """Its PNG; raises Forgotten, or BadKey."""
    return without_scope(memory().image(key, who().sees))


def thumbnail_of(key: str) -> bytes:
    """A small WebP of it; raises Forgotten, or BadKey."""
    return memory().thumbnail(key, who().sees)


def forget(key: str) -> None:
    """Forget a picture that is the caller's, and the jobs that led to it; raises Forgotten, or BadKey."""
    memory().forget(key, who().sees)
    job_store().submissions.forget(key)


def recent(limit: int) -> list[Job]:
    """The newest jobs that the caller may see."""
    return job_store().jobs.recent(limit, who().sees)


def own() -> set[str]:
    """The keys of pictures that this caller was given in the last days; it reads many jobs, so ask once."""
    name = who().name
    jobs = job_store().jobs.of_user(name)[:SPECIMENS] if name else []
    return {job.picture.key for job in jobs if job.picture}


def saved_by(job: Job) -> tuple[float, float]:
    """Seconds and joules that an answer from memory saved, as far as it is known; 0 for others."""
    return (
        job_store().statistics.mean_cost(job.picture) if job.picture and job.origin is Origin.MEMORY else (0.0, 0.0)
    )


def preview_of(job: Job) -> bytes | None:
    """WebP of what its picture looks like by now; None while there is nothing to see."""
    return job_store().jobs.preview(job.id)


def keep_upload(data: bytes) -> str:
    """Keep a PNG, JPEG or WebP picture to start from; answers with the value of `init_image`. Raises BadRecipe."""
    return noted(memory().keep_init_image(data, who().scope))


def noted(init_image: str) -> str:
    """The name of a start picture that was sent or asked for now, for it to be kept as long again."""
    job_store().backlog.touch_init_image(init_image, who().scope)
    return init_image


def with_init_image(recipe: Recipe) -> Recipe:
    """The recipe with a start picture that is kept; a painted one may be named by its key. Raises BadRecipe."""
    if not recipe.init_image:
        return recipe
    if memory().has_init_image(recipe.init_image, who().scope):
        return replace(recipe, init_image=noted(recipe.init_image))
    try:
        return replace(recipe, init_image=keep_upload(image_of(recipe.init_image)))
    except Forgotten as error:
        raise BadRecipe(
            "init_image", recipe.init_image, "upload it first, or name a kept picture by its key"
        ) from error


def notify(jobs: Collection[Job], url: str) -> None:
    """Have a receiver told of each of these jobs when it is final. Raises Unavailable."""
    for job in jobs:
        links = {
            "self": url_for("api.job", job_id=job.id, _external=True),
            "picture": url_for("api.picture", key=job.key, _external=True),
            "image": url_for("api.image", key=job.key, _external=True),
        }
        queue().webhooks.notify(job, Hook(url=url, job=job.id, links=links))


def check_webhook(url: object) -> str:
    """A URL that this server would tell of a job; "" for none. Raises BadRecipe."""
    return "" if url == "" else queue().webhooks.check(url)


def another(job: Job, user: str = "") -> Job:
    """A picture of the same meaning that neither this job nor this user was given: from memory, else painted."""
    user = user or job.user or job.id
    first = job_store().jobs.find(user)  # a chain without a name is called after its first job
    wanted = Wanted(job.recipe.wish, user=user, scope=who().scope)
    return one(wanted, given([job, *([first] if first else []), *job_store().jobs.of_user(user)]))


def again(job: Job, user: str = "") -> Job:
    """The same once more, as it was asked for: a seed that was drawn by chance is not asked for."""
    recipe = job.recipe.wish if job.random_seed else job.recipe
    policy = "refresh" if job.always_paint else "auto"
    return one(Wanted(recipe, policy, user=user or job.user, scope=who().scope))


def anew(job: Job, user: str = "") -> Job:
    """The same words and settings, painted now whatever is remembered."""
    return one(Wanted(job.recipe.wish, "refresh", user=user or job.user, scope=who().scope))


def one(wanted: Wanted, seen: Collection[str] = ()) -> Job:
    """The job of a request for one picture, none of those seen."""
    with as_one(1) as jobs:
        jobs.append(serve(wanted, seen))
    return jobs[0]


def given(jobs: Collection[Job]) -> set[str]:
    """The pictures that these jobs have or will have, and the paintings that they wait for."""
    return {job.key for job in jobs} | {job.painting for job in jobs if job.painting}


def serve(wanted: Wanted, seen: Collection[str]) -> Job:
    """The job of one picture that is none of those seen."""
    begun = time.perf_counter()
    recall, joined = look_up(memory(), queue(), wanted, seen)
    took = time.perf_counter() - begun
    if joined:
        return joined
    if recall.match:
        return job_store().submissions.record_remembered(
            wanted.recipe, recall.match, recall.reason, user=wanted.user, seconds=took
        )
    joinable = wanted.policy in ("auto", "relaxed", "exact") and not seen
    admit(queue())
    asked = {"scope": wanted.scope, "joinable": joinable, "user": wanted.user, "priority": wanted.priority}
    job = queue().submit(wanted.recipe, reason=recall.reason, **asked)
    if job.painting and job.origin == Origin.PAINTED:
        memory().painting_started(job.painting, wanted.recipe, wanted.scope)
    return job


def look_up(memory: Memory, queue: Queue, wanted: Wanted, seen: Collection[str]) -> tuple[Recall, Job | None]:
    """What memory answers, and the job when it waits for a painting under way that means the same."""
    asked: dict[str, Any] = {"policy": wanted.policy, "scope": wanted.scope, "seen": seen}
    joining: dict[str, Any] = {"scope": wanted.scope, "user": wanted.user, "priority": wanted.priority}
    recall = memory.recall(wanted.recipe, **asked)
    for _ in range(MOST_ENDED):
        if recall.painting is None:
            break
        if joined := queue.job_store.submissions.join(recall.painting, recall.reason, **joining):
            return recall, joined
        memory.painting_ended(recall.painting)  # a moment ago: its picture may be remembered by now
        recall = memory.recall(wanted.recipe, **asked)
    return recall, None


def read(body: Mapping[str, object], catalogue: Catalogue, user: str = "") -> Wanted:
    """What a body asks for, with the model's defaults filled in; raises BadRecipe."""
    known = (*FIELDS, MEMO, COUNT, USER, PRIORITY, WEBHOOK)
    for name, value in body.items():
        if name not in known:
            raise BadRecipe(name, value, f"no such field; there are {', '.join(known)}")
    values = {name: value for name, value in body.items() if value is not None}
    asked: dict[str, Any] = {MEMO: "auto", COUNT: 1, USER: user, PRIORITY: 0, WEBHOOK: ""}
    asked |= {name: values.pop(name) for name in asked if name in values}
    check_choice(MEMO, asked[MEMO], POLICIES)
    check_whole(COUNT, asked[COUNT], 1, MOST_PICTURES)
    check_whole(PRIORITY, asked[PRIORITY], -MOST_PRIORITY, MOST_PRIORITY)
    if not isinstance(asked[USER], str) or len(asked[USER]) > LONGEST_USER:
        raise BadRecipe(USER, asked[USER], f"it must be text of at most {LONGEST_USER} characters")
    if asked[USER] != user and not who().admin:  # nobody takes another's turns
        raise BadRecipe(USER, asked[USER], "leave it out: your key says who asks")
    if "strength" in values:
        as_strength(values["strength"])  # the recipe looks at it only beside a start picture
    recipe = with_init_image(catalogue.recipe(values))
    told = check_webhook(asked[WEBHOOK])
    return Wanted(recipe, asked[MEMO], asked[COUNT], asked[USER], asked[PRIORITY], who().scope, told)


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
        "message": job.message,
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
