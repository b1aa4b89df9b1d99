"""Turns errors into responses: problem details (RFC 9457) for programs, a page for people, a dialect's own format.

Only this file chooses the statuses of the errors that memo and jobs raise.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from memo import BadKey, BadRecipe, BadSetup, Forgotten, Unavailable

RETRY_SECONDS = "5"
NESTED = "the body is nested too deeply: no field has more than a few levels"

ErrorFormat = Callable[[int, str, str, Mapping[str, Any]], Response]  # takes status, title, detail, further fields
ERROR_FORMATS: dict[str, ErrorFormat] = {}  # those of the dialects, by the prefix of their paths


def register(app: Flask) -> None:
    """Register a handler for every error that memo and jobs may raise."""
    app.register_error_handler(BadRecipe, bad_recipe)
    app.register_error_handler(BadKey, lambda error: problem(404, "No such key", str(error)))
    app.register_error_handler(Forgotten, lambda error: problem(404, "Not found", "this picture does not exist"))
    app.register_error_handler(Unavailable, unavailable)
    app.register_error_handler(BadSetup, lambda error: problem(500, "This server is misconfigured", str(error)))
    app.register_error_handler(RecursionError, lambda error: problem(400, "Bad Request", NESTED))
    app.register_error_handler(HTTPException, http_error)


def bad_recipe(error: BadRecipe) -> ResponseReturnValue:
    """422 with the field, its value and the fix."""
    return problem(
        422, "The request is not valid", str(error), field=error.field, value=error.value, fix=error.remedy
    )


def unavailable(error: Unavailable) -> ResponseReturnValue:
    """503, with the time to retry."""
    response = problem(503, "A service is not available", str(error))
    response.headers["Retry-After"] = RETRY_SECONDS
    return response


def http_error(error: HTTPException) -> ResponseReturnValue:
    """An error raised by Flask or werkzeug, with its headers (Allow, Location …)."""
    if error.code is None or error.code < 400:
        return error
    response = problem(error.code, error.name, error.description or error.name)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """An error in the dialect's own format, as a page for people, or else as a problem document."""
    if error_format := error_format_of(request.path):
        return error_format(status, title, detail, more)
    if not request.path.startswith("/api/") and request.path not in ("/healthz", "/readyz") and prefers_html():
        return Response(render_template("problem.html", status=status, title=title, detail=detail), status)
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(current_app.json.dumps(document), status, content_type="application/problem+json")


def error_format_of(path: str) -> ErrorFormat | None:
    """The dialect's error format for this path, if it belongs to a dialect."""
    return next((error_format for prefix, error_format in ERROR_FORMATS.items() if path.startswith(prefix)), None)


def prefers_html() -> bool:
    """Whether the client prefers HTML to JSON."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"] or not accepted
