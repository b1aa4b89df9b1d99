"""The embedded vector index as an HTTP server that speaks a part of Qdrant's REST API.

It supports what `qdrant_client.QdrantClient(url=…)` needs, so that the same code uses a folder on this machine and a
Qdrant cluster. It answers an unsupported request with 400 and a message that names the unsupported part; 404 always
means that a collection or point does not exist. https://api.qdrant.tech/api-reference

    INDEX_SERVER_FOLDER=… INDEX_SERVER_KEY=… python -m index_server.app --port PORT

Only one process can own a folder. Waitress receives requests in one thread and hands on only whole ones, so that a
half-sent request occupies none of the others.
"""

import argparse
import atexit
import hmac
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from waitress import serve
from werkzeug import exceptions as http_errors

from . import (
    FLUSH_SECONDS,
    AlreadyExists,
    BadRequest,
    CannotStart,
    Collection,
    Collections,
    EngineFailure,
    IndexServerError,
    Json,
    NotFound,
    open_collections,
)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"  # as all other processes
LOG_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"
API_VERSION = "1.20.0"  # of Qdrant; clients warn when theirs is more than one minor version away
LARGEST_BODY = 32 * 2**20
THREADS = 8
OPEN_PATHS = {"/", "/healthz", "/livez", "/readyz"}  # no key needed, as in Qdrant
# Accepted and ignored: every write is finished when it is answered, and a single node is always consistent.
IGNORED_ARGUMENTS = {"wait", "ordering", "consistency", "timeout"}
STATUS = {BadRequest: 400, NotFound: 404, AlreadyExists: 409, EngineFailure: 500}

rest = Blueprint("rest", __name__)


class UnsortedJSON(DefaultJSONProvider):
    """Writes payloads with their keys in the order in which they were stored."""

    sort_keys = False


def create() -> Flask:
    """Return the server of INDEX_SERVER_FOLDER, protected by INDEX_SERVER_KEY; raises CannotStart if one is unset."""
    folder, key = os.environ.get("INDEX_SERVER_FOLDER"), os.environ.get("INDEX_SERVER_KEY")
    if not folder or not key:
        raise CannotStart("set INDEX_SERVER_FOLDER to the index's folder and INDEX_SERVER_KEY to its API key")
    app = create_app(Path(folder), key)
    atexit.register(collections_of(app).close)
    return app


def create_app(folder: Path, key: str, *, flush_seconds: float = FLUSH_SECONDS) -> Flask:
    """Return the server as a Flask app that owns `folder` until its collections are closed."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["INDEX_KEY"] = key.encode()
    app.json = UnsortedJSON(app)
    app.extensions["collections"] = open_collections(folder, flush_seconds=flush_seconds)
    app.register_error_handler(IndexServerError, error_response)
    app.register_error_handler(http_errors.HTTPException, http_error_response)
    app.before_request(check_request)
    app.register_blueprint(rest)
    return app


def collections_of(app: Flask) -> Collections:
    """Return the collections that the app serves."""
    collections: Collections = app.extensions["collections"]
    return collections


# Before and after a request


def check_request() -> None:
    """Refuse a wrong key or an unknown query argument before the body is read."""
    g.started_at = time.perf_counter()
    if request.path in OPEN_PATHS:
        return
    key = request.headers.get("api-key", "").encode("latin-1")  # the header's bytes unchanged
    if not hmac.compare_digest(key, current_app.config["INDEX_KEY"]):
        raise http_errors.Unauthorized("Must provide a valid API key in the header api-key")
    if unknown := sorted(request.args.keys() - IGNORED_ARGUMENTS):
        raise BadRequest(f"argument {', '.join(unknown)} is not supported by the embedded index server")


def request_json() -> Any:
    """Return the request's JSON body; raises BadRequest."""
    try:
        return json.loads(request.get_data(), parse_constant=refuse_constant)
    except RecursionError as error:
        raise BadRequest("Format error in JSON body: nested too deep") from error
    except ValueError as error:
        raise BadRequest(f"Format error in JSON body: {error}") from error


def refuse_constant(name: str) -> NoReturn:
    """Raise ValueError for NaN and infinity, which Python reads although JSON has neither."""
    raise ValueError(f"{name} is not a JSON number")


def result_response(result: object) -> Response:
    """Return a result in Qdrant's envelope."""
    return jsonify(result=result, status="ok", time=time.perf_counter() - g.started_at)


def completed_response() -> Response:
    """Return the response to a write, which is always finished by now."""
    return result_response({"operation_id": None, "status": "completed"})


def error_response(error: IndexServerError) -> tuple[Response, int]:
    """Return an error in Qdrant's envelope, and log it when it is not the caller's fault."""
    if isinstance(error, EngineFailure):
        current_app.logger.error("%s %s", request.method, request.path, exc_info=error)
    return jsonify(status={"error": str(error)}, time=time.perf_counter() - g.started_at), STATUS[type(error)]


def http_error_response(error: http_errors.HTTPException) -> tuple[Response, int]:
    """Return an error of Flask in the same envelope; Flask itself logs unexpected exceptions."""
    if isinstance(error, http_errors.NotFound | http_errors.MethodNotAllowed):
        unsupported = f"{request.method} {request.path} is not supported by the embedded index server"
        return error_response(BadRequest(unsupported))
    is_unexpected = isinstance(error, http_errors.InternalServerError)
    message = "Service internal error" if is_unexpected else error.description
    return jsonify(status={"error": message}, time=0), error.code or 500


# Service


@rest.get("/")
def root() -> Json:
    """https://api.qdrant.tech/api-reference/service/root"""
    return {"title": "memoAIzed index server, a part of Qdrant's REST API", "version": API_VERSION}


@rest.get("/healthz")
@rest.get("/livez")
def health() -> str:
    """https://api.qdrant.tech/api-reference/service/healthz"""
    return "healthz check passed"


@rest.get("/readyz")
def ready() -> tuple[str, int]:
    """Answer 503 while flushing fails. https://api.qdrant.tech/api-reference/service/readyz"""
    if flush_errors := collections_of(current_app).flush_errors():
        return f"cannot flush to disk, see the log: {', '.join(flush_errors)}", 503
    return "all shards are ready", 200


# Collections


@rest.get("/collections")
def list_collections() -> Response:
    """https://api.qdrant.tech/api-reference/collections/get-collections"""
    return result_response({"collections": [{"name": name} for name in collections_of(current_app).names()]})


@rest.get("/collections/<name>/exists")
def collection_exists(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/collection-exists"""
    return result_response({"exists": name in collections_of(current_app).names()})


@rest.put("/collections/<name>")
def create_collection(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/create-collection"""
    collections_of(current_app).create(name, request_json())
    return result_response(True)


@rest.get("/collections/<name>")
def get_collection(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/get-collection"""
    return result_response(collection(name).info())


@rest.delete("/collections/<name>")
def delete_collection(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/delete-collection"""
    return result_response(collections_of(current_app).delete(name))


@rest.put("/collections/<name>/index")
def index_field(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/indexes/create-field-index"""
    collection(name).index_field(request_json())
    return completed_response()


def collection(name: str) -> Collection:
    """Return the collection of this name; raises NotFound."""
    return collections_of(current_app).get(name)


# Points


@rest.put("/collections/<name>/points")
def upsert_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/upsert-points"""
    collection(name).upsert(request_json())
    return completed_response()


@rest.post("/collections/<name>/points/delete")
def delete_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/delete-points"""
    collection(name).delete_points(request_json())
    return completed_response()


@rest.post("/collections/<name>/points/payload")
def set_payload(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/set-payload"""
    collection(name).set_payload(request_json())
    return completed_response()


@rest.put("/collections/<name>/points/payload")
def overwrite_payload(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/overwrite-payload"""
    collection(name).overwrite_payload(request_json())
    return completed_response()


@rest.post("/collections/<name>/points")
def retrieve_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/get-points"""
    return result_response(collection(name).retrieve(request_json()))


@rest.post("/collections/<name>/points/query")
def query_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/search/query-points"""
    return result_response(collection(name).query(request_json()))


@rest.post("/collections/<name>/points/scroll")
def scroll_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/scroll-points"""
    return result_response(collection(name).scroll(request_json()))


@rest.post("/collections/<name>/points/count")
def count_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/count-points"""
    return result_response(collection(name).count(request_json()))


@rest.post("/collections/<name>/points/flush")
def flush_points(name: str) -> Response:
    """Write all earlier changes to the disk. Qdrant has no such request: it flushes only by itself."""
    collection(name).flush_now()
    return completed_response()


def main() -> None:
    """Serve on a port of 127.0.0.1 until SIGTERM, then flush and exit."""
    parser = argparse.ArgumentParser(prog="python -m index_server.app", description="The embedded vector index.")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, datefmt=LOG_TIME_FORMAT)
    logging.getLogger("waitress").setLevel(logging.WARNING)  # it logs every client that leaves
    app = create()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    connections = {"connection_limit": 500, "asyncore_use_poll": True}
    serve(app, host="127.0.0.1", port=port, threads=THREADS, **connections, _quiet=True)


if __name__ == "__main__":
    main()
