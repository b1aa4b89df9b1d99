"""The web application: pages, the native API, and the dialects of other image servers.

It knows HTTP, and leaves everything else to `memo` (the remembered pictures) and `jobs` (the queue).
"""

from flask import Flask, Response, abort, request
from werkzeug.middleware.proxy_fix import ProxyFix

from jobs.api_keys import ApiKeys
from jobs.models import Catalogue
from jobs.queue import Queue
from jobs.sessions import Sessions
from memo import Memory

from . import a1111, api, auth, horde, links, monitoring, openai, pages, problems
from .api import init_images
from .config import WebConfig
from .json_body import LARGEST_BODY
from .limits import concurrency, gates, long_requests, rates
from .pages import sign_in, template_filters

BLUEPRINTS = (
    *(*pages.BLUEPRINTS, *api.BLUEPRINTS, *monitoring.BLUEPRINTS, links.bp),
    *(openai.bp, *a1111.BLUEPRINTS, horde.bp),
)
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
    memory: Memory, queue: Queue, catalogue: Catalogue, config: WebConfig | None = None, **flask_config: object
) -> Flask:
    """Create the Flask application from these parts; `flask_config` overrides Flask's configuration."""
    app = Flask(__name__)
    config = config or WebConfig()
    app.secret_key = config.secret
    app.config.from_mapping(MAX_CONTENT_LENGTH=LARGEST_BODY)
    app.config.from_mapping(flask_config)
    app.extensions.update(memory=memory, queue=queue, catalogue=catalogue, config=config)
    connection = queue.job_store.connection
    app.extensions.update(api_keys=ApiKeys(connection), sessions=Sessions(connection))
    problems.register(app)
    app.before_request(refuse_other_sites)
    app.before_request(init_images.allow_uploads)
    app.before_request(auth.authenticate)
    concurrency.register(app)
    app.before_request(rates.charge_writing)
    app.after_request(add_security_headers)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    sign_in.register(app)
    template_filters.register(app)
    rates.register(app, config, sign_in.bp)
    long_requests.register(app, config)
    gates.register(app)
    trust_proxies(app, int(config.proxies))
    return app


def trust_proxies(app: Flask, count: int) -> None:
    """Trust the X-Forwarded headers that this many reverse proxies set.

    They give the client's address, and the scheme, port and path prefix under which it reached the outermost proxy.
    """
    if count:
        trusted = dict.fromkeys(("x_for", "x_proto", "x_port", "x_prefix"), count)
        proxy_fix = ProxyFix(app.wsgi_app, **trusted, x_host=0)
        app.wsgi_app = proxy_fix  # type: ignore[method-assign]  # Flask's documented way to wrap an application


def refuse_other_sites() -> None:
    """Abort with 403 when a page of another site makes a browser change something here."""
    if request.method in ("POST", "PUT", "PATCH", "DELETE") and auth.is_cross_site():
        abort(403, auth.CROSS_SITE)


def add_security_headers(response: Response) -> Response:
    """Set the security headers of every response (https://owasp.org/www-project-secure-headers/).

    Browsers must not store what only one user may see, or they would show it after that user has signed out. Pictures
    have headers of their own.
    """
    if auth.is_private():
        response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    return response
