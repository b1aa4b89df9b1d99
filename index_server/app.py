"""The embedded vector index as a server: a part of Qdrant's REST API. Knows HTTP, not how vectors are kept.

Speaks what `qdrant_client.QdrantClient(url=…)` needs, so that a folder on this machine and a Qdrant cluster are
used by the same code. Whatever it does not know it answers with 400 and a message that names it; 404 always
means a collection or a point that is not there. https://api.qdrant.tech/api-reference

    gunicorn --worker-class gthread --workers 1 --threads 8 --bind 127.0.0.1:PORT "index_server.app:create()"

One worker only, for a folder has one owner, and no --preload, for the engine's threads would not survive a fork.
"""

import atexit
import hmac
import json
import os
import time
from pathlib import Path
from typing import Any, NoReturn

from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound, Unauthorized

from . import (
    FLUSH_SECONDS,
    Broken,
    CannotStart,
    Collection,
    Collections,
    EdgeError,
    Exists,
    Json,
    Missing,
    Refused,
    open_collections,
)

API_VERSION = "1.20.0"  # of Qdrant; clients warn when theirs is more than one minor version away
LARGEST_BODY = 32 * 2**20
OPEN_PATHS = {"/", "/healthz", "/livez", "/readyz"}  # no key needed, as in Qdrant
# Met without doing anything: writes are always waited for, and a single node is always consistent.
KNOWN_ARGUMENTS = {"wait", "ordering", "consistency", "timeout"}
STATUS = {Refused: 400, Missing: 404, Exists: 409, Broken: 500}

rest = Blueprint("rest", __name__)


class InOrder(DefaultJSONProvider):
    """Payloads are answered with their keys in the order in which they came."""

    sort_keys = False


def create() -> Flask:
    """The server for INDEX_SERVER_FOLDER, opened by INDEX_SERVER_KEY; raises CannotStart when one is missing."""
    folder, key = os.environ.get("INDEX_SERVER_FOLDER"), os.environ.get("INDEX_SERVER_KEY")
    if not folder or not key:
        raise CannotStart("set INDEX_SERVER_FOLDER to the index's folder and INDEX_SERVER_KEY to its API key")
    app = create_app(Path(folder), key)
    atexit.register(collections_of(app).close)
    return app


def create_app(folder: Path, key: str, *, flush_every: float = FLUSH_SECONDS) -> Flask:
    """The server as a Flask app that owns `folder` until its collections are closed."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["INDEX_KEY"] = key.encode()
    app.json = InOrder(app)
    app.extensions["collections"] = open_collections(folder, flush_every=flush_every)
    app.register_error_handler(EdgeError, refusal)
    app.register_error_handler(HTTPException, http_error)
    app.before_request(check_request)
    app.register_blueprint(rest)
    return app


def collections_of(app: Flask) -> Collections:
    """What the app serves."""
    collections: Collections = app.extensions["collections"]
    return collections


# Before and after a request


def check_request() -> None:
    """Refuse a wrong key or an unknown argument before anything is read."""
    g.began = time.perf_counter()
    if request.path in OPEN_PATHS:
        return
    given = request.headers.get("api-key", "").encode("latin-1")  # the header's bytes as they came
    if not hmac.compare_digest(given, current_app.config["INDEX_KEY"]):
        raise Unauthorized("Must provide a valid API key in the header api-key")
    if unknown := sorted(request.args.keys() - KNOWN_ARGUMENTS):
        raise Refused(f"argument {', '.join(unknown)} is not supported by the embedded index server")


def body() -> Any:
    """The request's JSON; raises Refused."""
    try:
        return json.loads(request.get_data(), parse_constant=no_number)
    except RecursionError as error:
        raise Refused("Format error in JSON body: nested too deep") from error
    except ValueError as error:
        raise Refused(f"Format error in JSON body: {error}") from error


def no_number(name: str) -> NoReturn:
    """JSON has no NaN and no infinity, though Python reads them."""
    raise ValueError(f"{name} is not a JSON number")


def answer(result: object) -> Response:
    """Qdrant's envelope around a result."""
    return jsonify(result=result, status="ok", time=time.perf_counter() - g.began)


def done() -> Response:
    """The answer to a change, which has always been made by now."""
    return answer({"operation_id": None, "status": "completed"})


def refusal(error: EdgeError) -> tuple[Response, int]:
    """Qdrant's envelope around an error; those that are not the caller's go to the log too."""
    if isinstance(error, Broken):
        current_app.logger.error("%s %s", request.method, request.path, exc_info=error)
    return jsonify(status={"error": str(error)}, time=time.perf_counter() - g.began), STATUS[type(error)]


def http_error(error: HTTPException) -> tuple[Response, int]:
    """The same envelope for what Flask found; Flask itself logs what nobody expected."""
    if isinstance(error, NotFound | MethodNotAllowed):
        return refusal(Refused(f"{request.method} {request.path} is not supported by the embedded index server"))
    message = "Service internal error" if isinstance(error, InternalServerError) else error.description
    return jsonify(status={"error": message}, time=0), error.code or 500


# The service


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
    """https://api.qdrant.tech/api-reference/service/readyz; 503 while flushing fails, and the log says why."""
    if troubles := collections_of(current_app).troubles():
        return f"cannot be flushed to disk, see the log: {', '.join(troubles)}", 503
    return "all shards are ready", 200


# Collections


@rest.get("/collections")
def list_collections() -> Response:
    """https://api.qdrant.tech/api-reference/collections/get-collections"""
    return answer({"collections": [{"name": name} for name in collections_of(current_app).names()]})


@rest.get("/collections/<name>/exists")
def collection_exists(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/collection-exists"""
    return answer({"exists": name in collections_of(current_app).names()})


@rest.put("/collections/<name>")
def create_collection(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/create-collection"""
    collections_of(current_app).create(name, body())
    return answer(True)


@rest.get("/collections/<name>")
def get_collection(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/get-collection"""
    return answer(collection(name).info())


@rest.delete("/collections/<name>")
def delete_collection(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/collections/delete-collection"""
    return answer(collections_of(current_app).delete(name))


@rest.put("/collections/<name>/index")
def index_field(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/indexes/create-field-index"""
    collection(name).index_field(body())
    return done()


def collection(name: str) -> Collection:
    """The collection of this name; raises Missing."""
    return collections_of(current_app).get(name)


# Points


@rest.put("/collections/<name>/points")
def upsert_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/upsert-points"""
    collection(name).upsert(body())
    return done()


@rest.post("/collections/<name>/points/delete")
def delete_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/delete-points"""
    collection(name).delete_points(body())
    return done()


@rest.post("/collections/<name>/points/payload")
def set_payload(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/set-payload"""
    collection(name).set_payload(body())
    return done()


@rest.put("/collections/<name>/points/payload")
def overwrite_payload(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/overwrite-payload"""
    collection(name).overwrite_payload(body())
    return done()


@rest.post("/collections/<name>/points")
def retrieve_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/get-points"""
    return answer(collection(name).retrieve(body()))


@rest.post("/collections/<name>/points/query")
def query_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/search/query-points"""
    return answer(collection(name).query(body()))


@rest.post("/collections/<name>/points/scroll")
def scroll_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/scroll-points"""
    return answer(collection(name).scroll(body()))


@rest.post("/collections/<name>/points/count")
def count_points(name: str) -> Response:
    """https://api.qdrant.tech/api-reference/points/count-points"""
    return answer(collection(name).count(body()))
