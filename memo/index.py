"""Qdrant, and nothing else that knows of Qdrant.

One client for all: a Qdrant server, the embedded index server (which speaks the same REST), or in memory for
tests. The collection is made on first use, so that a process starts while the index is still down. Records in the
index say whose vectors are in use, so that those of another embedder are refused and never mixed.
"""

import contextlib
import hashlib
import json
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from memo.judge.feedback import Label

from .embed import Vectors
from .errors import BadSetup, OtherEmbedder, Unavailable
from .picture import Picture, from_record, record
from .qdrant_rest import Json, ask_memory, open_rest
from .recipe import Recipe

P = TypeVar("P", bound="Points")
Filter = list[models.Condition]
PICTURES = "pictures-"
KINDS = {"pictures": PICTURES, "labels": f"labels-{PICTURES}", "pending": f"pending-{PICTURES}"}  # and the embedder
RECORDS = "embedder-of-pictures"  # a collection of at most two points, each with an embedder's name and dimension:
IN_USE, UNFINISHED = str(UUID(int=0)), str(UUID(int=1))  # whose vectors are in use, and who re-embeds or was cut off
FIX = "stop web and workers, then `memoaized reindex` re-embeds everything"
KEPT = models.Datatype.TURBO8  # bench.index: a quarter of the memory, half the time, 995 in 1,000 nearest found
PAGE = 256  # points read at once
DIGITS = 5  # of a query's numbers, as text: what is kept has eight bits, and all digits take a millisecond more
EF = 256  # how widely a server's graph is searched: bench.index finds 995 in 1,000 of the nearest
TIMEOUT = 5  # seconds for one request
KEYWORDS = ("scope", "model", "wish", "settings")
INTEGERS = ("steps",)
FLOATS = ("created",)
SETTINGS = ("model", "revision", "adapter", "negative_prompt", "width", "height", "guidance_scale")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A point whose prompt is near: a picture by its key, or a painting under way."""

    key: str  # 32 hex digits
    cosine: float
    payload: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """What it shows."""
        return str(self.payload["prompt"])

    @property
    def found(self) -> "IndexedPicture":
        """Of a picture, all that is known."""
        return as_found(self.payload)


class Points:
    """Prompts as points of a collection, which is made on first use.

    Every method raises Unavailable when the index does not answer.
    """

    keywords: tuple[str, ...] = KEYWORDS  # payload fields that are filtered by
    integers: tuple[str, ...] = INTEGERS
    floats: tuple[str, ...] = FLOATS

    def __init__(self, client: QdrantClient, collection: str, dimension: int) -> None:
        self.client, self.collection, self.dimension = client, collection, dimension
        self.rest = open_rest(client)
        self.made = False
        self.lock = threading.Lock()

    def put(self, *points: tuple[str, Vectors, dict[str, Any]]) -> None:
        """Insert or replace points of (32 hex digits, vector (dimension,), payload); searchable when this returns."""
        told = [{"id": str(UUID(name)), "vector": v.tolist(), "payload": values} for name, v, values in points]
        with self.ready():
            if self.rest:
                self.rest.send("PUT", self.collection, "?wait=true", {"points": told})
            else:
                self.client.upsert(self.collection, [models.PointStruct(**point) for point in told], wait=True)

    def nearest(
        self, vector: Vectors, like: Recipe, scope: str, limit: int, seen: Collection[str] = ()
    ) -> list[Neighbour]:
        """The nearest prompts of the scope whose pictures can serve a recipe's settings, best first, none seen.

        They can when they have the same settings and at least as many steps. Steps are looked at only when some have
        too few, for at 100,000 points a second condition costs three times the search itself.
        """
        same = [equals("settings", settings(like, scope))]
        found = self.near(vector, same, limit, seen)
        if any(point["payload"]["steps"] < like.steps for point in found):
            enough = models.FieldCondition(key="steps", range=models.Range(gte=like.steps))
            found = self.near(vector, [*same, enough], limit, seen)
        return [as_near(point) for point in found]

    def near(self, vector: Vectors, must: Filter, limit: int, seen: Collection[str]) -> list[Json]:
        """Points that fulfil all conditions, best first."""
        wanted = {"query": np.round(vector.astype(float), DIGITS).tolist(), "params": {"hnsw_ef": EF}}
        return self.ask("query", wanted, models.Filter(must=must, must_not=among(seen)), limit)

    def ask(self, what: str, wanted: Json, where: models.Filter, limit: int) -> list[Json]:
        """Points with payloads whole: that takes no longer than a part, and saves who wants the rest a request."""
        body = {**wanted, "filter": where.model_dump(mode="json", exclude_none=True)}
        body |= {"limit": limit, "with_payload": True}
        with self.ready():
            if self.rest:
                return self.rest(self.collection, what, body)
            return ask_memory(self.client, self.collection, what, body)

    def remove(self, name: str) -> None:
        """Forget the point; one that does not exist is no error."""
        with self.ready():
            if self.rest:
                self.rest.send("POST", self.collection, "/delete?wait=true", {"points": [str(UUID(name))]})
            else:
                self.client.delete(self.collection, [str(UUID(name))], wait=True)

    def count(self) -> int:
        """How many points there are."""
        with self.ready():
            return self.client.count(self.collection, exact=True).count

    def count_started_from(self, start: str, scope: str, but: Collection[str] = ()) -> int:
        """How many points of a scope, but for these, are started from this picture; they are all looked at."""
        same = [equals("scope", scope), equals("init_image", start)]
        with self.ready():
            where = models.Filter(must=same, must_not=among(but))
            return self.client.count(self.collection, where, exact=True).count

    def keys(self) -> Iterator[str]:
        """The names of all points, 32 hex digits each, in no certain order."""
        offset: Any = None
        while True:
            with self.ready():
                points, offset = self.client.scroll(self.collection, limit=PAGE, offset=offset, with_payload=False)
            yield from (UUID(str(point.id)).hex for point in points)
            if offset is None:
                return

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make the collection once, and answer for the client's errors."""
        with translated():
            with self.lock:
                if not self.made:
                    self.make()
                    self.made = True
            try:
                yield
            except UnexpectedResponse as error:
                self.made = self.made and error.status_code != 404  # the collection was dropped: make it again
                raise

    def make(self) -> None:
        """Create the collection and its payload indexes unless another process has; raises OtherEmbedder."""
        if not self.client.collection_exists(self.collection):
            vectors = models.VectorParams(size=self.dimension, distance=models.Distance.COSINE, datatype=KEPT)
            with already_made():
                self.client.create_collection(self.collection, vectors_config=vectors)
        elif (dimension := dimension_of(self.client, self.collection)) != self.dimension:
            raise OtherEmbedder(
                f"the collection {self.collection!r} holds vectors of {dimension} numbers, and the embedder now gives"
                f" {self.dimension}: {FIX}"
            )
        kinds = models.PayloadSchemaType
        indexed = ((self.keywords, kinds.KEYWORD), (self.integers, kinds.INTEGER), (self.floats, kinds.FLOAT))
        for names, kind in indexed:
            for name in names:
                self.client.create_payload_index(self.collection, name, field_schema=kind, wait=True)

    def renew(self) -> None:
        """Make the collection whoever filled the index; one of another dimension is dropped first, points and all."""
        with translated():
            if self.client.collection_exists(self.collection):
                if dimension_of(self.client, self.collection) != self.dimension:
                    self.client.delete_collection(self.collection)
            Points.make(self)  # without asking the record: it is to be changed
            self.made = True


@dataclass(frozen=True, slots=True)
class IndexedPicture:
    """A picture, and the prompts that it was called wrong for."""

    picture: Picture
    wrong: tuple[str, ...] = ()


class Index(Points):
    """Painted pictures: id = key, vector = the prompt's embedding, payload = recipe and record."""

    def check_embedder(self) -> None:
        """Raise OtherEmbedder; an index that is down now is asked again on first use."""
        try:
            self.count()
        except OtherEmbedder:
            raise
        except Unavailable:
            return

    def make(self) -> None:
        """Make the collection, and this embedder the one in use unless another has filled the index."""
        if self.collection.startswith(PICTURES):
            self.claim()
        super().make()
        unfindable = models.Filter(must=models.IsEmptyCondition(is_empty=models.PayloadField(key="settings")))
        if older := self.client.count(self.collection, unfindable, exact=True).count:
            raise OtherEmbedder(f"an older version wrote {older} pictures of {self.collection!r}: {FIX}")

    def claim(self) -> None:
        """Record this embedder; raises OtherEmbedder when another holds something, or this one was cut off."""
        records = self.records()
        if records.get(UNFINISHED) == self.embedder:
            raise OtherEmbedder(f"the index was not re-embedded to the end: {FIX}")
        if records.get(IN_USE) != self.embedder:
            self.refuse_others()
            self.record(IN_USE)

    @property
    def embedder(self) -> dict[str, Any]:
        """Whose vectors these are, as the record has it."""
        return {"embedder": self.collection.removeprefix(PICTURES), "dimension": self.dimension}

    def refuse_others(self) -> None:
        """Raise OtherEmbedder when others hold pictures or labels."""
        if held := [str(one) for one in (*self.others("pictures"), *self.others("labels")) if one.points]:
            raise OtherEmbedder(
                f"the index holds {' and '.join(held)}, but the embedder now is {self.embedder['embedder']!r}"
                f" (vectors of {self.dimension}): {FIX}"
            )

    def others(self, kind: str) -> list["Held"]:
        """The collections of this kind that other embedders filled, or ours with vectors of another dimension."""
        prefix, ours = KINDS[kind], KINDS[kind] + self.embedder["embedder"]
        names = [found.name for found in self.client.get_collections().collections]
        held = [held_in(self.client, kind, name) for name in sorted(names) if name.startswith(prefix)]
        return [one for one in held if (one.collection, one.dimension) != (ours, self.dimension)]

    def records(self) -> dict[str, Any]:
        """The embedders that are IN_USE and UNFINISHED, as far as there are any."""
        if not self.client.collection_exists(RECORDS):
            return {}
        return {str(point.id): point.payload for point in self.client.retrieve(RECORDS, [IN_USE, UNFINISHED])}

    def record(self, which: str) -> None:
        """Write that this embedder is IN_USE or UNFINISHED."""
        if not self.client.collection_exists(RECORDS):
            vectors = models.VectorParams(size=1, distance=models.Distance.DOT)
            with already_made():
                self.client.create_collection(RECORDS, vectors_config=vectors)
        point = models.PointStruct(id=which, vector=[1.0], payload=self.embedder)
        self.client.upsert(RECORDS, [point], wait=True)

    def begin(self) -> None:
        """Refuse this embedder until `adopt` says that everything was re-embedded; the one in use stays so."""
        with translated():
            self.record(UNFINISHED)

    def adopt(self) -> list["Held"]:
        """Put this embedder's vectors into use; answers with the collections that nobody needs any more."""
        with translated():
            self.record(IN_USE)
            self.client.delete(RECORDS, [UNFINISHED], wait=True)
            return [one for kind in KINDS for one in self.others(kind)]

    def drop(self, unneeded: Sequence["Held"]) -> None:
        """Remove collections with all their points."""
        with translated():
            for one in unneeded:
                self.client.delete_collection(one.collection)

    def add(self, picture: Picture, vector: Vectors, wrong: Sequence[str] = ()) -> None:
        """Insert or replace the picture's point; `wrong` are prompts that it was called wrong for."""
        self.add_all([picture], vector[None], {picture.key: wrong})

    def add_all(
        self, pictures: Sequence[Picture], vectors: Vectors, wrong: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Insert or replace many points at once; `vectors`: (pictures, dimension), `wrong` by key as for `add`."""
        wrong = wrong or {}
        payloads = [payload(picture) | {"wrong": list(wrong.get(picture.key, ()))} for picture in pictures]
        keys = [picture.key for picture in pictures]
        self.put(*zip(keys, vectors, payloads, strict=True))

    def accuse(self, key: str, wrong: Sequence[str]) -> None:
        """The prompts that this picture was called wrong for; one that was forgotten is no error."""
        there = models.Filter(must=among([key]))
        with self.ready():
            self.client.set_payload(self.collection, {"wrong": list(wrong)}, there, wait=True)

    def get(self, key: str) -> Picture | None:
        """The picture of this key."""
        with self.ready():
            found = self.client.retrieve(self.collection, [str(UUID(key))])
        return as_picture(found[0].payload) if found else None

    def granted(self, wish: Recipe, scope: str, seen: Collection[str] = ()) -> IndexedPicture | None:
        """The newest picture painted for exactly this wish, whatever its seed, that is none of those seen."""
        payloads = self.scroll([equals("scope", scope), equals("wish", wish.wish.key)], 1, None, among(seen))
        return as_found(payloads[0]) if payloads else None

    def newest(
        self,
        scope: str,
        limit: int,
        before: float | None,
        *,
        model: str = "",
        keys: Collection[str] | None = None,
    ) -> list[Picture]:
        """Pictures created before (seconds since 1970), newest first; of this model and these keys, where given."""
        must = shown_to(scope, model)
        if before is not None:
            must.append(models.FieldCondition(key="created", range=models.Range(lt=before)))
        if keys is not None:
            must.append(models.HasIdCondition(has_id=[str(UUID(key)) for key in keys]))
        return [as_picture(found) for found in self.scroll(must, limit, before)]

    def search(self, vector: Vectors, scope: str, limit: int, *, model: str = "") -> list[Neighbour]:
        """Pictures of a scope by how near their prompts are, whatever their settings; of this model, where given."""
        return [as_near(point) for point in self.near(vector, shown_to(scope, model), limit, ())]

    def scroll(
        self,
        must: Filter,
        limit: int,
        start: float | None,
        never: Filter | None = None,
    ) -> list[Any]:
        """Payloads of pictures that fulfil all conditions and none of `never`, newest first."""
        order = {"key": "created", "direction": "desc"} | ({} if start is None else {"start_from": start})
        found = self.ask("scroll", {"order_by": order}, models.Filter(must=must, must_not=never), limit)
        return [point["payload"] for point in found]


class Pending(Points):
    """Paintings under way: id = painting, payload = recipe and scope. What is left of a dead one does no harm."""

    def add(self, painting: str, recipe: Recipe, scope: str, vector: Vectors) -> None:
        """Insert the painting's point."""
        self.put((painting, vector, {**asdict(recipe), "scope": scope, "settings": settings(recipe, scope)}))


class Labels(Points):
    """Labels as points: vector = the wanted prompt's embedding. Raises Unavailable when the index does not answer."""

    keywords = ("key", "remembered", "scope", "source")
    integers: tuple[str, ...] = ()
    floats = ("created",)

    def add(self, label: Label, vector: Vectors) -> None:
        """Keep a label, durably when this returns."""
        self.put((label.id, vector, asdict(label)))

    def of(self, key: str, scope: str) -> list[Label]:
        """All labels of a picture."""
        return list(self.read([equals("key", key), equals("scope", scope)]))

    def about(self, remembered: str, scope: str) -> list[Label]:
        """All labels of the pictures of a prompt."""
        return list(self.read([equals("remembered", remembered), equals("scope", scope)]))

    def all(self) -> Iterator[Label]:
        """Every label, in no certain order."""
        return self.read([])

    def read(self, must: Filter) -> Iterator[Label]:
        """Labels that fulfil all conditions."""
        offset: Any = None
        while True:
            with self.ready():
                points, offset = self.client.scroll(
                    self.collection, scroll_filter=models.Filter(must=must), limit=PAGE, offset=offset
                )
            yield from (Label(**(point.payload or {})) for point in points)
            if offset is None:
                return


@dataclass(frozen=True, slots=True)
class Held:
    """A collection of other vectors than ours."""

    kind: str  # one of KINDS
    collection: str
    dimension: int
    points: int

    def __str__(self) -> str:
        embedder = self.collection.removeprefix(KINDS[self.kind])
        kind = self.kind if self.points != 1 else self.kind.removesuffix("s")
        return f"{self.points} {kind} of the embedder {embedder!r} (vectors of {self.dimension})"


def held_in(client: QdrantClient, kind: str, collection: str) -> Held:
    """What a collection holds."""
    return Held(kind, collection, dimension_of(client, collection), client.count(collection, exact=True).count)


def dimension_of(client: QdrantClient, collection: str) -> int:
    """How many numbers a collection's vectors have; 0 for one of named or sparse vectors, which is none of ours."""
    vectors = client.get_collection(collection).config.params.vectors
    return vectors.size if isinstance(vectors, models.VectorParams) else 0


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The client's errors as ours."""
    try:
        yield
    except ResponseHandlingException as error:
        raise Unavailable(f"the index does not answer: {error}") from error
    except UnexpectedResponse as error:
        raise Unavailable(f"the index refused: {error}") from error
    except ApiException as error:
        raise Unavailable(f"the index failed: {error}") from error


@contextlib.contextmanager
def already_made() -> Iterator[None]:
    """Losing the race to create the collection is fine."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code not in (400, 409) or b"already exists" not in error.content:
            raise


def equals(name: str, value: Any) -> models.Condition:
    """A condition that a payload field has this value."""
    if isinstance(value, float):
        return models.FieldCondition(key=name, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=name, match=models.MatchValue(value=value))


def shown_to(scope: str, model: str) -> Filter:
    """Conditions that pictures belong to a scope, and were painted by a model, where one is named."""
    return [equals("scope", scope), *([equals("model", model)] if model else [])]


def among(names: Collection[str]) -> Filter | None:
    """A condition that a point is one of these."""
    return [models.HasIdCondition(has_id=[str(UUID(name)) for name in names])] if names else None


def settings(recipe: Recipe, scope: str) -> str:
    """One name for the scope and all settings that a picture must share with a recipe of other words to serve it.

    Sampler, schedule and mode say how a picture is painted, not what it shows, and may differ.
    """
    begun = [recipe.init_image, recipe.strength] if recipe.init_image else []  # of older points nobody asks for these
    said = json.dumps([scope, *(getattr(recipe, name) for name in SETTINGS), *begun])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def payload(picture: Picture) -> dict[str, Any]:
    """All fields of the recipe and the record, flat, the wish's key and a name for the settings."""
    wanted = {"wish": picture.recipe.wish.key, "settings": settings(picture.recipe, picture.scope)}
    return {**asdict(picture.recipe), **record(picture), **wanted}


def as_picture(values: Any) -> Picture:
    """The opposite of `payload`."""
    names = {field.name for field in fields(Recipe)}
    return from_record(Recipe(**{name: value for name, value in values.items() if name in names}), values)


def as_found(values: Any) -> IndexedPicture:
    """A payload as what was looked for."""
    return IndexedPicture(as_picture(values), tuple(values.get("wrong", ())))


def as_near(point: Json) -> Neighbour:
    """A point as what is near; a cosine of vectors kept in eight bits may come out above one."""
    return Neighbour(point["id"].replace("-", ""), min(1.0, point["score"]), point["payload"])


def open_index(url: str, collection: str, dimension: int, *, api_key: str | None = None) -> Index:
    """`memory:` or the http(s) URL of a Qdrant server; connects on first use."""
    return Index(open_client(url, api_key), collection, dimension)


def beside(index: Index, kind: type[P], name: str) -> P:
    """Another collection in the same place and of the same dimension."""
    return kind(index.client, f"{name}-{index.collection}", index.dimension)


def open_client(url: str, api_key: str | None) -> QdrantClient:
    """The client for a URL; raises BadSetup."""
    if url == "memory:":
        return quiet_client(location=":memory:")
    if url.startswith(("http://", "https://")):
        return quiet_client(url=url, api_key=api_key, timeout=TIMEOUT, check_compatibility=False)
    raise BadSetup(f"the index {url!r} is neither memory: nor an http URL of a Qdrant server")


def quiet_client(**options: Any) -> QdrantClient:
    """A client without its warning on plain http with a key: it stays on a private network."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return QdrantClient(**options)
