"""What people say of answers from memory, and what that tells: labels, their export, figures, the audit page.

An answer may be called wrong by whoever got it; an audit looks at a sample of answers, and only audits make the
published share of wrong ones, for people who complain are no sample.
"""

import json
import random
from typing import Any

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from jobs.job import Job, Origin
from jobs.store.submissions import LIST_LENGTH
from memo import BadRecipe, Picture
from memo.judge.evaluation import wilson_interval
from memo.judge.feedback import Label
from memo.recipe import tidy
from web.auth import for_admins, who
from web.json_body import read_object
from web.picture_requests import anew, job_of, picture_of
from web.services import job_store, memory

from .documents import FeedbackBody, LabelBody, StatsDocument
from .openapi import Answer, described, told

bp = Blueprint("audit", __name__)

SAMPLED = 6  # answers on one page
SOURCES = {"same meaning": "audit", "shows more": "audit of relaxed"}  # of labels, by how an answer was found


@bp.post("/api/v1/jobs/<job_id>/label")
@described({204: Answer("It is noted.")}, refused=(404, 409), body=LabelBody)
def label_job(job_id: str) -> ResponseReturnValue:
    """Say whether an answer from memory was right: {"right": false}."""
    body = read_object()
    if set(body) != {"right"} or not isinstance(body["right"], bool):
        raise BadRecipe("right", body.get("right"), 'say {"right": true} or {"right": false}')
    picture, wanted = answered(job_id)
    memory().label(picture, wanted, right=body["right"], source="user")
    return "", 204


@bp.post("/api/v1/pictures/<key>/feedback")
@described({204: Answer("It is noted.")}, refused=(404,), body=FeedbackBody)
def feedback(key: str) -> ResponseReturnValue:
    """Say whether a picture is right for a prompt, else for its own: {"right": false, "prompt": "a red fox"}."""
    body = read_object()
    for name, value in body.items():
        if name not in ("right", "prompt"):
            raise BadRecipe(name, value, "no such field; there are right, prompt")
    if not isinstance(body.get("right"), bool):
        raise BadRecipe("right", body.get("right"), "say true or false")
    picture = picture_of(key)
    wanted = picture.recipe.prompt if body.get("prompt") is None else tidy("prompt", body["prompt"])
    if not wanted:
        raise BadRecipe("prompt", wanted, "say in words what was wanted, or leave it out")
    memory().label(picture, wanted, right=bool(body["right"]), source="user")
    return "", 204


@bp.post("/jobs/<job_id>/wrong")
def wrong(job_id: str) -> ResponseReturnValue:
    """The button of a job's page: wrong, so it is painted now."""
    picture, wanted = answered(job_id)
    memory().label(picture, wanted, right=False, source="user")
    return redirect(url_for("pages.job", job_id=anew(job_of(job_id), who().name).id), 303)


@bp.get("/api/v1/labels")
@described({200: Answer("One JSON object a line.", media=("application/jsonl",))})
@for_admins
def export() -> ResponseReturnValue:
    """All labels as JSON lines that `memoaized judge` and its training read."""
    labels = memory().labels
    return Response("".join(map(line, labels.all() if labels else ())), mimetype="application/jsonl")


def line(label: Label) -> str:
    """A label as a pair."""
    row = {"a": label.remembered, "b": label.wanted, "y": int(label.right), "kind": label.source, "group": label.key}
    return json.dumps(row, ensure_ascii=False) + "\n"


@bp.get("/api/v1/stats")
@described(told(StatsDocument, "The figures."))
@for_admins
def stats() -> ResponseReturnValue:
    """How many jobs were answered how, what that saved, and how often audits found an answer wrong."""
    return figures()


@bp.get("/audit")
@for_admins
def audit() -> ResponseReturnValue:
    """A sample of answers by meaning, side by side, for right or wrong."""
    return render_template("audit.html", jobs=sample(), figures=figures())


@bp.post("/audit")
@for_admins
def audited() -> ResponseReturnValue:
    """Take the word of the audit page."""
    if request.form.get("right") not in ("yes", "no"):
        abort(422, "say right=yes or right=no")
    job = job_of(request.form.get("job", ""))
    picture, wanted = answered(job.id)
    source = SOURCES.get(job.match.how if job.match else "", "audit")
    memory().label(picture, wanted, right=request.form["right"] == "yes", source=source)
    return redirect(url_for("audit.audit"), 303)


def answered(job_id: str) -> tuple[Picture, str]:
    """The picture that memory answered a job with, and the job's prompt; aborts for other jobs."""
    job = job_of(job_id)
    if job.origin is Origin.MEMORY and job.picture:
        return job.picture, job.recipe.prompt
    abort(409, "only an answer from memory can be called right or wrong")


def sample() -> list[Job]:
    """Some of the last answers by meaning that no audit has looked at."""
    jobs = [job for job in job_store().jobs.recent(LIST_LENGTH) if job.match and job.match.how in SOURCES]
    random.shuffle(jobs)
    seen = {(label.key, label.wanted) for label in audits(*SOURCES.values())}
    fresh = {(job.picture.key, job.recipe.prompt): job for job in jobs if job.picture}
    return [job for pair, job in fresh.items() if pair not in seen][:SAMPLED]


def audits(*sources: str) -> list[Label]:
    """The labels of audits."""
    labels = memory().labels
    return [label for label in labels.all() if label.source in sources] if labels else []


def figures() -> dict[str, Any]:
    """See `stats`; the interval is Wilson's at 95 %."""
    return {
        **ledger(),
        "audited": interval([label.right for label in audits(SOURCES["same meaning"])]),
        "audited_relaxed": interval([label.right for label in audits(SOURCES["shows more"])]),
    }


def ledger() -> dict[str, Any]:
    """How many jobs were answered how, and what was spent and saved."""
    counts = job_store().statistics.counts()
    asked = sum(counts[origin] for origin in Origin)
    return {
        "jobs": asked,
        **{str(origin): int(counts[origin]) for origin in Origin},
        "hit_rate": round(counts[Origin.MEMORY] / asked, 4) if asked else None,
        "seconds_saved": round(counts["seconds_saved"], 1),
        "watt_hours_spent": round(counts["joules_spent"] / 3600, 3),
        "watt_hours_saved": round(counts["joules_saved"] / 3600, 3),
    }


def interval(right: list[bool]) -> dict[str, Any]:
    """How many of some answers were wrong."""
    wrong = right.count(False)
    low, high = wilson_interval(wrong, len(right))
    return {
        "answers": len(right),
        "wrong": wrong,
        "false_hit_rate": round(wrong / len(right), 4) if right else None,
        "low": round(low, 4),
        "high": round(high, 4),
    }
