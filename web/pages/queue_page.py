"""The page of queue and workers: what runs where, how much is waiting, and charts of the last hours."""

import time
from collections import Counter
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from jobs.job import Origin
from memo import BadRecipe, Unavailable
from web.api.audit import totals
from web.api.documents import HistoryDocument
from web.api.openapi import Parameter, documented, ok
from web.auth import admin_required
from web.extensions import catalogue, job_store

bp = Blueprint("queue", __name__)

SPANS = {"1h": (60, 1), "6h": (360, 5), "24h": (1440, 20)}  # minutes in all, minutes per point
SPAN = Parameter("span", {"type": "string", "enum": list(SPANS), "default": "1h"}, "how far back")


@bp.get("/queue")
@admin_required
def page() -> ResponseReturnValue:
    """The present state; a script refreshes it and draws the charts."""
    try:
        state = queue_state()
    except Unavailable as error:
        return render_template("queue.html", trouble=str(error)), 503
    return render_template("queue.html", state=state, spans=SPANS)


@bp.get("/queue/state")
@admin_required
def state() -> ResponseReturnValue:
    """The present state alone, for a page that refreshes it."""
    return render_template("queue-state.html", state=queue_state())


@bp.get("/api/v1/stats/history")
@admin_required
@documented(ok(HistoryDocument, "The counts."), errors=(422,), parameters=(SPAN,))
def history() -> ResponseReturnValue:
    """Get the counts of the last hour, or of `span` = 6h or 24h: times, and the values at each time."""
    span = request.args.get("span", "1h")
    if span not in SPANS:
        raise BadRecipe("span", span, f"choose one of {', '.join(SPANS)}")
    minutes, stride = SPANS[span]
    counts = job_store().statistics.history(minutes)
    start = (int(time.time() // 60) - minutes + 1) * 60
    points = [add_up(counts[minute : minute + stride]) for minute in range(0, minutes, stride)]
    times = [start + 60 * minute for minute in range(0, minutes, stride)]
    return {"span": span, "seconds": 60 * stride, "times": times, **series(points, stride)}


def add_up(counts: list[Counter[str]]) -> Counter[str]:
    """The sums over several minutes."""
    sums: Counter[str] = Counter()
    for minute in counts:
        sums.update(minute)
    return sums


def series(points: list[Counter[str]], stride: int) -> dict[str, list[float | None]]:
    """The values of the charts, one per point; None where there was nothing to measure."""
    jobs = [sum(point[origin] for origin in Origin) for point in points]
    return {
        **{str(origin): [point[origin] for point in points] for origin in Origin},
        "pictures_per_minute": [round(point["pictures"] / stride, 3) for point in points],
        "hit_rate": [ratio(point[Origin.MEMORY], count) for point, count in zip(points, jobs, strict=True)],
        "batch_size": [ratio(point["batch_sizes"], point["batches"]) for point in points],
        "watt_hours_spent": [round(point["joules_spent"] / 3600, 5) for point in points],
        "watt_hours_saved": [round(point["joules_saved"] / 3600, 5) for point in points],
    }


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None if whole is 0."""
    return round(part / whole, 4) if whole else None


def queue_state() -> dict[str, Any]:
    """The workers, the models with their waiting jobs, and the totals since the beginning. Raises Unavailable."""
    models = catalogue().to_dicts()
    waiting = {model["name"]: job_store().statistics.waiting(model["name"]) for model in models}
    rows = [{**model, "waiting": waiting[model["name"]][0], "age": waiting[model["name"]][1]} for model in models]
    workers = [{"name": name, **state} for name, state in sorted(job_store().heartbeats.workers().items())]
    stored, missing = job_store().backlog.index_state()
    index = {"known": stored - missing, "stored": stored, "missing": missing}
    counts = job_store().statistics.counts()
    return {"models": rows, "workers": workers, "totals": totals(), "counts": counts, "index": index}
