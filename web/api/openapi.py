"""The description of the native API (OpenAPI 3.1), made from its routes, and the page to read and try it on.

A route is described where it stands, by `described`; its path, methods and words are taken from the code itself.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Flask, current_app, render_template, send_from_directory
from flask.typing import ResponseReturnValue
from pydantic import TypeAdapter
from werkzeug.routing import Rule

from .documents import ProblemDocument

bp = Blueprint("openapi", __name__)

VERSION = "1"  # of the API
PREFIX = "/api/v1/"
REFERENCE = "#/components/schemas/{model}"
PROBLEM = "application/problem+json"
REFUSALS = {
    400: "The request cannot be read.",
    401: "A key is wanted.",
    403: "This caller, or this site, may not do that.",
    404: "There is no such thing.",
    409: "Not in this state.",
    413: "The body is too large.",
    415: "The body must be JSON.",
    416: "The file has no such part.",
    422: "A field or parameter cannot be followed; `field` names it, `fix` says what would be accepted.",
    429: "Too much was asked for.",
    503: "A part of this server does not answer, or too much waits.",
}
TOO_LONG = {"description": "The address is longer than the server reads.", "content": {"text/html": {}}}
ALWAYS = (401, 403, 429, 503)
SWAGGER = Path(str(files("flask_swagger_ui"))) / "dist"

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of the query or the header."""

    name: str
    schema: Mapping[str, Any]
    about: str
    where: str = "query"


@dataclass(frozen=True, slots=True)
class Answer:
    """`document` is a type of `documents`, or None for what is no JSON."""

    about: str
    document: Any = None
    media: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # that it always has, and what they say
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # operations, and their parameters from here


@dataclass(frozen=True, slots=True)
class Operation:
    """All that is said of a route beside its path, methods and docstring."""

    answers: Mapping[int, Answer]
    refused: Sequence[int] = ()
    parameters: Sequence[Parameter] = ()
    body: Any = None
    upload: Sequence[str] = ()


def described(
    answers: Mapping[int, Answer],
    *,
    refused: Sequence[int] = (),
    parameters: Sequence[Parameter] = (),
    body: Any = None,
    upload: Sequence[str] = (),
) -> Callable[[View], View]:
    """Say what a route answers, by status, what it refuses with, and the type of its JSON body or of its upload."""

    def note(view: View) -> View:
        view.operation = Operation(answers, refused, parameters, body, upload)  # type: ignore[attr-defined]
        return view

    return note


def told(document: Any, about: str) -> dict[int, Answer]:
    """A JSON document with status 200."""
    return {200: Answer(about, document)}


@bp.get("/api/v1/openapi.json")
@described({200: Answer("An OpenAPI 3.1 document.", dict[str, Any])})
def openapi() -> ResponseReturnValue:
    """This description."""
    return document(current_app._get_current_object())  # type: ignore[attr-defined]  # werkzeug's LocalProxy has it


@bp.get("/api/docs")
def docs() -> ResponseReturnValue:
    """The description as a page."""
    return render_template("docs.html")


@bp.get("/api/docs/<path:name>")
def swagger(name: str) -> ResponseReturnValue:
    """What the page is made of."""
    return send_from_directory(SWAGGER, name, max_age=24 * 3600)


@functools.lru_cache(maxsize=1)
def document(app: Flask) -> Schema:
    """The whole description, JSON-able; routes never change once requests are answered."""
    operations = list(routes(app))
    types = {id(kind): kind for _, _, one in operations for kind in kinds(one)}
    adapters = [(number, "validation", TypeAdapter(kind)) for number, kind in types.items()]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=REFERENCE)  # type: ignore[arg-type]
    schemas = {number: schema for (number, _), schema in found.items()}
    paths: dict[str, Schema] = {}
    for rule, method, operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        view = app.view_functions[rule.endpoint]
        paths.setdefault(path, {})[method] = told_of(rule, method, view, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "memoAIzed",
            "version": VERSION,
            "description": "Answers from memory when a remembered picture is right for the prompt, else paints.",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": closed(definitions["$defs"]),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def routes(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    """Every described route of the native API with its method, in the order of their paths."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if rule.rule.startswith(PREFIX) and operation:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method.lower(), operation


def kinds(operation: Operation) -> Iterator[Any]:
    """The types that an operation speaks of."""
    yield ProblemDocument
    yield from (answer.document for answer in operation.answers.values() if answer.document)
    if operation.body:
        yield operation.body


def told_of(
    rule: Rule, method: str, view: Callable[..., Any], operation: Operation, schemas: Mapping[int, Schema]
) -> Schema:
    """One operation object (https://spec.openapis.org/oas/v3.1.1.html#operation-object)."""
    summary, _, more = (inspect.getdoc(view) or "").partition("\n\n")
    inside = [Parameter(name, {"type": "string"}, "", "path") for name in sorted(rule.arguments)]
    refused = sorted({*operation.refused, *ALWAYS, *([400, 413, 415, 422] if operation.body else [])})
    told: Schema = {
        "operationId": f"{method}_{rule.endpoint.rpartition('.')[2]}",
        "summary": " ".join(summary.split()),
        "tags": [rule.rule.removeprefix(PREFIX).partition("/")[0]],
        "parameters": [parameter_object(one) for one in (*inside, *operation.parameters)],
        "responses": {
            **{str(status): answer_object(answer, schemas) for status, answer in operation.answers.items()},
            **({"414": TOO_LONG} if inside or operation.parameters else {}),
            **{str(status): refusal(status, schemas) for status in refused},
        },
    }
    if more:
        told["description"] = " ".join(more.split())
    content: Schema = {media: {} for media in operation.upload}
    if operation.body:
        content["application/json"] = {"schema": schemas[id(operation.body)]}
    return told | ({"requestBody": {"required": True, "content": content}} if content else {})


def parameter_object(parameter: Parameter) -> Schema:
    """See https://spec.openapis.org/oas/v3.1.1.html#parameter-object."""
    told = {"name": parameter.name, "in": parameter.where, "schema": dict(parameter.schema)}
    told |= {"description": parameter.about} if parameter.about else {}
    return told | ({"required": True} if parameter.where == "path" else {})


def answer_object(answer: Answer, schemas: Mapping[int, Schema]) -> Schema:
    """See https://spec.openapis.org/oas/v3.1.1.html#response-object."""
    content: Schema = {media: {} for media in answer.media}
    if answer.document:
        content["application/json"] = {"schema": schemas[id(answer.document)]}
    told: Schema = {"description": answer.about}
    if answer.headers:
        text = {"schema": {"type": "string"}, "required": True}
        told["headers"] = {name: {"description": about, **text} for name, about in answer.headers.items()}
    if answer.links:
        told["links"] = {
            name: {"operationId": name, "parameters": dict(given)} for name, given in answer.links.items()
        }
    return told | ({"content": content} if content else {})


def refusal(status: int, schemas: Mapping[int, Schema]) -> Schema:
    """A problem document."""
    content = {PROBLEM: {"schema": schemas[id(ProblemDocument)]}}
    return {"description": REFUSALS[status], "content": content}


def closed(schema: Any) -> Any:
    """The schemas without titles; objects have the properties that are told, and no other."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: closed(part) for name, part in schema.items() if name != "title" or isinstance(part, dict)}
    return told | ({"additionalProperties": False} if "properties" in told and told.get("type") == "object" else {})
