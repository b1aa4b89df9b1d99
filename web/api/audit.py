"""How good the answers from memory are: user feedback, audits, the labels they produce, and the statistics.

Anybody may report an answer as wrong. An audit labels a random sample of answers, and only audits count towards the
published false-hit rate: the answers that people complain about are not a random sample.
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
from memo.judge.words import same_words
from memo.recipe import tidy
from web.access import find_job, find_picture
from web.auth import admin_required, current_user
from web.extensions import job_store, memory
from web.json_body import read_object
from web.picture_requests import regenerate

from .documents import FeedbackBody, LabelBody, StatsDocument
from .openapi import DocumentedResponse, documented, ok

bp = Blueprint("audit", __name__)

USER = "user"  # the source of labels that are not of an audit
MAX_LABELS = 20  # of one user for one picture: each makes the memory of its scope a little slower
SAMPLE_SIZE = 6  # answers on one page
LABEL_SOURCES = {"same meaning": "audit", "shows more": "audit of relaxed"}  # by how the answer matched


@bp.post("/api/v1/jobs/<job_id>/label")
@documented({204: DocumentedResponse("The label is stored.")}, errors=(404, 409), body=LabelBody)
def label_job(job_id: str) -> ResponseReturnValue:
    """Say whether an answer from memory was right: {"right": false}."""
    body = read_object()
    if set(body) != {"right"} or not isinstance(body["right"], bool):
        raise BadRecipe("right", body.get("right"), 'send {"right": true} or {"right": false}')
    picture, prompt = answer_from_memory(job_id)
    keep_label(picture, prompt, right=body["right"])
    return "", 204


@bp.post("/api/v1/pictures/<key>/feedback")
@documented({204: DocumentedResponse("The label is stored.")}, errors=(404, 409), body=FeedbackBody)
def feedback(key: str) -> ResponseReturnValue:
    """Say whether a picture is right for a prompt: {"right": false, "prompt": "a red fox"}.

    The prompt is the picture's own by default.
    """
    body = read_object()
    for name, value in body.items():
        if name not in ("right", "prompt"):
            raise BadRecipe(name, value, "there is no such field; the fields are right, prompt")
    if not isinstance(body.get("right"), bool):
        raise BadRecipe("right", body.get("right"), "it must be true or false")
    picture = find_picture(key)
    prompt = picture.recipe.prompt if body.get("prompt") is None else tidy("prompt", body["prompt"])
    if not prompt:
        raise BadRecipe("prompt", prompt, "describe the picture that you expected, or leave the field out")
    keep_label(picture, prompt, right=bool(body["right"]))
    return "", 204


@bp.post("/jobs/<job_id>/wrong")
def report_wrong(job_id: str) -> ResponseReturnValue:
    """Label an answer as wrong and paint the picture instead: the button on a job's page."""
    picture, prompt = answer_from_memory(job_id)
    keep_label(picture, prompt, right=False)
    return redirect(url_for("job.page", job_id=regenerate(find_job(job_id), current_user().name).id), 303)


def keep_label(picture: Picture, prompt: str, *, right: bool) -> None:
    """Keep a user's label; aborts with 409 if they have labelled the picture for MAX_LABELS other prompts."""
    user, labels = current_user().name, memory().labels
    kept = labels.of_picture(picture.key, picture.scope) if labels else ()
    others = [
        label
        for label in kept
        if label.source == USER and label.user == user and not same_words(label.wanted, prompt)
    ]
    if len(others) >= MAX_LABELS:
        abort(409, f"you have labelled this picture for {MAX_LABELS} prompts, and no more are kept")
    memory().label(picture, prompt, right=right, source=USER, user=user)


@bp.get("/api/v1/labels")
@documented({200: DocumentedResponse("One JSON object per line.", media_types=("application/jsonl",))})
@admin_required
def export() -> ResponseReturnValue:
    """Export all labels as JSON lines, the format that `memoaized judge` and its training read."""
    labels = memory().labels
    return Response("".join(map(to_line, labels.all() if labels else ())), mimetype="application/jsonl")


def to_line(label: Label) -> str:
    """A label as a line of a data set of prompt pairs."""
    row = {"a": label.remembered, "b": label.wanted, "y": int(label.right), "kind": label.source, "group": label.key}
    return json.dumps(row, ensure_ascii=False) + "\n"


@bp.get("/api/v1/stats")
@documented(ok(StatsDocument, "The statistics."))
@admin_required
def stats() -> ResponseReturnValue:
    """Get how jobs were answered, what that saved, and how often audits found an answer wrong."""
    return statistics()


@bp.get("/audit")
@admin_required
def audit() -> ResponseReturnValue:
    """The page that shows a sample of matches side by side, to be labelled right or wrong."""
    return render_template("audit.html", jobs=draw_sample(), stats=statistics())


@bp.post("/audit")
@admin_required
def submit_audit() -> ResponseReturnValue:
    """Store one label from the audit page."""
    if request.form.get("right") not in ("yes", "no"):
        abort(422, "send right=yes or right=no")
    job = find_job(request.form.get("job", ""))
    picture, prompt = answer_from_memory(job.id)
    source = LABEL_SOURCES.get(job.match.how if job.match else "", "audit")
    memory().label(picture, prompt, right=request.form["right"] == "yes", source=source)
    return redirect(url_for("audit.audit"), 303)


def answer_from_memory(job_id: str) -> tuple[Picture, str]:
    """The remembered picture that answered a job, and the job's prompt; aborts with 409 for other jobs."""
    job = find_job(job_id)
    if job.origin is Origin.MEMORY and job.picture:
        return job.picture, job.recipe.prompt
    abort(409, f"job {job.id} was not answered from memory: only such answers can be labelled right or wrong")


def draw_sample() -> list[Job]:
    """Some recent answers, matched by meaning, that no audit has labelled yet."""
    jobs = [job for job in job_store().jobs.recent(LIST_LENGTH) if job.match and job.match.how in LABEL_SOURCES]
    random.shuffle(jobs)
    labelled = {(label.key, label.wanted) for label in audit_labels(*LABEL_SOURCES.values())}
    by_pair = {(job.picture.key, job.recipe.prompt): job for job in jobs if job.picture}
    return [job for pair, job in by_pair.items() if pair not in labelled][:SAMPLE_SIZE]


def audit_labels(*sources: str) -> list[Label]:
    """The labels from these sources."""
    labels = memory().labels
    return [label for label in labels.all() if label.source in sources] if labels else []


def statistics() -> dict[str, Any]:
    """The totals, and the false-hit rates that audits found."""
    return {
        **totals(),
        "audited": false_hit_rate([label.right for label in audit_labels(LABEL_SOURCES["same meaning"])]),
        "audited_relaxed": false_hit_rate([label.right for label in audit_labels(LABEL_SOURCES["shows more"])]),
    }


def totals() -> dict[str, Any]:
    """How many jobs were answered in which way, the time saved, and the energy spent and saved."""
    counts = job_store().statistics.counts()
    jobs = sum(counts[origin] for origin in Origin)
    return {
        "jobs": jobs,
        **{str(origin): int(counts[origin]) for origin in Origin},
        "hit_rate": round(counts[Origin.MEMORY] / jobs, 4) if jobs else None,
        "seconds_saved": round(counts["seconds_saved"], 1),
        "watt_hours_spent": round(counts["joules_spent"] / 3600, 3),
        "watt_hours_saved": round(counts["joules_saved"] / 3600, 3),
    }


def false_hit_rate(right: list[bool]) -> dict[str, Any]:
    """The share of wrong answers with its Wilson interval at 95 %."""
    wrong = right.count(False)
    low, high = wilson_interval(wrong, len(right))
    return {
        "answers": len(right),
        "wrong": wrong,
        "false_hit_rate": round(wrong / len(right), 4) if right else None,
        "low": round(low, 4),
        "high": round(high, 4),
    }
