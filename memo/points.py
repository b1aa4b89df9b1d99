"""Prompts as points of a Qdrant collection: stored, searched by vector and filtered by payload.

One client serves all cases: a Qdrant server, the embedded index server (which speaks the same REST API), or an index
in memory for tests. A collection is created on first use, so that a process can start while the index is down.
"""

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from .errors import BadSetup, OtherEmbedder, Unavailable
from .qdrant_rest import API_KEY, Json, find_in_memory, open_rest
from .recipe import Recipe

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float32]  # (dimension,)
Conditions = list[models.Condition]
REINDEX = "stop web and workers, then run `memoaized reindex`, which embeds everything again"
DATATYPE = models.Datatype.TURBO8  # in bench.index a quarter of the memory and half the time of float32
PAGE = 256  # points read in one request
QUERY_DIGITS = 5  # decimals of a query's numbers: all digits would take 1 ms more, and stored vectors have eight bits
SEARCH_EF = 256  # breadth of the search in a server's graph: bench.index finds 995 of the 1,000 nearest
TIMEOUT = 5  # seconds for one request
SETTINGS = ("model", "revision", "adapter", "negative_prompt", "width", "height", "guidance_scale")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A point whose prompt is near a searched one: a kept picture or a painting under way."""

    key: str  # 32 hex digits, of the picture or the painting
    cosine: float
    payload: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """The prompt of the point."""
        return str(self.payload["prompt"])


class Points:
    """A collection of prompts, created on first use. Every method raises Unavailable when the index is down."""

    keywords: tuple[str, ...] = ("scope", "model", "wish_key", "settings_key", "mode")  # payload fields to filter by
    integers: tuple[str, ...] = ("steps",)
    floats: tuple[str, ...] = ("created",)

    def __init__(self, client: QdrantClient, collection: str, dimension: int) -> None:
        self.client, self.collection, self.dimension = client, collection, dimension
        self.rest = open_rest(client)
        self.is_created, self.can_flush = False, True
        self.lock = threading.Lock()

    def upsert(self, *points: tuple[str, Vector, dict[str, Any]]) -> None:
        """Insert or replace points of (32 hex digits, vector, payload); they can be found when this returns."""
        bodies = [{"id": str(UUID(id)), "vector": v.tolist(), "payload": payload} for id, v, payload in points]
        with self.created_collection():
            if self.rest:
                self.rest.send("PUT", self.collection, "?wait=true", {"points": bodies})
            else:
                self.client.upsert(self.collection, [models.PointStruct(**body) for body in bodies], wait=True)

    def find_candidates(
        self, vector: Vector, recipe: Recipe, scope: str, limit: int, seen: Collection[str] = ()
    ) -> list[Neighbour]:
        """The points nearest to a vector that can serve a recipe, best first, without those already seen.

        A point can serve a recipe if it has the same scope and settings, at least as many steps, and the mode
        `reproducible` if the recipe has it. The steps are a condition only in a second query, made if the first one
        finds a point with too few: at 100,000 points a second condition costs three times the search itself.
        """
        same_settings = [field_equals("settings_key", settings_key(recipe, scope)), *same_mode(recipe)]
        points = self.query(vector, same_settings, limit, seen)
        if any(point["payload"]["steps"] < recipe.steps for point in points):
            enough_steps = models.FieldCondition(key="steps", range=models.Range(gte=recipe.steps))
            points = self.query(vector, [*same_settings, enough_steps], limit, seen)
        return [neighbour_of(point) for point in points]

    def query(self, vector: Vector, must: Conditions, limit: int, seen: Collection[str]) -> list[Json]:
        """The points nearest to a vector that fulfil all conditions, best first."""
        body = {"query": np.round(vector.astype(float), QUERY_DIGITS).tolist(), "params": {"hnsw_ef": SEARCH_EF}}
        return self.find_points("query", body, models.Filter(must=must, must_not=has_id(seen)), limit)

    def find_points(self, endpoint: str, body: Json, where: models.Filter, limit: int) -> list[Json]:
        """The points that Qdrant's `query` or `scroll` finds, with whole payloads: parts take as long to read."""
        body = body | {"filter": where.model_dump(mode="json", exclude_none=True)}
        body |= {"limit": limit, "with_payload": True}
        with self.created_collection():
            if self.rest:
                return self.rest(self.collection, endpoint, body)
            return find_in_memory(self.client, self.collection, endpoint, body)

    def remove(self, id: str) -> None:
        """Remove a point; it is no error if there is none."""
        with self.created_collection():
            if self.rest:
                self.rest.send("POST", self.collection, "/delete?wait=true", {"points": [str(UUID(id))]})
            else:
                self.client.delete(self.collection, [str(UUID(id))], wait=True)

    def check(self) -> None:
        """Search for any point, and ask a server whether it is ready, which it is not while it cannot write."""
        self.query(np.eye(1, self.dimension, dtype=np.float32)[0], [], 1, ())
        if self.rest:
            self.rest.check_ready()

    def count(self) -> int:
        """The number of points."""
        with self.created_collection():
            return self.client.count(self.collection, exact=True).count

    def count_by_init_image(self, init_image: str, scope: str, ignored: Collection[str] = ()) -> int:
        """The number of points in a scope that start from an initial picture, except those with an id in `ignored`.

        The field has no index, so that this reads all points.
        """
        must = [field_equals("scope", scope), field_equals("init_image", init_image)]
        with self.created_collection():
            where = models.Filter(must=must, must_not=has_id(ignored))
            return self.client.count(self.collection, where, exact=True).count

    def known(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that have a point."""
        with self.created_collection():
            where = [str(UUID(id)) for id in ids]
            points = self.client.retrieve(self.collection, where, with_payload=False) if where else []
        return {UUID(str(point.id)).hex for point in points}

    def flush(self) -> bool:
        """Write all points to the server's disk; False if this server cannot be asked to, as Qdrant's own cannot."""
        if not self.rest or not self.can_flush:
            return self.can_flush
        try:
            with self.created_collection():
                self.rest.send("POST", self.collection, "/flush", {})
        except Unavailable as error:
            if not is_unknown(error):
                raise
            with translate_errors():
                self.is_created = self.client.collection_exists(self.collection)
            self.can_flush = not self.is_created  # it is the request that the server does not know
            return False
        return True

    def keys(self) -> Iterator[str]:
        """The ids of all points, 32 hex digits each, in no particular order."""
        offset: Any = None
        while True:
            with self.created_collection():
                points, offset = self.client.scroll(self.collection, limit=PAGE, offset=offset, with_payload=False)
            yield from (UUID(str(point.id)).hex for point in points)
            if offset is None:
                return

    @contextlib.contextmanager
    def created_collection(self) -> Iterator[None]:
        """For requests to the collection: creates it before the first one, and translates the client's errors."""
        with translate_errors():
            with self.lock:
                if not self.is_created:
                    self.create()
                    self.is_created = True
            try:
                yield
            except UnexpectedResponse as error:
                self.is_created = self.is_created and error.status_code != 404  # dropped: create it again next time
                raise

    def create(self) -> None:
        """Create the collection and its payload indexes unless another process has; raises OtherEmbedder."""
        if not self.client.collection_exists(self.collection):
            vectors = models.VectorParams(size=self.dimension, distance=models.Distance.COSINE, datatype=DATATYPE)
            with ignore_already_exists():
                self.client.create_collection(self.collection, vectors_config=vectors)
        elif (dimension := dimension_of(self.client, self.collection)) != self.dimension:
            raise OtherEmbedder(
                f"the collection {self.collection!r} holds vectors of dimension {dimension}, but the embedder now has"
                f" dimension {self.dimension}: {REINDEX}"
            )
        types = models.PayloadSchemaType
        indexed = ((self.keywords, types.KEYWORD), (self.integers, types.INTEGER), (self.floats, types.FLOAT))
        for fields, kind in indexed:
            for field in fields:
                self.client.create_payload_index(self.collection, field, field_schema=kind, wait=True)

    def recreate(self) -> None:
        """Create the collection, whichever embedder is in use; one of another dimension is dropped first."""
        with translate_errors():
            if self.client.collection_exists(self.collection):
                if dimension_of(self.client, self.collection) != self.dimension:
                    self.client.delete_collection(self.collection)
            Points.create(self)
            self.is_created = True


def dimension_of(client: QdrantClient, collection: str) -> int:
    """The dimension of a collection's vectors; 0 for named or sparse vectors, which we never create."""
    vectors = client.get_collection(collection).config.params.vectors
    return vectors.size if isinstance(vectors, models.VectorParams) else 0


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the client's errors as Unavailable."""
    try:
        yield
    except ResponseHandlingException as error:
        raise Unavailable(f"the index does not answer: {error}") from error
    except UnexpectedResponse as error:
        log.warning("the index refused a request: %s", error)
        raise Unavailable(f"the index refused the request: it answered {error.status_code}") from error
    except ApiException as error:
        raise Unavailable(f"the index failed: {error}") from error


@contextlib.contextmanager
def ignore_already_exists() -> Iterator[None]:
    """Ignore that another process created the collection first."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code not in (400, 409) or b"already exists" not in error.content:
            raise


def field_equals(name: str, value: Any) -> models.Condition:
    """The condition that a payload field has a value."""
    if isinstance(value, float):
        return models.FieldCondition(key=name, range=models.Range(gte=value, lte=value))
    return models.FieldCondition(key=name, match=models.MatchValue(value=value))


def has_id(ids: Collection[str]) -> Conditions | None:
    """The condition that a point has one of these ids; None for no ids."""
    return [models.HasIdCondition(has_id=[str(UUID(id)) for id in ids])] if ids else None


def is_unknown(error: Exception) -> bool:
    """Whether a server answered that it does not know what was asked for."""
    return isinstance(error.__cause__, UnexpectedResponse) and error.__cause__.status_code in (404, 405)


def settings_key(recipe: Recipe, scope: str) -> str:
    """32 hex digits of the scope and all settings that a picture must share with a recipe to serve it.

    Sampler and schedule decide how a picture is painted, not what it shows, and may differ. So may the mode, except
    that only a reproducible picture serves a reproducible recipe: see `same_mode`.
    """
    init_image = [recipe.init_image, recipe.strength] if recipe.init_image else []
    values = json.dumps([scope, *(getattr(recipe, name) for name in SETTINGS), *init_image])
    return hashlib.blake2b(values.encode(), digest_size=16).hexdigest()


def same_mode(recipe: Recipe) -> Conditions:
    """The condition that a point is reproducible if the recipe is; a reproducible picture serves every recipe."""
    return [field_equals("mode", recipe.mode)] if recipe.mode == "reproducible" else []


def neighbour_of(point: Json) -> Neighbour:
    """A point as a neighbour, its cosine clipped to 1, which vectors stored in eight bits can exceed."""
    return Neighbour(point["id"].replace("-", ""), min(1.0, point["score"]), point["payload"])


def open_client(url: str, api_key: str | None) -> QdrantClient:
    """The client for `memory:` or an http(s) URL; connects on first use. Raises BadSetup for other URLs."""
    if url == "memory:":
        return QdrantClient(location=":memory:")
    if url.startswith(("http://", "https://")):
        port = 443 if url.startswith("https://") else 6333  # if the URL names none
        # Given as `api_key`, it would warn of a key over plain http, which is meant for private networks.
        headers = {API_KEY: api_key} if api_key else {}
        return QdrantClient(url=url, port=port, headers=headers, timeout=TIMEOUT, check_compatibility=False)
    raise BadSetup(f"the index {url!r} is neither memory: nor an http URL of a Qdrant server")
