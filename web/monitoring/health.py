"""GET /healthz: whether a job can be served now; GET /readyz: whether this process can answer. Both name services."""

from collections.abc import Callable, Mapping

from flask import Blueprint
from flask.typing import ResponseReturnValue

from memo import BadSetup, Unavailable
from web.extensions import job_store, memory

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def health() -> ResponseReturnValue:
    """200 if a job can be served, else 503. The index may be down, since painting works without it."""
    services = {
        "queue": check(job_store().connection.check),
        "workers": check(lambda: require_worker(job_store().heartbeats.workers())),
        "store": check(memory().store.check),
        "index": check(require_complete_index),
    }
    healthy = all(services[name] == "ok" for name in ("queue", "workers", "store"))
    status = "ok" if all(state == "ok" for state in services.values()) else "degraded" if healthy else "unhealthy"
    return {"status": status, "services": services}, 200 if healthy else 503


@bp.get("/readyz")
def ready() -> ResponseReturnValue:
    """200 if keys can be checked, jobs recorded and pictures served, else 503. It needs no worker."""
    services = {"queue": check(job_store().connection.check), "store": check(memory().store.check)}
    is_ready = all(state == "ok" for state in services.values())
    return {"status": "ready" if is_ready else "not ready", "services": services}, 200 if is_ready else 503


def require_complete_index() -> None:
    """Raise Unavailable if the index cannot search or write, or lacks pictures that are being indexed."""
    memory().index.check()
    stored, missing = job_store().backlog.index_state()
    if missing:
        raise Unavailable(f"the index knows {stored - missing} of {stored} pictures; the others are being indexed")


def check(service: Callable[[], object]) -> str:
    """ "ok", or what is wrong with a service."""
    try:
        service()
    except (Unavailable, BadSetup) as error:
        return str(error)
    return "ok"


def require_worker(workers: Mapping[str, object]) -> None:
    """Raise Unavailable if no worker is running."""
    if not workers:
        raise Unavailable("no worker is running")
