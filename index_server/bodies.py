"""JSON bodies of Qdrant's REST API as the engine's objects, read strictly: what is not known is refused by name."""

from collections.abc import Callable, Iterable
from reprlib import repr as shorten
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from .errors import Refused

Json = dict[str, Any]
PointId = int | str | UUID
T = TypeVar("T")

FLUSH_SECONDS = 5.0
DISTANCES = {"Cosine": edge.Distance.Cosine, "Dot": edge.Distance.Dot, "Euclid": edge.Distance.Euclid}
DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "turbo16": edge.VectorStorageDatatype.Turbo16,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
}
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}  # Qdrant's defaults
WHOLE = edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1)  # one graph, when one is asked for
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
        optimizers=WHOLE,
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
    """https://api.qdrant.tech/api-reference/search/query-points, `params`; both are moot without a graph."""
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
