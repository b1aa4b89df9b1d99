"""AUTOMATIC1111's /internal, from which its own page reads the progress of tasks. See docs/clients.md."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from jobs.job import State
from web import problems
from web.access import seconds_until_done
from web.json_body import read_object

from .routes import format_error
from .tasks import (
    explain_waiting,
    known_jobs,
    preview_in_base64,
    share_done,
    tasks_under_way,
    user_id,
    user_records,
)

bp = Blueprint("internal", __name__, url_prefix="/internal")


@bp.post("/progress")
def progress_of_task() -> ResponseReturnValue:
    """Get the progress of one task."""
    body = read_object()
    task = user_records().task(user_id(), str(body.get("id_task") or ""))
    jobs = known_jobs(task) if task else []
    completed = bool(task and task.whole and all(job.state.final for job in jobs))
    active = next((job for job in jobs if job.state is State.RUNNING), None)
    known_preview = body.get("id_live_preview", -1)
    image = (
        preview_in_base64(active)
        if active and active.previewed != known_preview and body.get("live_preview", True)
        else None
    )
    return {
        "active": active is not None,
        "queued": bool(task) and not completed and active is None,
        "completed": completed,
        "progress": share_done(jobs),
        "eta": seconds_until_done(jobs),
        "live_preview": f"data:image/png;base64,{image}" if image else None,
        "id_live_preview": active.previewed if active and image else known_preview,
        "textinfo": explain_waiting(jobs),
    }


@bp.get("/pending-tasks")
def pending_tasks() -> ResponseReturnValue:
    """List the user's tasks that have not started yet."""
    waiting = [task.name for task, jobs in tasks_under_way() if all(job.state is State.QUEUED for job in jobs)]
    return {"size": len(waiting), "tasks": waiting}


problems.ERROR_FORMATS["/internal/"] = format_error
