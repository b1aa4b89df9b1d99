"""Requests for pictures: a request is checked, answered from memory if possible, and queued for painting if not."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

import flask
from flask import url_for

from jobs.job import Job, Origin
from jobs.models import Catalogue
from jobs.prompt import draw_choices, read_prompt
from jobs.queue import Queue
from jobs.serialize import job_to_dict, picture_to_dict
from jobs.store.submissions import JobOptions
from jobs.webhooks.deliveries import Webhook
from memo import POLICIES, SHARED, BadRecipe, Memory, Picture, Recall, Recipe, Unavailable
from memo.recipe import LARGEST_SEED, check_choice, read_whole, round_strength

from .auth import current_user
from .extensions import catalogue, job_store, memory, queue, web_config
from .limits.rates import charge, check_queue_cap
from .near_starts import prepare_start, strengths_of
from .rerolls import pictures_to_avoid, receipt_of
from .uploads import resolve_init_image

PROMPTS = ("prompt", "negative_prompt")
FIELDS = tuple(field.name for field in fields(Recipe) if field.name != "revision")  # the server fills in the revision
MEMO = "memo"  # the memory policy
POLICY_HEADER = "X-Memo-Policy"  # the header that sets it
COUNT, USER, PRIORITY, WEBHOOK = "count", "user", "priority", "webhook"
HIGHEST_PRIORITY = 10  # the lowest is its negative
MAX_PICTURES = 8  # of one request
LONGEST_USER = 128  # characters of a user's name
JOINING = ("auto", "relaxed", "near", "exact")  # policies under which a request may join a painting under way
MAX_RECALLS = 3  # times that memory is asked again because the painting to join has just ended


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """A checked request for pictures."""

    recipe: Recipe
    policy: str = "auto"
    count: int = 1
    user: str = ""  # the name under which the user's jobs are kept; "" if it is unknown
    priority: int = 0  # orders the jobs of one user
    scope: str = SHARED  # the memory that is searched and that keeps the new pictures
    webhook: str = ""  # the URL that is notified when a job is final; "" for none
    notes: tuple[str, ...] = ()  # how the picture departs from the request, in words
    receipt: str = ""  # under which the pictures count as received; "" if they do not
    avoids_received: bool = False  # leave out pictures that were received under this receipt

    @property
    def job_options(self) -> JobOptions:
        """The options of its jobs."""
        return {"user": self.user, "priority": self.priority, "notes": self.notes, "receipt": self.receipt}


def request_pictures(body: Mapping[str, object], count: int = 0, recipient: str = "") -> list[Job]:
    """One job for each picture, all different: answered from memory if possible, else queued. Raises BadRecipe.

    Dialects that allow more pictures than the native API pass their own `count`. For `recipient` see `parse_request`.
    """
    picture_request = parse_request(body, recipient)
    with all_or_nothing(count or picture_request.count) as jobs:
        add_jobs(picture_request, jobs, count or picture_request.count)
    return jobs


def parse_request(body: Mapping[str, object], recipient: str = "") -> PictureRequest:
    """Check a JSON body as a request of the current user; raises BadRecipe.

    The header X-Memo-Policy sets the memory policy of a body that names none. Without either, the server's policy
    applies, and a request that is repeated gets `recipient` (see `rerolls.name_recipient`) another picture.
    """
    policy = body.get(MEMO)
    if policy is None:
        policy = policy_header()
    named = {MEMO: web_config().policy if policy is None else policy}
    picture_request = read_request({**body, **named}, catalogue(), current_user().name)
    receipt = receipt_of(recipient, picture_request.recipe)
    return replace(picture_request, receipt=receipt, avoids_received=policy is None)


def policy_header() -> str | None:
    """The memory policy in the header; None if there is none. Raises BadRecipe."""
    policy = flask.request.headers.get(POLICY_HEADER, "").strip()
    if policy:
        check_choice(POLICY_HEADER, policy, POLICIES)
    return policy or None


@contextmanager
def all_or_nothing(count: int) -> Iterator[list[Job]]:
    """A list for the jobs of a request for `count` pictures.

    If the request fails halfway, its jobs are cancelled and nothing counts towards the user's limits. Raises
    TooManyRequests.
    """
    charge(count, dry_run=True)
    jobs: list[Job] = []
    try:
        yield jobs
        charge(len(jobs))
    except BaseException:
        with suppress(Unavailable):
            for job in jobs:
                job_store().submissions.cancel(job.id)
        raise


def add_jobs(request: PictureRequest, jobs: list[Job], count: int) -> None:
    """Add `count` jobs to those of the request. Their seeds count up, and each gets a different picture."""
    start, received = len(jobs), pictures_to_avoid(request.receipt) if request.avoids_received else set()
    for number in range(start, start + count):
        seed = request.recipe.seed
        if seed is not None:
            seed = (seed + number) % (LARGEST_SEED + 1)
        jobs.append(create_job(draw_prompts(request, seed), picture_keys(jobs) | received))
    if request.webhook:
        register_webhooks(jobs[start:], request.webhook)


def draw_prompts(request: PictureRequest, seed: int | None) -> PictureRequest:
    """The request for one picture with this seed, which also decides the choice that replaces `{red|blue}`."""
    random = Random(seed)
    drawn = {field: draw_choices(getattr(request.recipe, field), random) for field in PROMPTS}
    notes = (*request.notes, *(note for _, field_notes in drawn.values() for note in field_notes))
    prompts: dict[str, Any] = {field: text for field, (text, _) in drawn.items()}
    return replace(request, recipe=replace(request.recipe, seed=seed, **prompts), notes=notes)


def register_webhooks(jobs: Collection[Job], url: str) -> None:
    """Register a webhook for each of these jobs: the URL is notified when the job is final. Raises Unavailable."""
    for job in jobs:
        links = {
            "self": url_for("api.job", job_id=job.id, _external=True),
            "picture": url_for("api.picture", key=job.key, _external=True),
            "image": url_for("api.image", key=job.key, _external=True),
        }
        queue().webhooks.add(job, Webhook(url=url, job=job.id, links=links, key=key_id()))


def key_id() -> str:
    """The id of the user's API key; "" without one."""
    key = current_user().key
    return key.id if key else ""


def check_webhook(url: object) -> str:
    """The URL if this server may notify it; "" for none. Raises BadRecipe."""
    return "" if url == "" else queue().webhooks.check(url)


def request_variation(job: Job, user: str = "") -> Job:
    """A job for the same prompt and settings, whose picture neither this job nor this user has received."""
    user = user or job.user or job.id
    first_job = job_store().jobs.find(user)  # without a user, a chain of variations is named after its first job
    jobs = [job, *([first_job] if first_job else []), *job_store().jobs.of_user(user)]
    request = PictureRequest(job.wish, user=user, scope=current_user().scope)
    return request_picture(request, picture_keys(jobs))


def retry_job(job: Job, user: str = "") -> Job:
    """The same request once more. A seed that was drawn at random is drawn again."""
    recipe = job.wish if job.random_seed else job.recipe
    policy = "refresh" if job.always_paint else "near" if job.near else "auto"
    return request_picture(PictureRequest(recipe, policy, user=user or job.user, scope=current_user().scope))


def regenerate(job: Job, user: str = "") -> Job:
    """A job that paints the same prompt and settings now, whatever is remembered."""
    scope = current_user().scope
    return request_picture(PictureRequest(job.wish, "refresh", user=user or job.user, scope=scope))


def request_picture(request: PictureRequest, seen: Collection[str] = ()) -> Job:
    """The job of a request for one picture that is not among those already seen."""
    with all_or_nothing(1) as jobs:
        jobs.append(create_job(request, seen))
    return jobs[0]


def picture_keys(jobs: Collection[Job]) -> set[str]:
    """The keys of the pictures that these jobs have or will have, and of the paintings that they wait for."""
    return {job.key for job in jobs} | {job.painting for job in jobs if job.painting}


def create_job(request: PictureRequest, seen: Collection[str]) -> Job:
    """Create the job of one picture that is not among those already seen.

    Memory answers it, it joins a painting under way, or it is queued.
    """
    started = time.perf_counter()
    recall, joined_job = recall_or_join(memory(), queue(), request, seen)
    seconds = time.perf_counter() - started
    if joined_job:
        return joined_job
    if recall.match:
        return job_store().submissions.record_remembered(
            request.recipe, recall.match, recall.reason, seconds=seconds, **request.job_options
        )
    check_queue_cap(queue(), request.user)
    recipe, near, reason = prepare_start(request.recipe, recall)
    job = queue().submit(
        recipe,
        reason=reason,
        scope=request.scope,
        joinable=request.policy in JOINING and not seen,
        near=near,
        **request.job_options,
    )
    if job.painting and job.origin != Origin.JOINED:
        memory().painting_started(job.painting, recipe, request.scope, near)
    return job


def recall_or_join(
    memory: Memory, queue: Queue, request: PictureRequest, seen: Collection[str]
) -> tuple[Recall, Job | None]:
    """Memory's answer, and the new job if it could join a painting under way whose prompt means the same."""
    recall_options: dict[str, Any] = {"policy": request.policy, "scope": request.scope, "seen": seen}
    if request.policy == "near":
        recall_options["strengths"] = strengths_of(request.recipe.model)
    recall = memory.recall(request.recipe, **recall_options)
    for _ in range(MAX_RECALLS):
        if recall.painting is None:
            break
        job = queue.job_store.submissions.join(
            recall.painting, recall.reason, scope=request.scope, **request.job_options
        )
        if job:
            return recall, job
        memory.painting_ended(recall.painting)  # it ended a moment ago, so its picture may be remembered by now
        recall = memory.recall(request.recipe, **recall_options)
    return recall, None


def read_request(body: Mapping[str, object], catalogue: Catalogue, user: str = "") -> PictureRequest:
    """The checked request of a JSON body, with the model's defaults filled in; raises BadRecipe."""
    known = (*FIELDS, MEMO, COUNT, USER, PRIORITY, WEBHOOK)
    for name, value in body.items():
        if name not in known:
            raise BadRecipe(name, value, f"there is no such field; the fields are {', '.join(known)}")
    settings = {name: value for name, value in body.items() if value is not None}
    options: dict[str, Any] = {MEMO: "auto", COUNT: 1, USER: user, PRIORITY: 0, WEBHOOK: ""}
    options |= {name: settings.pop(name) for name in options if name in settings}
    check_choice(MEMO, options[MEMO], POLICIES)
    count = read_whole(COUNT, options[COUNT], 1, MAX_PICTURES)
    priority = read_whole(PRIORITY, options[PRIORITY], -HIGHEST_PRIORITY, HIGHEST_PRIORITY)
    check_user(options[USER], user)
    if "strength" in settings:
        round_strength(settings["strength"])  # the recipe checks it only together with an initial image
    notes = read_prompts(settings)
    recipe = resolve_init_image(catalogue.recipe(settings))
    webhook = check_webhook(options[WEBHOOK])
    return PictureRequest(
        recipe,
        options[MEMO],
        count,
        options[USER],
        priority,
        scope=current_user().scope,
        webhook=webhook,
        notes=notes,
    )


def read_prompts(settings: dict[str, object]) -> tuple[str, ...]:
    """Replace the prompts by those that the recipe will keep; returns notes on the changes. Raises BadRecipe."""
    notes: tuple[str, ...] = ()
    for field in PROMPTS:
        if field in settings:
            settings[field], changes = read_prompt(field, settings[field])
            notes += changes
    return notes


def fold_seed(seed: object) -> tuple[object, str]:
    """A seed that a recipe can hold, and a note if it differs from the one sent: some clients draw 63 or 64 bits.

    Larger numbers and other values are returned unchanged, to be refused.
    """
    if not isinstance(seed, int) or not LARGEST_SEED < seed < 2**64:
        return seed, ""
    folded = seed & LARGEST_SEED
    return folded, f"the seed {seed} has more than 53 bits, so its last 53 bits are used: {folded}"


def check_user(name: object, user: str) -> None:
    """Raise BadRecipe if `name` is not a valid user name, or not this user's; admins may name anybody."""
    if not isinstance(name, str) or len(name) > LONGEST_USER:
        raise BadRecipe(USER, name, f"it must be text of at most {LONGEST_USER} characters")
    if name != user and not current_user().admin:
        raise BadRecipe(USER, name, "leave it out: your key already says who you are")


def job_document(job: Job) -> dict[str, Any]:
    """The job as JSON, with links."""
    links = {"self": url_for("api.job", job_id=job.id), "events": url_for("api.events", job_id=job.id)}
    if job.previewed is not None:
        links["preview"] = url_for("api.preview", job_id=job.id, step=job.previewed)
    if job.picture:
        links["picture"] = url_for("api.picture", key=job.picture.key)
    picture = picture_document(job.picture) if job.picture else None
    return {**job_to_dict(job), "picture": picture, "links": links}


def picture_document(picture: Picture) -> dict[str, Any]:
    """The picture as JSON, with links."""
    links = {"self": url_for("api.picture", key=picture.key), "image": url_for("api.image", key=picture.key)}
    return {**picture_to_dict(picture), "links": links}
