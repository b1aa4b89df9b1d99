"""web: the door people knock at. Knows HTTP; asks memo and the worker's queue for all else."""

from flask import Flask, Response, abort, request

from memo import Memory
from worker.catalogue import Catalogue
from worker.queue import Queue

from . import api, audit, health, metrics, pages, problems

LARGEST_BODY = 64 * 1024  # bytes
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


def create_app(memory: Memory, queue: Queue, catalogue: Catalogue, **config: object) -> Flask:
    """The web application over the given parts; `config` overrides Flask's configuration."""
    app = Flask(__name__)
    app.config.from_mapping(MAX_CONTENT_LENGTH=LARGEST_BODY)
    app.config.from_mapping(config)
    app.extensions.update(memory=memory, queue=queue, catalogue=catalogue)
    problems.register(app)
    app.before_request(refuse_other_sites)
    app.after_request(guard)
    for blueprint in (pages.bp, api.bp, audit.bp, health.bp, metrics.bp):
        app.register_blueprint(blueprint)
    return app


def refuse_other_sites() -> None:
    """A page of another site may not make this server paint or delete."""
    if request.method in ("POST", "PUT", "PATCH", "DELETE"):
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            abort(403, "requests from pages of other sites are refused")


def guard(response: Response) -> Response:
    """Security headers for every answer (https://owasp.org/www-project-secure-headers/)."""
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response
