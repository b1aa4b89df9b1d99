"""Qdrant, and nothing else that knows of Qdrant.

One client for all: a Qdrant server, the embedded index server (which speaks the same REST), or in memory for
tests. The collection is made on first use, so that a process starts while the index is still down.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar
from uuid import UUID

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from .embed import Vectors
from .errors import BadSetup, Unavailable
from .labels import Label
from .picture import Picture, from_record, record
from .recipe import Recipe

P = TypeVar("P", bound="Points")
PAGE = 256  # labels read at once
TIMEOUT = 5  # seconds for one request
KEYWORDS = ("scope", "model", "revision", "adapter", "negative_prompt", "sampler", "schedule", "mode", "wish")
INTEGERS = ("width", "height", "steps")
FLOATS = ("created", "guidance_scale")
SETTINGS = ("model", "revision", "adapter", "negative_prompt", "width", "height", "guidance_scale")


class Points:
    """Prompts as points of a collection, which is made on first use.

    Every method raises Unavailable when the index does not answer.
    """

    keywords: tuple[str, ...] = KEYWORDS  # payload fields that are filtered by
    integers: tuple[str, ...] = INTEGERS
    floats: tuple[str, ...] = FLOATS

    def __init__(self, client: QdrantClient, collection: str, width: int) -> None:
        self.client, self.collection, self.width = client, collection, width
        self.made = False
        self.lock = threading.Lock()

    def put(self, *points: tuple[str, Vectors, dict[str, Any]]) -> None:
        """Insert or replace points, searchable when this returns: 32 hex digits, vector (width,), payload of each."""
        structs = [models.PointStruct(id=str(UUID(n)), vector=v.tolist(), payload=values) for n, v, values in points]
        with self.ready():
            self.client.upsert(self.collection, structs, wait=True)

    def near(self, vector: Vectors, like: Recipe, scope: str, limit: int) -> list[models.ScoredPoint]:
        """The nearest prompts of the scope whose pictures can serve a recipe's settings, best first."""
        with self.ready():
            answer = self.client.query_points(
                self.collection,
                query=vector.tolist(),
                query_filter=models.Filter(must=serving(like, scope)),
                search_params=models.SearchParams(exact=True),
                limit=limit,
            )
        return answer.points

    def remove(self, name: str) -> None:
        """Forget the point; one that does not exist is no error."""
        with self.ready():
            self.client.delete(self.collection, [str(UUID(name))], wait=True)

    def count(self) -> int:
        """How many points there are."""
        with self.ready():
            return self.client.count(self.collection, exact=True).count

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Make the collection once, and answer for the client's errors."""
        try:
            with self.lock:
                if not self.made:
                    self.make()
                    self.made = True
            yield
        except ResponseHandlingException as error:
            raise Unavailable(f"the index does not answer: {error}") from error
        except UnexpectedResponse as error:
            self.made = self.made and error.status_code != 404  # the collection was dropped: make it again
            raise Unavailable(f"the index refused: {error}") from error
        except ApiException as error:
            raise Unavailable(f"the index failed: {error}") from error

    def make(self) -> None:
        """Create the collection and its payload indexes unless another process has."""
        if not self.client.collection_exists(self.collection):
            vectors = models.VectorParams(size=self.width, distance=models.Distance.COSINE)
            with already_made():
                self.client.create_collection(self.collection, vectors_config=vectors)
        kinds = models.PayloadSchemaType
        indexed = ((self.keywords, kinds.KEYWORD), (self.integers, kinds.INTEGER), (self.floats, kinds.FLOAT))
        for names, kind in indexed:
            for name in names:
                self.client.create_payload_index(self.collection, name, field_schema=kind, wait=True)


class Index(Points):
    """Painted pictures: id = key, vector = the prompt's embedding, payload = recipe and record."""

    def add(self, picture: Picture, vector: Vectors) -> None:
        """Insert or replace the picture's point."""
        self.put((picture.key, vector, payload(picture)))

    def add_all(self, pictures: Sequence[Picture], vectors: Vectors) -> None:
        """Insert or replace many points at once; `vectors`: (pictures, width)."""
        self.put(
            *((picture.key, vector, payload(picture)) for picture, vector in zip(pictures, vectors, strict=True))
        )

    def get(self, key: str) -> Picture | None:
        """The picture of this key."""
        with self.ready():
            found = self.client.retrieve(self.collection, [str(UUID(key))])
        return as_picture(found[0].payload) if found else None

    def granted(self, wish: Recipe, scope: str) -> Picture | None:
        """The newest picture painted for exactly this wish, whatever its seed."""
        pictures = self.scroll([equals("scope", scope), equals("wish", wish.wish.key)], 1, None)
        return pictures[0] if pictures else None

    def nearest(self, vector: Vectors, like: Recipe, scope: str, limit: int) -> list[tuple[float, Picture]]:
        """Cosine and picture of the nearest prompts, best first."""
        return [(point.score, as_picture(point.payload)) for point in self.near(vector, like, scope, limit)]

    def newest(self, scope: str, limit: int, before: float | None) -> list[Picture]:
        """Pictures created before (seconds since 1970), newest first."""
        older = [models.FieldCondition(key="created", range=models.Range(lt=before))] if before is not None else []
        return self.scroll([equals("scope", scope), *older], limit, before)

    def scroll(self, must: list[models.Condition], limit: int, start: float | None) -> list[Picture]:
        """Pictures that fulfil all conditions, newest first."""
        order = models.OrderBy(key="created", direction=models.Direction.DESC, start_from=start)
        with self.ready():
            points, _ = self.client.scroll(
                self.collection, scroll_filter=models.Filter(must=must), order_by=order, limit=limit
            )
        return [as_picture(point.payload) for point in points]


class Pending(Points):
    """Paintings under way: id = painting, payload = recipe and scope. What is left of a dead one does no harm."""

    def add(self, painting: str, recipe: Recipe, scope: str, vector: Vectors) -> None:
        """Insert the painting's point."""
        self.put((painting, vector, {**asdict(recipe), "scope": scope}))

    def nearest(self, vector: Vectors, like: Recipe, scope: str, limit: int) -> list[tuple[float, str, str]]:
        """Cosine, painting and prompt of the nearest, best first."""
        found = self.near(vector, like, scope, limit)
        return [(point.score, UUID(str(point.id)).hex, (point.payload or {})["prompt"]) for point in found]


class Labels(Points):
    """Labels as points: vector = the wanted prompt's embedding. Raises Unavailable when the index does not answer."""

    keywords = ("key", "scope", "source")
    integers: tuple[str, ...] = ()
    floats = ("created",)

    def add(self, label: Label, vector: Vectors) -> None:
        """Keep a label, durably when this returns."""
        self.put((label.name, vector, asdict(label)))

    def of(self, key: str, scope: str) -> list[Label]:
        """All labels of a picture."""
        return list(self.read([equals("key", key), equals("scope", scope)]))

    def all(self) -> Iterator[Label]:
        """Every label, in no certain order."""
        return self.read([])

    def read(self, must: list[models.Condition]) -> Iterator[Label]:
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


def serving(like: Recipe, scope: str) -> list[models.Condition]:
    """What a picture must be to serve a recipe of other words: the same settings, painted in at least as many steps.

    Sampler, schedule and mode say how a picture is painted, not what it shows, and may differ.
    """
    enough = models.FieldCondition(key="steps", range=models.Range(gte=like.steps))
    return [equals("scope", scope), enough, *(equals(name, getattr(like, name)) for name in SETTINGS)]


def payload(picture: Picture) -> dict[str, Any]:
    """All fields of the recipe and the record, flat, and the wish's key."""
    return {**asdict(picture.recipe), **record(picture), "wish": picture.recipe.wish.key}


def as_picture(values: Any) -> Picture:
    """The opposite of `payload`."""
    names = {field.name for field in fields(Recipe)}
    return from_record(Recipe(**{name: value for name, value in values.items() if name in names}), values)


def open_index(url: str, collection: str, width: int, *, api_key: str | None = None) -> Index:
    """`memory:` or the http(s) URL of a Qdrant server; connects on first use."""
    return Index(open_client(url, api_key), collection, width)


def beside(index: Index, kind: type[P], name: str) -> P:
    """Another collection in the same place and of the same width."""
    return kind(index.client, f"{name}-{index.collection}", index.width)


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
