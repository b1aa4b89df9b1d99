"""web: the door people knock at. Knows HTTP; asks memo and the worker's queue for all else."""

from flask import Flask, Response, abort, request
from werkzeug.middleware.proxy_fix import ProxyFix

from jobs.api_keys import ApiKeys
from jobs.models import Catalogue
from jobs.queue import Queue
from memo import Memory

from . import a1111, api, auth, health, horde, limits, links, metrics, openai, pages, problems, streams
from .api import init_images
from .config import WebConfig
from .pages import sign_in

PARTS = (*pages.BLUEPRINTS, *api.BLUEPRINTS, health.bp, metrics.bp, links.bp, openai.bp, *a1111.BLUEPRINTS, horde.bp)
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


def create_app(
    memory: Memory, queue: Queue, catalogue: Catalogue, who_may: WebConfig | None = None, **config: object
) -> Flask:
    """The web application over the given parts; `config` overrides Flask's configuration."""
    app = Flask(__name__)
    who_may = who_may or WebConfig()
    app.secret_key = who_may.secret
    app.config.from_mapping(MAX_CONTENT_LENGTH=LARGEST_BODY)
    app.config.from_mapping(config)
    app.extensions.update(
        memory=memory, queue=queue, catalogue=catalogue, config=who_may, keys=ApiKeys(queue.job_store.connection)
    )
    app.extensions["streams"] = streams.streams_of(who_may)
    problems.register(app)
    app.before_request(refuse_other_sites)
    app.before_request(init_images.make_room)
    app.before_request(auth.identify)
    app.after_request(guard)
    for part in PARTS:
        app.register_blueprint(part)
    sign_in.register(app)
    limits.register(app, who_may, sign_in.bp)
    behind_proxies(app, int(who_may.proxies))
    return app


def behind_proxies(app: Flask, many: int) -> None:
    """Believe so many reverse proxies who the client is, and whether it came by https."""
    if many:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=many, x_proto=many, x_host=0)  # type: ignore[method-assign]


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
