"""The OpenAPI 3.1 description of the native API, generated from its routes, and the page to read and try it on.

A route carries its description in the decorator `documented`; path, methods and summary are read from the code.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Flask, current_app, render_template, request, send_from_directory
from flask.typing import ResponseReturnValue
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from werkzeug.routing import Rule

from .documents import ProblemDocument

bp = Blueprint("openapi", __name__)

API_VERSION = "1"
PREFIX = "/api/v1/"
REFERENCE = "#/components/schemas/{model}"
PROBLEM_JSON = "application/problem+json"
ERRORS = {
    400: "The request cannot be read.",
    401: "An API key is required.",
    403: "This user, or the page that sent the request, may not do that.",
    404: "What the path names does not exist, or this user may not see it.",
    409: "The job's state does not allow this, or the same request is still being processed.",
    413: "The body is too large.",
    415: "The body must be JSON.",
    416: "The file has no such range.",
    422: "A field or parameter is not valid: `field` names it, and `fix` says how to correct it.",
    429: "A limit is used up.",
    503: "A service does not respond, or the queue is full.",
}
URI_TOO_LONG = {"description": "The address is longer than the server reads.", "content": {"text/html": {}}}
ERRORS_OF_ALL_ROUTES = (401, 403, 429, 503)
ERRORS_OF_JSON_BODIES = (400, 413, 415, 422)
SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"

View = TypeVar("View", bound=Callable[..., ResponseReturnValue])
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, the path or a header."""

    name: str
    schema: Mapping[str, Any]
    description: str
    location: str = "query"


@dataclass(frozen=True, slots=True)
class DocumentedResponse:
    """A successful response. `document` is the type of its JSON, from `documents`; None if it is not JSON."""

    description: str
    document: Any = None
    media_types: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # those that are always set, with their descriptions
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # parameters by operation id


@dataclass(frozen=True, slots=True)
class Operation:
    """The description of a route, apart from its path, methods and docstring."""

    responses: Mapping[int, DocumentedResponse]
    errors: Sequence[int] = ()
    parameters: Sequence[Parameter] = ()
    body: Any = None  # the type of the JSON body, from `documents`; None if it takes none
    upload: Sequence[str] = ()  # the media types of files that it takes as the body


def documented(
    responses: Mapping[int, DocumentedResponse],
    *,
    errors: Sequence[int] = (),
    parameters: Sequence[Parameter] = (),
    body: Any = None,
    upload: Sequence[str] = (),
) -> Callable[[View], View]:
    """Describe a route: its responses by status, its errors, and the JSON body or the media types it accepts."""

    def attach(view: View) -> View:
        operation = Operation(responses, errors, parameters, body, upload)
        view.operation = operation  # type: ignore[attr-defined]  # functions may carry attributes, their type has none
        return view

    return attach


def ok(document: Any, description: str) -> dict[int, DocumentedResponse]:
    """The responses of a route that answers with status 200 and this JSON document."""
    return {200: DocumentedResponse(description, document)}


@bp.get("/api/v1/openapi.json")
@documented({200: DocumentedResponse("An OpenAPI 3.1 document.", dict[str, Any])})
def openapi() -> ResponseReturnValue:
    """Get this description."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # werkzeug's LocalProxy has it
    return {**describe_api(app), "servers": [{"url": request.root_path or "/"}]}


@bp.get("/api/docs")
def docs() -> ResponseReturnValue:
    """The description as a page, shown by Swagger UI."""
    return render_template("api-docs.html")


@bp.get("/api/docs/<path:name>")
def swagger(name: str) -> ResponseReturnValue:
    """The scripts and styles of Swagger UI."""
    return send_from_directory(SWAGGER_UI, name, max_age=24 * 3600)


@functools.lru_cache(maxsize=1)
def describe_api(app: Flask) -> Schema:
    """The whole OpenAPI document, ready for JSON. It is cached: an app's routes do not change once it serves."""
    operations = list(documented_routes(app))
    types = {id(kind): kind for _, _, operation in operations for kind in document_types(operation)}
    adapters: list[tuple[int, JsonSchemaMode, TypeAdapter[Any]]] = [
        (number, "validation", TypeAdapter(kind)) for number, kind in types.items()
    ]
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=REFERENCE)
    schemas = {number: schema for (number, _), schema in references.items()}
    paths: dict[str, Schema] = {}
    for rule, method, operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        view = app.view_functions[rule.endpoint]
        paths.setdefault(path, {})[method] = operation_object(rule, method, view, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "memoAIzed",
            "version": API_VERSION,
            "description": "Answers a prompt with a remembered picture if one fits, and paints a new one if not.",
        },
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": close_objects(definitions["$defs"]),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def documented_routes(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    """Every documented route of the native API with its method, ordered by path."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if rule.rule.startswith(PREFIX) and operation:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method.lower(), operation


def document_types(operation: Operation) -> Iterator[Any]:
    """The types of all JSON documents that an operation reads or sends."""
    yield ProblemDocument
    yield from (response.document for response in operation.responses.values() if response.document)
    if operation.body:
        yield operation.body


def operation_object(
    rule: Rule, method: str, view: Callable[..., Any], operation: Operation, schemas: Mapping[int, Schema]
) -> Schema:
    """See https://spec.openapis.org/oas/v3.1.1.html#operation-object."""
    summary, _, description = (inspect.getdoc(view) or "").partition("\n\n")
    path_parameters = [Parameter(name, {"type": "string"}, "", "path") for name in sorted(rule.arguments)]
    errors = {*operation.errors, *ERRORS_OF_ALL_ROUTES, *(ERRORS_OF_JSON_BODIES if operation.body else ())}
    result: Schema = {
        "operationId": f"{method}_{rule.endpoint.rpartition('.')[2]}",
        "summary": " ".join(summary.split()),
        "tags": [rule.rule.removeprefix(PREFIX).partition("/")[0]],
        "parameters": [parameter_object(parameter) for parameter in (*path_parameters, *operation.parameters)],
        "responses": {
            **{str(status): response_object(response, schemas) for status, response in operation.responses.items()},
            **({"414": URI_TOO_LONG} if path_parameters or operation.parameters else {}),
            **{str(status): error_response(status, schemas) for status in sorted(errors)},
        },
    }
    if description:
        result["description"] = " ".join(description.split())
    content: Schema = {media_type: {} for media_type in operation.upload}
    if operation.body:
        content["application/json"] = {"schema": schemas[id(operation.body)]}
    return result | ({"requestBody": {"required": True, "content": content}} if content else {})


def parameter_object(parameter: Parameter) -> Schema:
    """See https://spec.openapis.org/oas/v3.1.1.html#parameter-object."""
    result = {"name": parameter.name, "in": parameter.location, "schema": dict(parameter.schema)}
    result |= {"description": parameter.description} if parameter.description else {}
    return result | ({"required": True} if parameter.location == "path" else {})


def response_object(response: DocumentedResponse, schemas: Mapping[int, Schema]) -> Schema:
    """See https://spec.openapis.org/oas/v3.1.1.html#response-object."""
    content: Schema = {media_type: {} for media_type in response.media_types}
    if response.document:
        content["application/json"] = {"schema": schemas[id(response.document)]}
    result: Schema = {"description": response.description}
    if response.headers:
        result["headers"] = {
            name: {"description": description, "schema": {"type": "string"}, "required": True}
            for name, description in response.headers.items()
        }
    if response.links:
        links = response.links.items()
        result["links"] = {name: {"operationId": name, "parameters": dict(values)} for name, values in links}
    return result | ({"content": content} if content else {})


def error_response(status: int, schemas: Mapping[int, Schema]) -> Schema:
    """A response with a problem document."""
    content = {PROBLEM_JSON: {"schema": schemas[id(ProblemDocument)]}}
    return {"description": ERRORS[status], "content": content}


def close_objects(schema: Any) -> Any:
    """The schemas without their titles; objects allow no properties but those described."""
    if isinstance(schema, list):
        return [close_objects(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: close_objects(part) for name, part in schema.items() if name != "title" or isinstance(part, dict)}
    is_object = "properties" in result and result.get("type") == "object"
    return result | ({"additionalProperties": False} if is_object else {})
