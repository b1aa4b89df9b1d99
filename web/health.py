"""GET /healthz: whether a job can be served now, and what each part says."""

from collections.abc import Callable, Mapping

from flask import Blueprint
from flask.typing import ResponseReturnValue

from memo import BadSetup, Unavailable

from .services import job_store, memory

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def health() -> ResponseReturnValue:
    """200 when a job can be served; the index may be down, since painting goes on without it."""
    parts = {
        "queue": ask(job_store().connection.ping),
        "workers": ask(lambda: some_worker(job_store().heartbeats.workers())),
        "store": ask(memory().store.check),
        "index": ask(memory().index.count),
    }
    healthy = all(parts[name] == "ok" for name in ("queue", "workers", "store"))
    status = "ok" if all(word == "ok" for word in parts.values()) else "degraded" if healthy else "unhealthy"
    return {"status": status, "parts": parts}, 200 if healthy else 503


def ask(check: Callable[[], object]) -> str:
    """ "ok", or what is wrong."""
    try:
        check()
    except (Unavailable, BadSetup) as error:
        return str(error)
    return "ok"


def some_worker(workers: Mapping[str, object]) -> None:
    """Raise Unavailable when no worker is alive."""
    if not workers:
        raise Unavailable("no worker is alive")
