"""Reads JSON bodies of Qdrant's REST API into the engine's objects, and refuses every unknown field by its name.

Each reader raises BadRequest.
"""

from collections.abc import Callable, Iterable
from reprlib import repr as shorten
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from .errors import BadRequest

Json = dict[str, Any]
PointId = int | str | UUID
T = TypeVar("T")

FLUSH_SECONDS = 120.0  # a flush blocks all requests, for 0.25 s if the disk is busy with uploads
DISTANCES = {"Cosine": edge.Distance.Cosine, "Dot": edge.Distance.Dot, "Euclid": edge.Distance.Euclid}
DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "turbo16": edge.VectorStorageDatatype.Turbo16,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
}
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}  # Qdrant's defaults
ONE_GRAPH = edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1)  # what `optimize()` builds
SCHEMAS = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
    "uuid": edge.PayloadSchemaType.Uuid,
}
DIRECTIONS = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}
MAX_DIMENSION = 65_536
MAX_VECTOR_VALUE = 1e15  # keeps every norm and score inside float32
MAX_PAYLOAD_DEPTH = 32
MAX_FILTER_DEPTH = 8


# Configuration of a collection


def read_collection_config(body: Json) -> Json:
    """Return the collection's configuration with all defaults filled in."""
    fields = read_fields(body, "collection", {"vectors", "hnsw_config", "on_disk_payload", "metadata"})
    vectors = fields.get("vectors")
    if not isinstance(vectors, dict) or "size" not in vectors:
        raise BadRequest("vectors must be one {size, distance, datatype}: named vectors are not supported")
    vectors = read_fields(vectors, "vectors", {"size", "distance", "datatype"})
    look_up(DISTANCES, vectors.get("distance"), "distance")
    look_up(DATATYPES, vectors.get("datatype", "float32"), "datatype")
    hnsw = read_fields(fields.get("hnsw_config", {}), "hnsw_config", set(HNSW))
    return {
        "vectors": vectors | {"size": read_int(vectors, "size", 0, minimum=1, maximum=MAX_DIMENSION)},
        "hnsw_config": {key: read_int(hnsw, key, default) for key, default in HNSW.items()},
        "on_disk_payload": read_bool(fields, "on_disk_payload", True),
        "metadata": read_payload(fields.get("metadata", {})),
    }


def shard_config(config: Json) -> edge.EdgeConfig:
    """Return the engine's form of a configuration."""
    vectors = config["vectors"]
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=vectors["size"],
            distance=DISTANCES[vectors["distance"]],
            datatype=DATATYPES[vectors.get("datatype", "float32")],
        ),
        hnsw_config=build(edge.HnswIndexConfig, **config["hnsw_config"]),
        on_disk_payload=config["on_disk_payload"],
        optimizers=ONE_GRAPH,
    )


def config_json(config: Json) -> Json:
    """Return Qdrant's JSON form of a configuration; one shard, no optimizer."""
    return {
        "params": {"vectors": config["vectors"], "on_disk_payload": config["on_disk_payload"]},
        "hnsw_config": config["hnsw_config"],
        "optimizer_config": {"default_segment_number": 1, "flush_interval_sec": round(FLUSH_SECONDS)},
        "metadata": config["metadata"],
    }


def payload_index_json(index: "edge.PayloadIndexInfo") -> Json:
    """Return what GET collection reports about one payload index."""
    kind = next(name for name, schema in SCHEMAS.items() if schema == index.data_type)
    return {"data_type": kind, "points": index.points}


# Points


def read_point_ids(values: object) -> list[PointId]:
    """Return the ids in a JSON list."""
    if not isinstance(values, list):
        raise BadRequest(f"point ids must be a list, not {shorten(values)}")
    return [read_point_id(value) for value in values]


def read_point_id(value: object) -> PointId:
    """Return an id as the engine takes it. https://qdrant.tech/documentation/concepts/points/#point-ids"""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError as error:
        reason = "neither an unsigned integer nor a UUID"
        raise BadRequest(f"{shorten(value)} is not a valid point ID: {reason}") from error


def id_json(value: object) -> object:
    """Return an id as a JSON value."""
    return str(value) if isinstance(value, UUID) else value


def point_json(point: edge.Record | edge.ScoredPoint) -> Json:
    """Return a point as JSON, without the parts that the request did not select."""
    optional = {"payload": point.payload, "vector": point.vector, "order_value": point.order_value}
    return {"id": id_json(point.id)} | {key: value for key, value in optional.items() if value is not None}


def read_payload(value: object) -> Json:
    """Return a payload that the engine's log can read back."""
    if not isinstance(value, dict):
        raise BadRequest(f"payload must be an object, not {shorten(value)}")
    if is_deeper(value, MAX_PAYLOAD_DEPTH):
        raise BadRequest(f"payload is nested more than {MAX_PAYLOAD_DEPTH} levels deep")
    return value


def is_deeper(value: object, levels: int) -> bool:
    """Return whether lists and objects in `value` are nested deeper than `levels`."""
    inner: Iterable[object]
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return False
    return levels == 0 or any(is_deeper(item, levels - 1) for item in inner)


def read_payload_selector(value: object) -> Any:
    """Read `with_payload`: a boolean, a list of keys, {"include": keys} or {"exclude": keys}."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        value = {"include": value}
    fields = read_fields(value, "with_payload", {"include", "exclude"})
    choice = read_choice(fields, ("include", "exclude"))
    kind = edge.PayloadSelector.Include if choice == "include" else edge.PayloadSelector.Exclude
    return build(kind, read_list(fields, choice))


# Queries


def read_query_vector(query: object) -> object:
    """Return the vector of a query, written as a list or as {"nearest": list}."""
    vector = read_fields(query, "query", {"nearest"}).get("nearest") if isinstance(query, dict) else query
    if not isinstance(vector, list):
        raise BadRequest(f"query {shorten(query)} is not supported: ask for the nearest points to a vector")
    return vector


def read_search_params(body: object) -> edge.SearchParams:
    """Read `params`, which have no effect without a graph. https://api.qdrant.tech/api-reference/search/query-points"""
    fields = read_fields(body, "params", {"hnsw_ef", "exact"})
    return edge.SearchParams(
        hnsw_ef=read_int(fields, "hnsw_ef", 0, maximum=2**31) or None, exact=read_bool(fields, "exact", False)
    )


def read_order_by(body: object) -> edge.OrderBy:
    """Read a key, or {key, direction, start_from}; points before start_from, a number or date, are left out."""
    fields = read_fields(
        {"key": body} if isinstance(body, str) else body, "order_by", {"key", "direction", "start_from"}
    )
    start = fields.get("start_from")
    if isinstance(start, bool) or not isinstance(start, int | float | str | None):
        raise BadRequest(f"order_by: start_from must be a number or a date, not {shorten(start)}")
    direction = look_up(DIRECTIONS, fields.get("direction", "asc"), "order_by: direction")
    return build(edge.OrderBy, read_text(fields, "key"), direction, start)


# Filters. https://qdrant.tech/documentation/concepts/filtering/


def read_filter(body: object, levels: int = MAX_FILTER_DEPTH) -> edge.Filter:
    """Read a filter of must, should and must_not clauses, nested at most `levels` deep."""
    if levels == 0:
        raise BadRequest(f"filter is nested more than {MAX_FILTER_DEPTH} levels deep")
    fields = read_fields(body, "filter", {"must", "should", "must_not"})
    clauses = {
        clause: [read_condition(item, levels) for item in (value if isinstance(value, list) else [value])]
        for clause, value in fields.items()
    }
    return edge.Filter(clauses.get("must"), clauses.get("should"), clauses.get("must_not"))


def read_condition(body: object, levels: int) -> Any:
    """Read one condition of a clause: on a payload field, on the id, or a filter inside the filter."""
    if not isinstance(body, dict):
        raise BadRequest(f"a filter condition must be an object, not {shorten(body)}")
    if body.keys() & {"must", "should", "must_not", "min_should"}:
        return read_filter(body, levels - 1)
    if "has_id" in body:
        fields = read_fields(body, "filter condition", {"has_id"})
        return edge.HasIdCondition(set(read_point_ids(fields.get("has_id"))))
    if "is_empty" in body and "key" not in body:
        fields = read_fields(read_fields(body, "filter condition", {"is_empty"}).get("is_empty"), "is_empty", {"key"})
        return build(edge.IsEmptyCondition, read_text(fields, "key"))
    return read_field_condition(body)


def read_field_condition(body: Json) -> edge.FieldCondition:
    """Read {key} with exactly one of match, range and is_empty: the engine would silently ignore a second one."""
    fields = read_fields(body, "filter condition", {"key", "match", "range", "is_empty"})
    test = read_choice(fields, ("match", "range", "is_empty"))
    if test == "is_empty":
        value: Any = read_bool(fields, test, True)
    else:
        value = (read_match if test == "match" else read_range)(fields[test])
    return build(edge.FieldCondition, read_text(fields, "key"), **{test: value})


def read_match(body: object) -> Any:
    """Read {value}, {any} or {except}: strings, integers and, for `value`, booleans."""
    fields = read_fields(body, "match", {"value", "any", "except"})
    choice = read_choice(fields, ("value", "any", "except"))
    if choice == "value":
        return edge.MatchValue(read_match_value(fields[choice]))
    values = read_list(fields, choice)
    if not all(type(value) is type(values[0]) and type(value) in (int, str) for value in values):
        raise BadRequest(f"match {choice} {shorten(values)} is not supported: use only strings or only integers")
    return build(edge.MatchAny if choice == "any" else edge.MatchExcept, values)


def read_match_value(value: object) -> Any:
    """Return the value in a form whose type the engine keeps: it takes True for 1, but NumPy's True for a boolean."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    raise BadRequest(f"match value {shorten(value)} is not supported: use a string, an integer or a boolean")


def read_range(body: object) -> edge.RangeFloat | edge.RangeDateTime:
    """Read the bounds gte, gt, lte and lt: all numbers, or all dates."""
    fields = read_fields(body, "range", {"gte", "gt", "lte", "lt"})
    if fields and all(type(bound) in (int, float) for bound in fields.values()):
        return build(edge.RangeFloat, **fields)
    if fields and all(isinstance(bound, str) for bound in fields.values()):
        return build(edge.RangeDateTime, **fields)
    raise BadRequest(f"range {shorten(body)} is not supported: give bounds that are all numbers or all dates")


# Reading JSON strictly


def read_fields(body: object, what: str, known: set[str]) -> Json:
    """Return the fields that are not null, and refuse unknown ones, so that nothing is silently ignored.

    `what` names the object in errors.
    """
    if not isinstance(body, dict):
        raise BadRequest(f"{what} must be an object, not {shorten(body)}")
    fields = {key: value for key, value in body.items() if value is not None}
    if unknown := sorted(fields.keys() - known):
        raise BadRequest(f"{what}: {', '.join(unknown)} is not supported by the embedded index server")
    return fields


def read_choice(fields: Json, names: tuple[str, ...]) -> str:
    """Return which one of `names` is set."""
    present = [name for name in names if name in fields]
    if len(present) != 1:
        raise BadRequest(f"give exactly one of {', '.join(names)}, not {' and '.join(present) or 'none'}")
    return present[0]


def look_up(table: dict[str, T], name: object, what: str) -> T:
    """Return the entry of this name; `what` names the table in errors."""
    if isinstance(name, str) and name in table:
        return table[name]
    raise BadRequest(f"{what} {shorten(name)} is not supported: use {', '.join(table)}")


def read_list(fields: Json, key: str) -> list[Any]:
    """Return a field that must be a list."""
    if isinstance(value := fields.get(key), list):
        return value
    raise BadRequest(f"{key} must be a list, not {shorten(value)}")


def read_text(fields: Json, key: str) -> str:
    """Return a field that must be a string."""
    if isinstance(value := fields.get(key), str):
        return value
    raise BadRequest(f"{key} must be a string, not {shorten(value)}")


def read_bool(fields: Json, key: str, default: bool) -> bool:
    """Return a field that must be a boolean."""
    if isinstance(value := fields.get(key, default), bool):
        return value
    raise BadRequest(f"{key} must be true or false, not {shorten(value)}")


def read_int(fields: Json, key: str, default: int, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
    """Return a field that must be an integer within bounds."""
    value = fields.get(key, default)
    if type(value) is int and minimum <= value <= maximum:
        return value
    raise BadRequest(f"{key} must be an integer from {minimum} to {maximum}, not {shorten(value)}")


def read_number(fields: Json, key: str) -> float | None:
    """Return a field that must be a number, or None where it is missing."""
    value = fields.get(key)
    if value is None or type(value) in (int, float):
        return value
    raise BadRequest(f"{key} must be a number, not {shorten(value)}")


def build(kind: Callable[..., T], *args: Any, **options: Any) -> T:
    """Construct an object of the engine; arguments that the engine rejects are the request's fault."""
    try:
        return kind(*args, **options)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest(f"Wrong input: {str(error).splitlines()[0]}") from error
