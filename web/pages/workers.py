"""The page of queue and workers: what runs where, how much waits, and the last hours in figures.

Knows HTML and JSON; all figures stand on the board.
"""

import time
from collections import Counter
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from jobs.job import Origin
from memo import BadRecipe, Unavailable
from web.api.audit import ledger
from web.api.documents import HistoryDocument
from web.api.openapi import Parameter, described, told
from web.auth import for_admins
from web.services import catalogue, job_store

bp = Blueprint("workers", __name__)

SPANS = {"1h": (60, 1), "6h": (360, 5), "24h": (1440, 20)}  # minutes, and how many of them make one point
SPAN = Parameter("span", {"type": "string", "enum": list(SPANS), "default": "1h"}, "how far back")


@bp.get("/queue")
@for_admins
def page() -> ResponseReturnValue:
    """What is there now; the module in static/ keeps it true and draws the charts."""
    try:
        now = standing()
    except Unavailable as error:
        return render_template("queue.html", trouble=str(error)), 503
    return render_template("queue.html", now=now, spans=SPANS)


@bp.get("/queue/now")
@for_admins
def board() -> ResponseReturnValue:
    """The same without its surroundings."""
    return render_template("board.html", now=standing())


@bp.get("/api/v1/stats/history")
@for_admins
@described(told(HistoryDocument, "The figures."), refused=(422,), parameters=(SPAN,))
def history() -> ResponseReturnValue:
    """The last hour, or `span` = 6h or 24h: times and, for each, what was counted. See docs/api.md."""
    span = request.args.get("span", "1h")
    if span not in SPANS:
        raise BadRecipe("span", span, f"choose one of {', '.join(SPANS)}")
    minutes, stride = SPANS[span]
    counted = job_store().statistics.history(minutes)
    begin = (int(time.time() // 60) - minutes + 1) * 60
    points = [total(counted[at : at + stride]) for at in range(0, minutes, stride)]
    times = [begin + 60 * at for at in range(0, minutes, stride)]
    return {"span": span, "seconds": 60 * stride, "times": times, **series(points, stride)}


def total(counted: list[Counter[str]]) -> Counter[str]:
    """Of several minutes."""
    sums: Counter[str] = Counter()
    for one in counted:
        sums.update(one)
    return sums


def series(points: list[Counter[str]], stride: int) -> dict[str, list[float | None]]:
    """What the charts show, a value a point; None where there was nothing to measure."""
    asked = [sum(point[origin] for origin in Origin) for point in points]
    return {
        **{str(origin): [point[origin] for point in points] for origin in Origin},
        "pictures_per_minute": [round(point["pictures"] / stride, 3) for point in points],
        "hit_rate": [share(point[Origin.MEMORY], many) for point, many in zip(points, asked, strict=True)],
        "batch_size": [share(point["batch_sizes"], point["batches"]) for point in points],
        "watt_hours_spent": [round(point["joules_spent"] / 3600, 5) for point in points],
        "watt_hours_saved": [round(point["joules_saved"] / 3600, 5) for point in points],
    }


def share(part: float, whole: float) -> float | None:
    """One of the other, if there is any."""
    return round(part / whole, 4) if whole else None


def standing() -> dict[str, Any]:
    """Workers, models with what waits for them, and the sums since the beginning. Raises Unavailable."""
    models = catalogue().describe()
    waiting = {model["name"]: job_store().statistics.waiting(model["name"]) for model in models}
    lines = [{**model, "waiting": waiting[model["name"]][0], "age": waiting[model["name"]][1]} for model in models]
    workers = [{"name": name, **said} for name, said in sorted(job_store().heartbeats.workers().items())]
    return {"models": lines, "workers": workers, "ledger": ledger(), "counts": job_store().statistics.counts()}
