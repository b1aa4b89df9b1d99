"""Errors as answers: RFC 9457 problem details under /api, a page elsewhere. HTTP codes are chosen here only."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from memo import BadKey, BadRecipe, BadSetup, Forgotten, Unavailable

RETRY_SECONDS = "5"

Shape = Callable[[int, str, str, Mapping[str, Any]], Response]  # status, title, detail, what more is known
SHAPES: dict[str, Shape] = {}  # how a dialect tells errors, by the beginning of its paths


def register(app: Flask) -> None:
    """Answer for everything memo and worker can raise."""
    app.register_error_handler(BadRecipe, bad_recipe)
    app.register_error_handler(BadKey, lambda error: problem(404, "No such key", str(error)))
    app.register_error_handler(
        Forgotten, lambda error: problem(404, "Not found", "no picture is kept under this key")
    )
    app.register_error_handler(Unavailable, unavailable)
    app.register_error_handler(BadSetup, lambda error: problem(500, "This server is set up wrongly", str(error)))
    app.register_error_handler(HTTPException, http_error)


def bad_recipe(error: BadRecipe) -> ResponseReturnValue:
    """422 with the field, the value and the fix."""
    faults = {"field": error.field, "value": error.value, "fix": error.remedy}
    return problem(422, "The request cannot be followed", str(error), **faults)


def unavailable(error: Unavailable) -> ResponseReturnValue:
    """503: a part does not answer now."""
    answer = problem(503, "A part of this server does not answer", str(error))
    answer.headers["Retry-After"] = RETRY_SECONDS
    return answer


def http_error(error: HTTPException) -> ResponseReturnValue:
    """What Flask and werkzeug raise; their headers (Allow, Location …) are kept."""
    if error.code is None or error.code < 400:
        return error
    answer = problem(error.code, error.name, error.description or error.name)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            answer.headers[name] = value
    return answer


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """A problem document, or the same in a dialect's shape, or as a page for people."""
    if shape := shape_for(request.path):
        return shape(status, title, detail, more)
    if not request.path.startswith("/api/") and request.path != "/healthz" and wants_page():
        return Response(render_template("problem.html", status=status, title=title, detail=detail), status)
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(current_app.json.dumps(document), status, content_type="application/problem+json")


def shape_for(path: str) -> Shape | None:
    """How errors of this path are told, where a dialect has its own way."""
    return next((shape for prefix, shape in SHAPES.items() if path.startswith(prefix)), None)


def wants_page() -> bool:
    """Whether the client would rather read HTML than JSON."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"] or not accepted
