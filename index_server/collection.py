"""One collection: a shard of the engine, its configuration and its files. Knows no HTTP and no other collections."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from reprlib import repr as shorten
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

import qdrant_edge as edge

from .bodies import (
    LARGEST_NUMBER,
    SCHEMAS,
    Json,
    built,
    chosen,
    described,
    fields,
    flag,
    index_info,
    listed,
    nearest,
    number,
    one_of,
    order_by,
    payload_selector,
    plain_id,
    point_id,
    point_ids,
    read_filter,
    read_payload,
    record,
    search_params,
    shard_config,
    text,
    whole,
)
from .errors import CannotStart, EdgeError, Missing, Refused, guarded

T = TypeVar("T")

META, SHARD, HALF = "collection.json", "shard", ".half-"
FEW = 64  # changes that are made while others wait

log = logging.getLogger(__name__)


class Collection:
    """One shard, used by one thread at a time. A closed collection raises Missing."""

    def __init__(self, path: Path, shard: edge.EdgeShard, config: Json) -> None:
        self.path, self.config = path, config
        self.trouble: str | None = None  # why the last flush failed
        self._shard: edge.EdgeShard | None = shard
        self._lock = Lock()
        self._unflushed = True  # what the log replayed at opening
        self._noted: list[edge.UpdateOperation] | None = None  # changes since a copy was begun

    @property
    def name(self) -> str:
        """The name of its folder too."""
        return self.path.name

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
        """https://api.qdrant.tech/api-reference/collections/get-collection; red when flushing fails, yellow
        while a graph is built.
        """
        info = self._ask(lambda shard: shard.info())
        return {
            "status": self._status(),
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

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._shard is None

    def unlinked(self) -> tuple[int, int]:
        """How many points no graph knows, which every query compares one by one; and how many points there are."""
        info = self._ask(lambda shard: shard.info())
        return info.points_count - info.indexed_vectors_count, info.points_count

    def begin_copy(self) -> Path:
        """A copy of the shard's files as they are now; what changes from here on is noted for `take_over`."""
        copy = self.path / f"{SHARD}-{uuid4().hex}"
        with self._lock:
            shard = self._open()
            guarded(shard.flush)
            try:
                shutil.copytree(self._current(), copy)
            except OSError:  # shutil's errors are, too
                shutil.rmtree(copy, ignore_errors=True)
                raise
            self._noted = []
        return copy

    def take_over(self, copy: Path) -> None:
        """Let a copy catch up with what changed meanwhile, and use it from now on, also after a crash."""
        for written in (*copy.rglob("*"), copy):
            sync(written)
        shard = guarded(lambda: edge.EdgeShard.load(str(copy)))
        try:
            done = self._repeat(shard, 0, leave=FEW)
            guarded(shard.flush)
            with self._lock:
                before, old = self._open(), self._current()
                self._repeat(shard, done)
                guarded(shard.flush)
                config = {**self.config, SHARD: copy.name}
                write_meta(self.path, config)
                self.config, self._noted = config, None
                self._shard, shard = shard, before
        finally:
            guarded(shard.close)  # whichever of both is not used
        shutil.rmtree(old, ignore_errors=True)

    def drop_copy(self, copy: Path) -> None:
        """Forget a copy, unless it was taken over."""
        with self._lock:
            if copy == self._current():
                return
            self._noted = None
        shutil.rmtree(copy, ignore_errors=True)

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
        with self._lock:
            shard = self._open()
            self._unflushed = True
            guarded(lambda: shard.update(operation))
            if self._noted is not None:
                self._noted.append(operation)

    def _ask(self, question: Callable[[edge.EdgeShard], T]) -> T:
        with self._lock:
            shard = self._open()
            return guarded(lambda: question(shard))

    def _open(self) -> edge.EdgeShard:
        if self._shard is None:
            raise Missing(f"Not found: Collection `{self.name}` doesn't exist!")
        return self._shard

    def _current(self) -> Path:
        return current(self.path, self.config)

    def _status(self) -> str:
        if self.trouble:
            return "red"
        return "green" if self._noted is None else "yellow"

    def _repeat(self, shard: edge.EdgeShard, start: int, leave: int = 0) -> int:
        """Make noted changes again in a copy, from one of them on, until few are left; answers how many were made."""
        noted = self._noted
        if noted is None:
            raise Missing(f"no copy of collection `{self.name}` was begun")
        done = start
        while len(noted) - done > leave:
            guarded(partial(shard.update, noted[done]))
            done += 1
        return done


# Its files


def open_collection(path: Path) -> Collection:
    """Load one collection, and sweep copies that were not taken over; raises CannotStart when it cannot be read."""
    try:
        config = json.loads((path / META).read_text())
        used = current(path, config)
        for copy in set(path.glob(f"{SHARD}*")) - {used}:
            shutil.rmtree(copy, ignore_errors=True)
        return Collection(path, guarded(lambda: edge.EdgeShard.load(str(used))), config)
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


def write_meta(path: Path, config: Json) -> None:
    """Replace the collection's configuration in one step."""
    new = path / f"{META}.new"
    new.write_text(json.dumps(config))
    sync(new)
    new.replace(path / META)
    sync(path)


def current(path: Path, config: Json) -> Path:
    """The folder of the shard that is in use."""
    return path / str(config.get(SHARD, SHARD))


def sync(path: Path) -> None:
    """Let the disk have a file's bytes, or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
