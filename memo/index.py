"""Qdrant, and nothing else that knows of Qdrant.

One client for all: a Qdrant server, the embedded index server (which speaks the same REST), or in memory for
tests. The collection is made on first use, so that a process starts while the index is still down.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any
from uuid import UUID

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from .embed import Vectors
from .errors import BadSetup, Unavailable
from .picture import Picture, from_record, record
from .recipe import Recipe

TIMEOUT = 5  # seconds for one request
KEYWORDS = ("scope", "model", "revision", "adapter", "negative_prompt", "sampler", "schedule", "mode", "wish")
INTEGERS = ("width", "height", "steps")
FLOATS = ("created", "guidance_scale")
SETTINGS = tuple(field.name for field in fields(Recipe) if field.name not in ("prompt", "seed"))


class Index:
    """Pictures as points: id = key, vector = the prompt's embedding, payload = recipe and record.

    Every method raises Unavailable when the index does not answer.
    """

    def __init__(self, client: QdrantClient, collection: str, width: int) -> None:
        self.client, self.collection, self.width = client, collection, width
        self.made = False
        self.lock = threading.Lock()

    def add(self, picture: Picture, vector: Vectors) -> None:
        """Insert or replace the picture's point; searchable when this returns. `vector`: (width,)."""
        point = models.PointStruct(id=str(UUID(picture.key)), vector=vector.tolist(), payload=payload(picture))
        with self.ready():
            self.client.upsert(self.collection, [point], wait=True)

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
        """Cosine and picture of the nearest prompts with the same scope and settings, best first."""
        must = [equals("scope", scope), *(equals(name, getattr(like, name)) for name in SETTINGS)]
        with self.ready():
            answer = self.client.query_points(
                self.collection,
                query=vector.tolist(),
                query_filter=models.Filter(must=must),
                search_params=models.SearchParams(exact=True),
                limit=limit,
            )
        return [(point.score, as_picture(point.payload)) for point in answer.points]

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

    def remove(self, key: str) -> None:
        """Forget the point; one that does not exist is no error."""
        with self.ready():
            self.client.delete(self.collection, [str(UUID(key))], wait=True)

    def count(self) -> int:
        """How many pictures are indexed."""
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
        for names, kind in ((KEYWORDS, kinds.KEYWORD), (INTEGERS, kinds.INTEGER), (FLOATS, kinds.FLOAT)):
            for name in names:
                self.client.create_payload_index(self.collection, name, field_schema=kind, wait=True)


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


def payload(picture: Picture) -> dict[str, Any]:
    """All fields of the recipe and the record, flat, and the wish's key."""
    return {**asdict(picture.recipe), **record(picture), "wish": picture.recipe.wish.key}


def as_picture(values: Any) -> Picture:
    """The opposite of `payload`."""
    names = {field.name for field in fields(Recipe)}
    return from_record(Recipe(**{name: value for name, value in values.items() if name in names}), values)


def open_index(url: str, collection: str, width: int, *, api_key: str | None = None) -> Index:
    """`memory:` or the http(s) URL of a Qdrant server; connects on first use."""
    if url == "memory:":
        return Index(quiet_client(location=":memory:"), collection, width)
    if url.startswith(("http://", "https://")):
        client = quiet_client(url=url, api_key=api_key, timeout=TIMEOUT, check_compatibility=False)
        return Index(client, collection, width)
    raise BadSetup(f"the index {url!r} is neither memory: nor an http URL of a Qdrant server")


def quiet_client(**options: Any) -> QdrantClient:
    """A client without its warning on plain http with a key: it stays on a private network."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return QdrantClient(**options)
