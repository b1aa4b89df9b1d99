"""Collections of vectors in one folder, kept by Qdrant's embedded engine. Knows no HTTP.

Requests and answers are the JSON bodies of Qdrant's REST API (https://api.qdrant.tech/api-reference). What this
module cannot do it refuses by name. Errors:

EdgeError
├── Refused      the request is wrong, or asks for something that is not supported
├── Missing      no such collection or point
├── Exists       a collection of this name is there already
├── Broken       the engine failed; the request may be right
└── CannotStart  a setting is missing, the folder is in use or a collection in it cannot be read

Facts about qdrant-edge-py 0.9 that shape the code (https://pypi.org/project/qdrant-edge-py/), each measured:

* An operation is logged before it is checked. A payload or filter nested more than 128 deep makes the log
  unreadable for ever, a much deeper filter overflows the C stack: requests are checked here, before the engine.
* A second load of a shard fails, yet spoils the first owner's flush: the folder is locked before any load.
* Every call holds Python's GIL: one lock per collection costs nothing, and makes closing safe in all versions.
* A payload's float of more than 15 digits can come back one unit in the last place off; its index keeps it right.
* The log survives the death of the process, not a power cut: `flush` bounds that loss to a few seconds.
* No HNSW graph is ever built, since `optimize()` would hold the GIL for minutes: every query is an exact scan.
"""

import fcntl
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from reprlib import repr as shorten
from threading import Event, Lock, Thread
from typing import Any, TextIO, TypeVar
from uuid import UUID, uuid4

import numpy as np
import qdrant_edge as edge

Json = dict[str, Any]
PointId = int | str | UUID
T = TypeVar("T")

FLUSH_SECONDS = 5.0
PATIENCE_SECONDS = 5.0  # an orphaned gunicorn worker notices within 1 s that its master is gone
META, SHARD, HALF = "collection.json", "shard", ".half-"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DISTANCES = {"Cosine": edge.Distance.Cosine, "Dot": edge.Distance.Dot, "Euclid": edge.Distance.Euclid}
DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "turbo16": edge.VectorStorageDatatype.Turbo16,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
}
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}  # Qdrant's defaults
SCHEMAS = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
    "uuid": edge.PayloadSchemaType.Uuid,
}
DIRECTIONS = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}
WIDEST_VECTOR = 65_536
LARGEST_NUMBER = 1e15  # in a vector: keeps every norm and score inside float32
DEEPEST_PAYLOAD = 32
DEEPEST_FILTER = 8

log = logging.getLogger(__name__)


class EdgeError(Exception):
    """Base of this module's errors; the message is meant for the caller."""


class Refused(EdgeError):
    """The request is wrong or asks for something unsupported; the message names it."""


class Missing(EdgeError):
    """A collection or point that is not there."""


class Exists(EdgeError):
    """A collection that would be created twice."""


class Broken(EdgeError):
    """The engine failed."""


class CannotStart(EdgeError):
    """Settings or files with which there is nothing to serve; says what to change."""


def open_collections(
    folder: Path, *, patience: float = PATIENCE_SECONDS, flush_every: float = FLUSH_SECONDS
) -> "Collections":
    """Own `folder`, sweep what a crash left half-made and open every collection in it.

    Waits up to `patience` seconds for a previous owner to leave. Raises CannotStart when the folder stays taken
    or a collection cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        owner = undo.enter_context(own(folder, patience))
        for half in folder.glob(f"{HALF}*"):
            shutil.rmtree(half)
        names = sorted(path.parent.name for path in folder.glob(f"*/{META}"))
        collections = Collections(folder, owner, {name: open_collection(folder / name) for name in names})
        undo.pop_all()
    collections.flush_always(flush_every)
    return collections


class Collections:
    """Every collection of one folder, safe to use from several threads; nothing else may touch the folder."""

    def __init__(self, folder: Path, owner: TextIO, by_name: dict[str, "Collection"]) -> None:
        self._folder, self._owner, self._by_name = folder, owner, by_name
        self._changing = Lock()  # held while collections come and go
        self._stop = Event()
        self._flusher: Thread | None = None

    def names(self) -> list[str]:
        """The names of all collections, sorted."""
        return sorted(self._by_name)

    def get(self, name: str) -> "Collection":
        """The collection of this name; raises Missing."""
        if collection := self._by_name.get(name):
            return collection
        raise Missing(f"Not found: Collection `{name}` doesn't exist!")

    def create(self, name: str, body: Json) -> None:
        """Make a collection. It is there completely or, after a crash, not at all.

        https://api.qdrant.tech/api-reference/collections/create-collection
        """
        if not NAME.fullmatch(name):
            raise Refused(f"collection name {shorten(name)} is not supported: use {NAME.pattern}")
        config = read_config(body)
        with self._changing:
            if name in self._by_name:
                raise Exists(f"Wrong input: Collection `{name}` already exists!")
            write_collection(self._folder / name, config)
            self._by_name[name] = open_collection(self._folder / name)

    def delete(self, name: str) -> bool:
        """Forget a collection and its files; whether there was one."""
        with self._changing:
            if not (collection := self._by_name.pop(name, None)):
                return False
            collection.close()
            gone = half_made(self._folder)
            (self._folder / name).rename(gone)
            sync(self._folder)
        shutil.rmtree(gone)
        return True

    def troubles(self) -> dict[str, str]:
        """Why flushing fails now, by collection; empty when all is well."""
        return {name: c.trouble for name, c in list(self._by_name.items()) if c.trouble}

    def flush_always(self, seconds: float) -> None:
        """Flush every few seconds in a thread of its own until closed."""
        self._flusher = Thread(target=self._keep_flushing, args=(seconds,), name="flush", daemon=True)
        self._flusher.start()

    def close(self) -> None:
        """Flush and close everything and let go of the folder."""
        self._stop.set()
        if self._flusher:
            self._flusher.join()
        with self._changing:
            for collection in self._by_name.values():
                collection.close()
            self._by_name = {}
            self._owner.close()

    def _keep_flushing(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            for collection in list(self._by_name.values()):
                collection.flush()


class Collection:
    """One shard, used by one thread at a time. A closed collection raises Missing."""

    def __init__(self, name: str, shard: edge.EdgeShard, config: Json) -> None:
        self.name, self.config = name, config
        self.trouble: str | None = None  # why the last flush failed
        self._shard: edge.EdgeShard | None = shard
        self._lock = Lock()
        self._unflushed = True  # what the log replayed at opening

    def upsert(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/upsert-points"""
        given = fields(body, "upsert", {"points"})
        points = [self._point(item) for item in listed(given, "points")]
        self._change(edge.UpdateOperation.upsert_points(points))

    def delete_points(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/delete-points"""
        given = fields(body, "delete points", {"points", "filter"})
        if chosen(given, ("points", "filter")) == "points":
            self._change(edge.UpdateOperation.delete_points(point_ids(given["points"])))
        else:
            self._change(edge.UpdateOperation.delete_points_by_filter(read_filter(given["filter"])))

    def set_payload(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/set-payload"""
        operation = edge.UpdateOperation
        self._write_payload(body, operation.set_payload, operation.set_payload_by_filter)

    def overwrite_payload(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/overwrite-payload"""
        operation = edge.UpdateOperation
        self._write_payload(body, operation.overwrite_payload, operation.overwrite_payload_by_filter)

    def index_field(self, body: Json) -> None:
        """Index a payload field; `scroll` can order by integer, float and datetime fields only once indexed.

        https://api.qdrant.tech/api-reference/indexes/create-field-index
        """
        given = fields(body, "payload index", {"field_name", "field_schema"})
        schema = given.get("field_schema")
        if isinstance(schema, dict):
            schema = fields(schema, "payload index", {"type"}).get("type")
        kind = one_of(SCHEMAS, schema, "payload index type")
        self._change(built(edge.UpdateOperation.create_field_index, text(given, "field_name"), kind))

    def query(self, body: Json) -> Json:
        """https://api.qdrant.tech/api-reference/search/query-points (nearest neighbours of a vector only)"""
        known = {"query", "filter", "params", "score_threshold", "limit", "offset", "with_payload", "with_vector"}
        given = fields(body, "query", known)
        request = edge.QueryRequest(
            query=edge.Query.Nearest(self._vector(nearest(given.get("query")))),
            filter=read_filter(given["filter"]) if "filter" in given else None,
            params=search_params(given.get("params", {})),
            score_threshold=number(given, "score_threshold"),
            limit=whole(given, "limit", 10, least=1),
            offset=whole(given, "offset", 0),
            with_payload=payload_selector(given.get("with_payload", False)),
            with_vector=flag(given, "with_vector", False),
        )
        found = self._ask(lambda shard: shard.query(request))
        return {"points": [record(p) | {"score": p.score, "version": p.version} for p in found]}

    def retrieve(self, body: Json) -> list[Json]:
        """https://api.qdrant.tech/api-reference/points/get-points"""
        given = fields(body, "retrieve", {"ids", "with_payload", "with_vector"})
        ids = point_ids(listed(given, "ids"))
        payload = payload_selector(given.get("with_payload", True))
        vector = flag(given, "with_vector", False)
        return [record(point) for point in self._ask(lambda shard: shard.retrieve(ids, payload, vector))]

    def scroll(self, body: Json) -> Json:
        """Points by id, or by an indexed payload field, where ties come in no certain order.

        https://api.qdrant.tech/api-reference/points/scroll-points
        """
        given = fields(body, "scroll", {"offset", "limit", "filter", "with_payload", "with_vector", "order_by"})
        if "order_by" in given and "offset" in given:
            raise Refused("Cannot use an `offset` when using `order_by`: page by `start_from` and a filter")
        request = edge.ScrollRequest(
            offset=point_id(given["offset"]) if "offset" in given else None,
            limit=whole(given, "limit", 10, least=1),
            filter=read_filter(given["filter"]) if "filter" in given else None,
            with_payload=payload_selector(given.get("with_payload", True)),
            with_vector=flag(given, "with_vector", False),
            order_by=order_by(given["order_by"]) if "order_by" in given else None,
        )
        points, following = self._ask(lambda shard: shard.scroll(request))
        return {"points": [record(point) for point in points], "next_page_offset": plain_id(following)}

    def count(self, body: Json) -> Json:
        """https://api.qdrant.tech/api-reference/points/count-points"""
        given = fields(body, "count", {"filter", "exact"})
        selection = read_filter(given["filter"]) if "filter" in given else None
        request = edge.CountRequest(exact=flag(given, "exact", True), filter=selection)
        return {"count": self._ask(lambda shard: shard.count(request))}

    def info(self) -> Json:
        """https://api.qdrant.tech/api-reference/collections/get-collection; red when flushing fails."""
        info = self._ask(lambda shard: shard.info())
        return {
            "status": "red" if self.trouble else "green",
            "optimizer_status": "ok",
            "points_count": info.points_count,
            "indexed_vectors_count": info.indexed_vectors_count,
            "segments_count": info.segments_count,
            "config": described(self.config),
            "payload_schema": {field: index_info(index) for field, index in info.payload_schema.items()},
        }

    def flush(self) -> None:
        """Write what changed to the disk. A failure is logged, kept in `trouble` and tried again next time."""
        with self._lock:
            if not (self._shard and self._unflushed):
                return
            try:
                guarded(self._shard.flush)
            except EdgeError as error:
                log.error("collection %s cannot be flushed to disk: %s", self.name, error)
                self.trouble = str(error)
            else:
                self.trouble, self._unflushed = None, False

    def close(self) -> None:
        """Flush and close, after the call that may be running; a failure is logged."""
        self.flush()  # the engine's own close flushes too, but keeps a failure to itself
        with self._lock:
            shard, self._shard = self._shard, None
        try:
            if shard:
                guarded(shard.close)
        except EdgeError as error:
            log.error("collection %s cannot be closed: %s", self.name, error)

    def _write_payload(self, body: Json, by_ids: Callable[..., Any], by_filter: Callable[..., Any]) -> None:
        given = fields(body, "payload", {"payload", "points", "filter", "key"})
        payload = read_payload(given.get("payload"))
        key = text(given, "key") if "key" in given else None
        if chosen(given, ("points", "filter")) == "points":
            self._change(built(by_ids, point_ids(given["points"]), payload, key))
        else:
            self._change(built(by_filter, read_filter(given["filter"]), payload, key))

    def _point(self, body: Json) -> edge.Point:
        given = fields(body, "point", {"id", "vector", "payload"})
        payload = read_payload(given.get("payload", {}))
        return built(edge.Point, point_id(given.get("id")), self._vector(given.get("vector")), payload)

    def _vector(self, value: object) -> list[float]:
        if not isinstance(value, list) or any(type(x) not in (int, float) for x in value):
            raise Refused(f"vector {shorten(value)} is not supported: one dense vector is a list of numbers")
        if len(value) != (size := self.config["vectors"]["size"]):
            raise Refused(f"Wrong input: Vector dimension error: expected dim: {size}, got {len(value)}")
        if not all(-LARGEST_NUMBER <= x <= LARGEST_NUMBER for x in value):
            raise Refused(f"a number in the vector is beyond ±{LARGEST_NUMBER:g}")
        return value

    def _change(self, operation: edge.UpdateOperation) -> None:
        self._ask(lambda shard: shard.update(operation), changes=True)

    def _ask(self, question: Callable[[edge.EdgeShard], T], *, changes: bool = False) -> T:
        with self._lock:
            if (shard := self._shard) is None:
                raise Missing(f"Not found: Collection `{self.name}` doesn't exist!")
            self._unflushed |= changes
            return guarded(lambda: question(shard))


def guarded(call: Callable[[], T]) -> T:
    """The engine's answer, its errors sorted by whose fault they are."""
    try:
        return call()
    except BaseException as error:  # a panic of the engine is no Exception, and would end the server's main loop
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = str(error)
        if message.startswith("No point with id"):
            raise Missing(f"Not found: {message}") from error
        if message.startswith(("No range index for", "Validation failed")):
            raise Refused(f"Bad request: {message}") from error
        raise Broken(f"Service internal error: {message}") from error


# Folders and files


def own(folder: Path, patience: float) -> TextIO:
    """The open lock file; the system drops the lock when its owner dies. Raises CannotStart when it stays taken."""
    file = (folder / ".lock").open("a+")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                file.seek(0)
                pid = file.read().strip()
                file.close()
                raise CannotStart(f"{folder} is in use by another index server (pid {pid})") from error
            time.sleep(0.1)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def open_collection(path: Path) -> Collection:
    """Load one collection; raises CannotStart when it cannot be read."""
    try:
        config = json.loads((path / META).read_text())
        return Collection(path.name, guarded(lambda: edge.EdgeShard.load(str(path / SHARD))), config)
    except (EdgeError, OSError, ValueError) as error:
        raise CannotStart(f"the collection in {path} cannot be read ({error}); move it away to start") from error


def write_collection(path: Path, config: Json) -> None:
    """Make the collection's files elsewhere, let the disk have them, and move them to `path` in one step."""
    half = half_made(path.parent)
    half.mkdir()
    try:
        shard = guarded(lambda: edge.EdgeShard.create(str(half / SHARD), shard_config(config)))
        guarded(shard.close)
        (half / META).write_text(json.dumps(config))
        for written in (*half.rglob("*"), half):
            sync(written)
        half.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def half_made(folder: Path) -> Path:
    """A new name for what is being made or removed; the next start sweeps it."""
    return folder / f"{HALF}{uuid4().hex}"


def sync(path: Path) -> None:
    """Let the disk have a file's bytes, or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What a collection is made of


def read_config(body: Json) -> Json:
    """The collection's configuration with all defaults; raises Refused."""
    given = fields(body, "collection", {"vectors", "hnsw_config", "on_disk_payload", "metadata"})
    vectors = given.get("vectors")
    if not isinstance(vectors, dict) or "size" not in vectors:
        raise Refused("vectors must be one {size, distance, datatype}: named vectors are not supported")
    vectors = fields(vectors, "vectors", {"size", "distance", "datatype"})
    one_of(DISTANCES, vectors.get("distance"), "distance")
    one_of(DATATYPES, vectors.get("datatype", "float32"), "datatype")
    hnsw = fields(given.get("hnsw_config", {}), "hnsw_config", set(HNSW))
    return {
        "vectors": vectors | {"size": whole(vectors, "size", 0, least=1, most=WIDEST_VECTOR)},
        "hnsw_config": {key: whole(hnsw, key, default) for key, default in HNSW.items()},
        "on_disk_payload": flag(given, "on_disk_payload", True),
        "metadata": read_payload(given.get("metadata", {})),
    }


def shard_config(config: Json) -> edge.EdgeConfig:
    """The engine's form of a configuration."""
    vectors = config["vectors"]
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=vectors["size"],
            distance=DISTANCES[vectors["distance"]],
            datatype=DATATYPES[vectors.get("datatype", "float32")],
        ),
        hnsw_config=built(edge.HnswIndexConfig, **config["hnsw_config"]),
        on_disk_payload=config["on_disk_payload"],
    )


def described(config: Json) -> Json:
    """Qdrant's form of a configuration; one shard, no optimizer."""
    return {
        "params": {"vectors": config["vectors"], "on_disk_payload": config["on_disk_payload"]},
        "hnsw_config": config["hnsw_config"],
        "optimizer_config": {"default_segment_number": 1, "flush_interval_sec": round(FLUSH_SECONDS)},
        "metadata": config["metadata"],
    }


def index_info(index: "edge.PayloadIndexInfo") -> Json:
    """What GET collection says of one payload index."""
    kind = next(name for name, schema in SCHEMAS.items() if schema == index.data_type)
    return {"data_type": kind, "points": index.points}


# Points


def point_ids(values: object) -> list[PointId]:
    """Ids from a JSON list."""
    if not isinstance(values, list):
        raise Refused(f"a list of point ids is needed, not {shorten(values)}")
    return [point_id(value) for value in values]


def point_id(value: object) -> PointId:
    """An id as the engine takes it. https://qdrant.tech/documentation/concepts/points/#point-ids"""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError as error:
        what = "an unsigned integer nor a UUID"
        raise Refused(f"{shorten(value)} is not a valid point ID: neither {what}") from error


def plain_id(value: object) -> object:
    """An id as JSON has it."""
    return str(value) if isinstance(value, UUID) else value


def record(point: edge.Record | edge.ScoredPoint) -> Json:
    """A point as JSON, without the parts that were not asked for."""
    optional = {"payload": point.payload, "vector": point.vector, "order_value": point.order_value}
    return {"id": plain_id(point.id)} | {key: value for key, value in optional.items() if value is not None}


def read_payload(value: object) -> Json:
    """A payload that the engine can read back."""
    if not isinstance(value, dict):
        raise Refused(f"payload {shorten(value)} is not an object")
    if deeper(value, DEEPEST_PAYLOAD):
        raise Refused(f"payload is nested more than {DEEPEST_PAYLOAD} levels deep")
    return value


def deeper(value: object, levels: int) -> bool:
    """Whether lists and objects in `value` are nested deeper than `levels`."""
    inner: Iterable[object]
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return False
    return levels == 0 or any(deeper(item, levels - 1) for item in inner)


def payload_selector(value: object) -> Any:
    """The engine's form of `with_payload`: a flag, a list of keys, or {include} or {exclude} with one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        value = {"include": value}
    given = fields(value, "with_payload", {"include", "exclude"})
    how = chosen(given, ("include", "exclude"))
    kind = edge.PayloadSelector.Include if how == "include" else edge.PayloadSelector.Exclude
    return built(kind, listed(given, how))


# Queries


def nearest(query: object) -> object:
    """The vector in a query, which may be bare or {"nearest": vector}."""
    vector = fields(query, "query", {"nearest"}).get("nearest") if isinstance(query, dict) else query
    if not isinstance(vector, list):
        raise Refused(f"query {shorten(query)} is not supported: only the nearest points to a vector are found")
    return vector


def search_params(body: object) -> edge.SearchParams:
    """https://api.qdrant.tech/api-reference/search/query-points, `params`; both are moot in an exact scan."""
    given = fields(body, "params", {"hnsw_ef", "exact"})
    return edge.SearchParams(
        hnsw_ef=whole(given, "hnsw_ef", 0, most=2**31) or None, exact=flag(given, "exact", False)
    )


def order_by(body: object) -> edge.OrderBy:
    """A key, or {key, direction, start_from}: a number or date that is included."""
    given = fields({"key": body} if isinstance(body, str) else body, "order_by", {"key", "direction", "start_from"})
    start = given.get("start_from")
    if isinstance(start, bool) or not isinstance(start, int | float | str | None):
        raise Refused(f"order_by: start_from {shorten(start)} is neither a number nor a date")
    direction = one_of(DIRECTIONS, given.get("direction", "asc"), "order_by: direction")
    return built(edge.OrderBy, text(given, "key"), direction, start)


# Filters. https://qdrant.tech/documentation/concepts/filtering/


def read_filter(body: object, levels: int = DEEPEST_FILTER) -> edge.Filter:
    """The engine's form of a filter."""
    if levels == 0:
        raise Refused(f"filter is nested more than {DEEPEST_FILTER} levels deep")
    given = fields(body, "filter", {"must", "should", "must_not"})
    clauses = {
        clause: [read_condition(item, levels) for item in (value if isinstance(value, list) else [value])]
        for clause, value in given.items()
    }
    return edge.Filter(clauses.get("must"), clauses.get("should"), clauses.get("must_not"))


def read_condition(body: object, levels: int) -> Any:
    """One condition of a clause: on a payload field, on the id, or a filter inside the filter."""
    if not isinstance(body, dict):
        raise Refused(f"filter condition {shorten(body)} is not an object")
    if body.keys() & {"must", "should", "must_not", "min_should"}:
        return read_filter(body, levels - 1)
    if "has_id" in body:
        given = fields(body, "filter condition", {"has_id"})
        return edge.HasIdCondition(set(point_ids(given.get("has_id"))))
    if "is_empty" in body and "key" not in body:
        given = fields(fields(body, "filter condition", {"is_empty"}).get("is_empty"), "is_empty", {"key"})
        return built(edge.IsEmptyCondition, text(given, "key"))
    return field_condition(body)


def field_condition(body: Json) -> edge.FieldCondition:
    """{key, and one of match, range, is_empty}; the engine would heed only the first of several."""
    given = fields(body, "filter condition", {"key", "match", "range", "is_empty"})
    test = chosen(given, ("match", "range", "is_empty"))
    if test == "is_empty":
        value: Any = flag(given, test, True)
    else:
        value = (read_match if test == "match" else read_range)(given[test])
    return built(edge.FieldCondition, text(given, "key"), **{test: value})


def read_match(body: object) -> Any:
    """{value}, {any} or {except}: texts, whole numbers and, for `value`, booleans."""
    given = fields(body, "match", {"value", "any", "except"})
    how = chosen(given, ("value", "any", "except"))
    if how == "value":
        return edge.MatchValue(match_value(given[how]))
    values = listed(given, how)
    if not all(type(value) is type(values[0]) and type(value) in (int, str) for value in values):
        raise Refused(f"match {how} {shorten(values)} is not supported: use texts only, or whole numbers only")
    return built(edge.MatchAny if how == "any" else edge.MatchExcept, values)


def match_value(value: object) -> Any:
    """The value so that the engine keeps its type: it takes True for 1, yet NumPy's True for a boolean."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    raise Refused(f"match value {shorten(value)} is not supported: use a text, a whole number or a boolean")


def read_range(body: object) -> edge.RangeFloat | edge.RangeDateTime:
    """Bounds gte, gt, lte, lt: all numbers, or all dates."""
    given = fields(body, "range", {"gte", "gt", "lte", "lt"})
    if given and all(type(bound) in (int, float) for bound in given.values()):
        return built(edge.RangeFloat, **given)
    if given and all(isinstance(bound, str) for bound in given.values()):
        return built(edge.RangeDateTime, **given)
    raise Refused(f"range {shorten(body)} is not supported: bounds are all numbers or all dates")


# Reading JSON strictly


def fields(body: object, what: str, known: set[str]) -> Json:
    """The fields that are not null; raises Refused when one is not known, so that nothing is ignored."""
    if not isinstance(body, dict):
        raise Refused(f"{what}: an object is needed, not {shorten(body)}")
    given = {key: value for key, value in body.items() if value is not None}
    if unknown := sorted(given.keys() - known):
        raise Refused(f"{what}: {', '.join(unknown)} is not supported by the embedded index server")
    return given


def chosen(given: Json, names: tuple[str, ...]) -> str:
    """Which one of `names` is given."""
    found = [name for name in names if name in given]
    if len(found) != 1:
        raise Refused(f"exactly one of {', '.join(names)} is needed, not {' and '.join(found) or 'none'}")
    return found[0]


def one_of(table: dict[str, T], name: object, what: str) -> T:
    """The entry of this name."""
    if isinstance(name, str) and name in table:
        return table[name]
    raise Refused(f"{what} {shorten(name)} is not supported: use {', '.join(table)}")


def listed(given: Json, key: str) -> list[Any]:
    """A field that must be a list."""
    if isinstance(value := given.get(key), list):
        return value
    raise Refused(f"{key}: a list is needed, not {shorten(value)}")


def text(given: Json, key: str) -> str:
    """A field that must be a text."""
    if isinstance(value := given.get(key), str):
        return value
    raise Refused(f"{key}: a text is needed, not {shorten(value)}")


def flag(given: Json, key: str, default: bool) -> bool:
    """A field that must be a boolean."""
    if isinstance(value := given.get(key, default), bool):
        return value
    raise Refused(f"{key}: {shorten(value)} is not supported, only true and false are")


def whole(given: Json, key: str, default: int, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """A field that must be a whole number within bounds."""
    value = given.get(key, default)
    if type(value) is int and least <= value <= most:
        return value
    raise Refused(f"{key}: {shorten(value)} is not a whole number from {least} to {most}")


def number(given: Json, key: str) -> float | None:
    """A field that may be missing or a number."""
    value = given.get(key)
    if value is None or type(value) in (int, float):
        return value
    raise Refused(f"{key}: {shorten(value)} is not a number")


def built(kind: Callable[..., T], *args: Any, **options: Any) -> T:
    """An object of the engine; what it cannot read is the request's fault."""
    try:
        return kind(*args, **options)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(f"Wrong input: {str(error).splitlines()[0]}") from error
