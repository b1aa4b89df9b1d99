"""The pages of jobs: a page for one, a page for several side by side, and what their buttons do."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from jobs.job import Job
from memo import BadKey, Forgotten, Picture, Unavailable
from web.access import cancel_job, find_job, find_jobs, find_picture, savings
from web.auth import current_user
from web.extensions import job_store
from web.picture_requests import MAX_PICTURES, job_document, regenerate, request_variation, retry_job

from .visitors import name_visitor

bp = Blueprint("job", __name__, url_prefix="/jobs")
bp.after_request(name_visitor)


@bp.get("")
def several() -> ResponseReturnValue:
    """The jobs that the query string names, side by side."""
    job_ids = request.args.getlist("id")[:MAX_PICTURES]
    if not job_ids:
        return redirect(url_for("create.page"), 303)
    return render_template("jobs.html", cards=[card_values(job) for job in find_jobs(job_ids)])


@bp.get("/<job_id>")
def page(job_id: str) -> ResponseReturnValue:
    """One job, live."""
    return render_template("job.html", **card_values(find_job(job_id)))


@bp.get("/<job_id>/card")
def card(job_id: str) -> ResponseReturnValue:
    """The job's card alone, for a page that refreshes it."""
    return render_template("job-card.html", **card_values(find_job(job_id)))


@bp.post("/<job_id>/cancel")
def cancel(job_id: str) -> ResponseReturnValue:
    """Cancel the job; browsers with JavaScript call the API instead."""
    return redirect_to_job(cancel_job(job_id))


@bp.post("/<job_id>/variation")
def variation(job_id: str) -> ResponseReturnValue:
    """Request another picture of the same prompt that this visitor has not received yet."""
    return redirect_to_job(request_variation(find_job(job_id), current_user().name))


@bp.post("/<job_id>/retry")
def retry(job_id: str) -> ResponseReturnValue:
    """Repeat the request of a job that failed or was cancelled."""
    return redirect_to_job(retry_job(find_job(job_id), current_user().name))


@bp.post("/<job_id>/from-scratch")
def from_scratch(job_id: str) -> ResponseReturnValue:
    """Paint the same prompt anew, from noise, whatever is remembered."""
    return redirect_to_job(regenerate(find_job(job_id), current_user().name))


def redirect_to_job(job: Job) -> ResponseReturnValue:
    """A redirect to the job's page."""
    return redirect(url_for("job.page", job_id=job.id), 303)


def card_values(job: Job) -> dict[str, Any]:
    """The values for the template of a job's card.

    `others` jobs wait for the same painting, `waiting` paintings wait for the same model, `saved` holds the seconds
    and joules that memory saved, and `source` is the similar picture that memory let the painting start from.
    """
    return {
        "job": job_document(job),
        "others": job.waiters - 1,
        "waiting": job_store().statistics.count_waiting(job.recipe.model) if job.position is not None else 0,
        "saved": savings(job),
        "source": find_source(job),
    }


def find_source(job: Job) -> Picture | None:
    """The picture that memory chose for the painting to start from; None if there is none or it cannot be shown."""
    try:
        return find_picture(job.near.picture) if job.near else None
    except (Forgotten, BadKey, Unavailable):
        return None
