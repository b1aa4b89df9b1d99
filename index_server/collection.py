"""One collection: a shard of the engine, its configuration and its files. Knows nothing of HTTP."""

import json
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from reprlib import repr as shorten
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

import qdrant_edge as edge

from disk.disk_errors import explain, is_of_the_disk
from disk.durable_files import sync_tree, write_durably

from .collection_files import CONFIG_FILE, SHARD, load_shard, shard_folder
from .errors import BadRequest, EngineFailure, IndexServerError, NotFound, call_engine
from .request_bodies import (
    MAX_VECTOR_VALUE,
    SCHEMAS,
    Json,
    build,
    config_json,
    id_json,
    look_up,
    payload_index_json,
    point_json,
    read_bool,
    read_choice,
    read_fields,
    read_filter,
    read_int,
    read_list,
    read_number,
    read_order_by,
    read_payload,
    read_payload_selector,
    read_point_id,
    read_point_ids,
    read_query_vector,
    read_search_params,
    read_text,
)

T = TypeVar("T")

LAST_CHANGES = 64  # at most this many changes are replayed in a copy while writers wait

log = logging.getLogger(__name__)


class Collection:
    """One shard, used by one thread at a time. A closed collection raises NotFound."""

    def __init__(self, path: Path, shard: edge.EdgeShard, config: Json) -> None:
        self.path, self.config = path, config
        self.flush_error: str | None = None  # why the last flush failed
        self._shard: edge.EdgeShard | None = shard
        self._lock = Lock()
        self._unflushed = True  # opening may have replayed the log
        self._changes: list[edge.UpdateOperation] | None = None  # since a copy was started; None without a copy

    @property
    def name(self) -> str:
        """The collection's name, which is also its folder's."""
        return self.path.name

    def upsert(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/upsert-points"""
        fields = read_fields(body, "upsert", {"points"})
        points = [self._point(item) for item in read_list(fields, "points")]
        self._write(edge.UpdateOperation.upsert_points(points))

    def delete_points(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/delete-points"""
        fields = read_fields(body, "delete points", {"points", "filter"})
        if read_choice(fields, ("points", "filter")) == "points":
            self._write(edge.UpdateOperation.delete_points(read_point_ids(fields["points"])))
        else:
            self._write(edge.UpdateOperation.delete_points_by_filter(read_filter(fields["filter"])))

    def set_payload(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/set-payload"""
        operation = edge.UpdateOperation
        self._write_payload(body, operation.set_payload, operation.set_payload_by_filter)

    def overwrite_payload(self, body: Json) -> None:
        """https://api.qdrant.tech/api-reference/points/overwrite-payload"""
        operation = edge.UpdateOperation
        self._write_payload(body, operation.overwrite_payload, operation.overwrite_payload_by_filter)

    def index_field(self, body: Json) -> None:
        """Index a payload field; `scroll` can order by an integer, float or datetime field only if it is indexed.

        https://api.qdrant.tech/api-reference/indexes/create-field-index
        """
        fields = read_fields(body, "payload index", {"field_name", "field_schema"})
        schema = fields.get("field_schema")
        if isinstance(schema, dict):
            schema = read_fields(schema, "payload index", {"type"}).get("type")
        kind = look_up(SCHEMAS, schema, "payload index type")
        self._write(build(edge.UpdateOperation.create_field_index, read_text(fields, "field_name"), kind))

    def query(self, body: Json) -> Json:
        """Return a vector's nearest neighbours. https://api.qdrant.tech/api-reference/search/query-points"""
        known = {"query", "filter", "params", "score_threshold", "limit", "offset", "with_payload", "with_vector"}
        fields = read_fields(body, "query", known)
        request = edge.QueryRequest(
            query=edge.Query.Nearest(self._vector(read_query_vector(fields.get("query")))),
            filter=read_filter(fields["filter"]) if "filter" in fields else None,
            params=read_search_params(fields.get("params", {})),
            score_threshold=read_number(fields, "score_threshold"),
            limit=read_int(fields, "limit", 10, minimum=1),
            offset=read_int(fields, "offset", 0),
            with_payload=read_payload_selector(fields.get("with_payload", False)),
            with_vector=read_bool(fields, "with_vector", False),
        )
        points = self._read(lambda shard: shard.query(request))
        return {"points": [point_json(p) | {"score": p.score, "version": p.version} for p in points]}

    def retrieve(self, body: Json) -> list[Json]:
        """https://api.qdrant.tech/api-reference/points/get-points"""
        fields = read_fields(body, "retrieve", {"ids", "with_payload", "with_vector"})
        ids = read_point_ids(read_list(fields, "ids"))
        payload = read_payload_selector(fields.get("with_payload", True))
        vector = read_bool(fields, "with_vector", False)
        return [point_json(point) for point in self._read(lambda shard: shard.retrieve(ids, payload, vector))]

    def scroll(self, body: Json) -> Json:
        """Return points ordered by id, or by an indexed payload field, with ties in no fixed order.

        https://api.qdrant.tech/api-reference/points/scroll-points
        """
        fields = read_fields(body, "scroll", {"offset", "limit", "filter", "with_payload", "with_vector", "order_by"})
        if "order_by" in fields and "offset" in fields:
            raise BadRequest("Cannot use an `offset` when using `order_by`: page by `start_from` and a filter")
        request = edge.ScrollRequest(
            offset=read_point_id(fields["offset"]) if "offset" in fields else None,
            limit=read_int(fields, "limit", 10, minimum=1),
            filter=read_filter(fields["filter"]) if "filter" in fields else None,
            with_payload=read_payload_selector(fields.get("with_payload", True)),
            with_vector=read_bool(fields, "with_vector", False),
            order_by=read_order_by(fields["order_by"]) if "order_by" in fields else None,
        )
        points, next_id = self._read(lambda shard: shard.scroll(request))
        return {"points": [point_json(point) for point in points], "next_page_offset": id_json(next_id)}

    def count(self, body: Json) -> Json:
        """https://api.qdrant.tech/api-reference/points/count-points"""
        fields = read_fields(body, "count", {"filter", "exact"})
        condition = read_filter(fields["filter"]) if "filter" in fields else None
        request = edge.CountRequest(exact=read_bool(fields, "exact", True), filter=condition)
        return {"count": self._read(lambda shard: shard.count(request))}

    def info(self) -> Json:
        """Return the collection's status: "red" when flushing fails, "yellow" while a graph is built, else "green".

        https://api.qdrant.tech/api-reference/collections/get-collection
        """
        info = self._read(lambda shard: shard.info())
        return {
            "status": self._status(),
            "optimizer_status": "ok",
            "points_count": info.points_count,
            "indexed_vectors_count": info.indexed_vectors_count,
            "segments_count": info.segments_count,
            "config": config_json(self.config),
            "payload_schema": {field: payload_index_json(index) for field, index in info.payload_schema.items()},
        }

    def flush(self) -> None:
        """Write changes to the disk. A failure is logged, kept in `flush_error` and retried by the next call."""
        with self._lock:
            if not (self._shard and self._unflushed):
                return
            try:
                call_engine(self._shard.flush)
            except IndexServerError as error:
                self.flush_error = explain(error, self.path)
                log.error("collection %s cannot be flushed to disk: %s", self.name, self.flush_error)
            else:
                self.flush_error, self._unflushed = None, False

    def flush_now(self) -> None:
        """Write changes to the disk; raises EngineFailure if that fails. Qdrant has no such request."""
        self.flush()
        if self.flush_error:
            raise EngineFailure(f"Service internal error: cannot flush: {self.flush_error}")

    @property
    def closed(self) -> bool:
        """Whether the collection has been closed."""
        return self._shard is None

    def count_unindexed(self) -> tuple[int, int]:
        """Return the number of points in no graph, which queries compare one by one, and the number of all points."""
        info = self._read(lambda shard: shard.info())
        return info.points_count - info.indexed_vectors_count, info.points_count

    def start_copy(self) -> Path:
        """Copy the shard's files to a folder beside it, and record all later changes for `switch_to_copy`."""
        copy = self.path / f"{SHARD}-{uuid4().hex}"
        with self._lock:
            shard = self._open_shard()
            call_engine(shard.flush)
            try:
                shutil.copytree(self._shard_folder(), copy)
            except OSError:  # shutil.Error is a subclass
                shutil.rmtree(copy, ignore_errors=True)
                raise
            self._changes = []
        return copy

    def switch_to_copy(self, copy: Path) -> None:
        """Replay the recorded changes in a copy, and use the copy from then on, even after a crash."""
        sync_tree(copy)
        shard = call_engine(lambda: edge.EdgeShard.load(str(copy)))
        try:
            done = self._replay(shard, 0, leave=LAST_CHANGES)
            call_engine(shard.flush)
            with self._lock:
                previous_shard, previous_folder = self._open_shard(), self._shard_folder()
                self._replay(shard, done)
                call_engine(shard.flush)
                config = {**self.config, SHARD: copy.name}
                write_durably(self.path / CONFIG_FILE, json.dumps(config))
                self.config, self._changes = config, None
                self._shard, shard = shard, previous_shard
        finally:
            call_engine(shard.close)  # the unused one of the two
        shutil.rmtree(previous_folder, ignore_errors=True)

    def discard_copy(self, copy: Path) -> None:
        """Delete a copy, unless the collection has switched to it."""
        with self._lock:
            if copy == self._shard_folder():
                return
            self._changes = None
        shutil.rmtree(copy, ignore_errors=True)

    def close(self) -> None:
        """Wait for a running call, then flush and close; a failure is logged."""
        self.flush()  # the engine's own close flushes too, but does not report a failure
        with self._lock:
            shard, self._shard = self._shard, None
        try:
            if shard:
                call_engine(shard.close)
        except IndexServerError as error:
            log.error("collection %s cannot be closed: %s", self.name, error)

    def _write_payload(self, body: Json, by_ids: Callable[..., Any], by_filter: Callable[..., Any]) -> None:
        fields = read_fields(body, "payload", {"payload", "points", "filter", "key"})
        payload = read_payload(fields.get("payload"))
        key = read_text(fields, "key") if "key" in fields else None
        if read_choice(fields, ("points", "filter")) == "points":
            self._write(build(by_ids, read_point_ids(fields["points"]), payload, key))
        else:
            self._write(build(by_filter, read_filter(fields["filter"]), payload, key))

    def _point(self, body: Json) -> edge.Point:
        fields = read_fields(body, "point", {"id", "vector", "payload"})
        payload = read_payload(fields.get("payload", {}))
        return build(edge.Point, read_point_id(fields.get("id")), self._vector(fields.get("vector")), payload)

    def _vector(self, value: object) -> list[float]:
        if not isinstance(value, list) or any(type(x) not in (int, float) for x in value):
            raise BadRequest(f"vector {shorten(value)} is not supported: one dense vector is a list of numbers")
        if len(value) != (size := self.config["vectors"]["size"]):
            raise BadRequest(f"Wrong input: Vector dimension error: expected dim: {size}, got {len(value)}")
        if not all(-MAX_VECTOR_VALUE <= x <= MAX_VECTOR_VALUE for x in value):
            raise BadRequest(f"a number in the vector is beyond ±{MAX_VECTOR_VALUE:g}")
        return value

    def _write(self, operation: edge.UpdateOperation) -> None:
        with self._lock:
            shard = self._open_shard()
            self._unflushed = True
            try:
                call_engine(lambda: shard.update(operation))
            except EngineFailure as error:
                if is_of_the_disk(error):
                    raise EngineFailure(f"cannot write to the index: {explain(error, self.path)}") from error
                raise
            if self._changes is not None:
                self._changes.append(operation)

    def _read(self, read: Callable[[edge.EdgeShard], T]) -> T:
        with self._lock:
            shard = self._open_shard()
            return call_engine(lambda: read(shard))

    def _open_shard(self) -> edge.EdgeShard:
        if self._shard is None:
            raise NotFound(f"Not found: Collection `{self.name}` doesn't exist!")
        return self._shard

    def _shard_folder(self) -> Path:
        return shard_folder(self.path, self.config)

    def _status(self) -> str:
        if self.flush_error:
            return "red"
        return "green" if self._changes is None else "yellow"

    def _replay(self, shard: edge.EdgeShard, start: int, leave: int = 0) -> int:
        """Replay recorded changes in a copy, beginning at `start`, until `leave` remain; return how many are done."""
        changes = self._changes
        if changes is None:
            raise NotFound(f"collection `{self.name}` has no copy")
        done = start
        while len(changes) - done > leave:
            call_engine(partial(shard.update, changes[done]))
            done += 1
        return done


def open_collection(path: Path) -> Collection:
    """Load one collection and delete abandoned copies. Raises CannotStart for a disk's error, else Damaged."""
    shard, config = load_shard(path)
    return Collection(path, shard, config)
