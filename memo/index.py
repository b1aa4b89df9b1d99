"""The index in Qdrant: painted pictures, paintings under way and labels, each in a collection of its own.

A further collection records which embedder's vectors are in use, so that vectors of different embedders never mix.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar
from uuid import UUID

from qdrant_client import QdrantClient, models

from memo.judge.feedback import Label

from .embed import Vectors
from .errors import OtherEmbedder, Unavailable
from .picture import NearStart, Picture, as_requested, from_record, record
from .points import (
    PAGE,
    REINDEX,
    Conditions,
    Points,
    Vector,
    dimension_of,
    field_equals,
    has_id,
    ignore_already_exists,
    neighbour_of,
    open_client,
    settings_key,
    translate_errors,
)
from .recipe import Recipe

P = TypeVar("P", bound=Points)
PICTURES = "pictures-"  # followed by the embedder's name
PREFIXES = {"pictures": PICTURES, "labels": f"labels-{PICTURES}", "pending": f"pending-{PICTURES}"}
EMBEDDER_RECORDS = "embedder-of-pictures"  # a collection of two points, each with an embedder's name and dimension:
IN_USE = str(UUID(int=0))  # the embedder whose vectors are in use
UNFINISHED = str(UUID(int=1))  # the embedder of a reindexing that runs or was interrupted


@dataclass(frozen=True, slots=True)
class IndexedPicture:
    """A picture, and the prompts for which it was marked wrong."""

    picture: Picture
    wrong_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A picture whose prompt is near the searched words."""

    picture: Picture
    cosine: float


class Index(Points):
    """Painted pictures: id = key, vector = the prompt's embedding, payload = recipe and record."""

    def check_embedder(self) -> None:
        """Raise OtherEmbedder if another embedder filled the index; an index that is down is checked on first use."""
        try:
            self.count()
        except OtherEmbedder:
            raise
        except Unavailable:
            return

    def create(self) -> None:
        """Create the collection, and record its embedder as the one in use; raises OtherEmbedder."""
        if self.collection.startswith(PICTURES):
            self.register_embedder()
        super().create()
        no_settings_key = models.IsEmptyCondition(is_empty=models.PayloadField(key="settings_key"))
        if count := self.client.count(self.collection, models.Filter(must=no_settings_key), exact=True).count:
            raise OtherEmbedder(
                f"an older version of memoAIzed wrote {count} pictures of {self.collection!r}: {REINDEX}"
            )

    def register_embedder(self) -> None:
        """Record this embedder as the one in use.

        Raises OtherEmbedder if another one filled the index, or if reindexing for this one did not finish.
        """
        records = self.read_embedder_records()
        if records.get(UNFINISHED) == self.embedder_record:
            raise OtherEmbedder(f"reindexing for this embedder did not finish: {REINDEX}")
        if records.get(IN_USE) != self.embedder_record:
            self.refuse_foreign_vectors()
            self.write_embedder_record(IN_USE)

    @property
    def embedder_record(self) -> dict[str, Any]:
        """The name and dimension of this index's embedder, as EMBEDDER_RECORDS holds them."""
        return {"embedder": self.collection.removeprefix(PICTURES), "dimension": self.dimension}

    def refuse_foreign_vectors(self) -> None:
        """Raise OtherEmbedder if pictures or labels of other embedders exist."""
        foreign = [*self.foreign_collections("pictures"), *self.foreign_collections("labels")]
        if filled := [str(collection) for collection in foreign if collection.points]:
            name = self.embedder_record["embedder"]
            raise OtherEmbedder(
                f"the index holds {' and '.join(filled)}, but the embedder now is {name!r}"
                f" (dimension {self.dimension}): {REINDEX}"
            )

    def foreign_collections(self, kind: str) -> list["ForeignCollection"]:
        """The collections of a kind that other embedders filled, or ours if it has another dimension."""
        prefix = PREFIXES[kind]
        ours = prefix + self.embedder_record["embedder"], self.dimension
        names = sorted(collection.name for collection in self.client.get_collections().collections)
        collections = [describe_collection(self.client, kind, name) for name in names if name.startswith(prefix)]
        return [collection for collection in collections if (collection.name, collection.dimension) != ours]

    def read_embedder_records(self) -> dict[str, Any]:
        """The records of embedders, by IN_USE and UNFINISHED."""
        if not self.client.collection_exists(EMBEDDER_RECORDS):
            return {}
        points = self.client.retrieve(EMBEDDER_RECORDS, [IN_USE, UNFINISHED])
        return {str(point.id): point.payload for point in points}

    def write_embedder_record(self, id: str) -> None:
        """Record this embedder as IN_USE or UNFINISHED."""
        if not self.client.collection_exists(EMBEDDER_RECORDS):
            vectors = models.VectorParams(size=1, distance=models.Distance.DOT)
            with ignore_already_exists():
                self.client.create_collection(EMBEDDER_RECORDS, vectors_config=vectors)
        point = models.PointStruct(id=id, vector=[1.0], payload=self.embedder_record)
        self.client.upsert(EMBEDDER_RECORDS, [point], wait=True)

    def begin_reindex(self) -> None:
        """Keep every process from using this embedder until `finish_reindex`; the one in use stays in use."""
        with translate_errors():
            self.write_embedder_record(UNFINISHED)

    def finish_reindex(self) -> list["ForeignCollection"]:
        """Put this embedder's vectors into use; returns the collections that are no longer needed."""
        with translate_errors():
            self.write_embedder_record(IN_USE)
            self.client.delete(EMBEDDER_RECORDS, [UNFINISHED], wait=True)
            return [collection for kind in PREFIXES for collection in self.foreign_collections(kind)]

    def drop(self, collections: Sequence["ForeignCollection"]) -> None:
        """Delete collections with all their points."""
        with translate_errors():
            for collection in collections:
                self.client.delete_collection(collection.name)

    def add(self, picture: Picture, vector: Vector, wrong_for: Sequence[str] = ()) -> None:
        """Insert or replace the point of a picture; `wrong_for` holds the prompts for which it was marked wrong."""
        self.add_all([picture], vector[None], {picture.key: wrong_for})

    def add_all(
        self, pictures: Sequence[Picture], vectors: Vectors, wrong_for: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Insert or replace many points at once; `vectors` (pictures, dimension), `wrong_for` by key."""
        wrong = wrong_for or {}
        payloads = [to_payload(picture) | {"wrong_for": list(wrong.get(picture.key, ()))} for picture in pictures]
        keys = [picture.key for picture in pictures]
        self.upsert(*zip(keys, vectors, payloads, strict=True))

    def mark_wrong(self, key: str, wrong_for: Sequence[str]) -> None:
        """Replace the prompts for which a picture was marked wrong; it is no error if the picture is forgotten."""
        with self.created_collection():
            where = models.Filter(must=has_id([key]))
            self.client.set_payload(self.collection, {"wrong_for": list(wrong_for)}, where, wait=True)

    def get(self, key: str) -> Picture | None:
        """The picture with a key; None if the index has none."""
        with self.created_collection():
            points = self.client.retrieve(self.collection, [str(UUID(key))])
        return to_picture(points[0].payload) if points else None

    def newest_for_wish(self, recipe: Recipe, scope: str, seen: Collection[str] = ()) -> IndexedPicture | None:
        """The newest picture painted for exactly this recipe, whatever its seed, whose key is not in `seen`."""
        must = [field_equals("scope", scope), field_equals("wish_key", recipe.wish.key)]
        payloads = self.scroll(must, 1, None, has_id(seen))
        return to_indexed_picture(payloads[0]) if payloads else None

    def newest(
        self,
        scope: str,
        limit: int,
        before: float | None,
        *,
        model: str = "",
        keys: Collection[str] | None = None,
    ) -> list[Picture]:
        """Pictures created before a time (seconds since 1970), newest first.

        `model` and `keys`, if given, limit them to one model and to these keys.
        """
        must = in_scope(scope, model)
        if before is not None:
            must.append(models.FieldCondition(key="created", range=models.Range(lt=before)))
        if keys is not None:
            must.append(models.HasIdCondition(has_id=[str(UUID(key)) for key in keys]))
        return [to_picture(payload) for payload in self.scroll(must, limit, before)]

    def search(self, vector: Vector, scope: str, limit: int, *, model: str = "") -> list[SearchResult]:
        """The pictures of a scope with the nearest prompts, whatever their settings; of one model, if given."""
        points = map(neighbour_of, self.query(vector, in_scope(scope, model), limit, ()))
        return [SearchResult(to_picture(point.payload), point.cosine) for point in points]

    def scroll(
        self, must: Conditions, limit: int, start: float | None, must_not: Conditions | None = None
    ) -> list[Any]:
        """Payloads of the pictures that fulfil all conditions and none of `must_not`, newest first."""
        order = {"key": "created", "direction": "desc"} | ({} if start is None else {"start_from": start})
        points = self.find_points("scroll", {"order_by": order}, models.Filter(must=must, must_not=must_not), limit)
        return [point["payload"] for point in points]


class PendingPaintings(Points):
    """Paintings under way: id = the painting's id, payload = recipe and scope.

    A point that outlives its painting does no harm: it is removed when it is next found.
    """

    def add(self, painting: str, recipe: Recipe, scope: str, vector: Vector, near: NearStart | None = None) -> None:
        """Insert the point of a painting, so that requests for the same wish find it."""
        key = settings_key(as_requested(recipe, near), scope)
        self.upsert((painting, vector, {**asdict(recipe), "scope": scope, "settings_key": key}))


class Labels(Points):
    """Labels as points: id = the label's id, vector = the wanted prompt's embedding, payload = the label."""

    keywords = ("key", "remembered", "scope", "source")
    integers: tuple[str, ...] = ()
    floats = ("created",)

    def add(self, label: Label, vector: Vector) -> None:
        """Keep a label; it is durable when this returns."""
        self.upsert((label.id, vector, asdict(label)))

    def of_picture(self, key: str, scope: str) -> list[Label]:
        """All labels of a picture."""
        return list(self.scroll([field_equals("key", key), field_equals("scope", scope)]))

    def of_prompt(self, remembered: str, scope: str) -> list[Label]:
        """All labels of the pictures that were painted for a prompt."""
        return list(self.scroll([field_equals("remembered", remembered), field_equals("scope", scope)]))

    def all(self) -> Iterator[Label]:
        """Every label, in no particular order."""
        return self.scroll([])

    def scroll(self, must: Conditions) -> Iterator[Label]:
        """The labels that fulfil all conditions."""
        offset: Any = None
        while True:
            with self.created_collection():
                points, offset = self.client.scroll(
                    self.collection, scroll_filter=models.Filter(must=must), limit=PAGE, offset=offset
                )
            yield from (Label(**(point.payload or {})) for point in points)
            if offset is None:
                return


@dataclass(frozen=True, slots=True)
class ForeignCollection:
    """A collection with vectors of another embedder, or of another dimension than the present embedder's."""

    kind: str  # a key of PREFIXES
    name: str
    dimension: int
    points: int  # how many it holds

    def __str__(self) -> str:
        embedder = self.name.removeprefix(PREFIXES[self.kind])
        kind = self.kind if self.points != 1 else self.kind.removesuffix("s")
        return f"{self.points} {kind} of the embedder {embedder!r} (dimension {self.dimension})"


def describe_collection(client: QdrantClient, kind: str, name: str) -> ForeignCollection:
    """The dimension and the number of points of a collection."""
    points = client.count(name, exact=True).count
    return ForeignCollection(kind, name, dimension_of(client, name), points)


def in_scope(scope: str, model: str) -> Conditions:
    """The conditions that a picture belongs to a scope, and was painted by a model if one is given."""
    return [field_equals("scope", scope), *([field_equals("model", model)] if model else [])]


def to_payload(picture: Picture) -> dict[str, Any]:
    """Return what a point holds about its picture: recipe, record, and the keys of wish and settings for filters.

    If memory chose the initial picture, it is not part of these keys: the request did not name one, either.
    """
    keys = {"wish_key": picture.wish.key, "settings_key": settings_key(picture.wish, picture.scope)}
    return {**asdict(picture.recipe), **record(picture), **keys}


def to_picture(payload: Any) -> Picture:
    """The picture in a payload: the inverse of `to_payload`."""
    names = {field.name for field in fields(Recipe)}
    return from_record(Recipe(**{name: value for name, value in payload.items() if name in names}), payload)


def to_indexed_picture(payload: Any) -> IndexedPicture:
    """The picture in a payload, with the prompts for which it was marked wrong."""
    return IndexedPicture(to_picture(payload), tuple(payload.get("wrong_for", ())))


def open_index(url: str, collection: str, dimension: int, *, api_key: str | None = None) -> Index:
    """The index at `memory:` or at the http(s) URL of a Qdrant server; connects on first use. Raises BadSetup."""
    return Index(open_client(url, api_key), collection, dimension)


def open_sibling(index: Index, kind: type[P], prefix: str) -> P:
    """The collection `PREFIX-…` that belongs to an index: same server, same embedder."""
    return kind(index.client, f"{prefix}-{index.collection}", index.dimension)
