"""The embedded index as its clients see it: a real server process and the real QdrantClient."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import UUID, uuid4, uuid5

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from index_server import CannotStart, NotFound, open_collections
from index_server.app import API_VERSION, LARGEST_BODY, collections_of, create_app

KEY = "a key for tests"
ROOT = Path(__file__).parents[2]
VECTOR = models.VectorParams(size=4, distance=models.Distance.COSINE)
NAMESPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


@dataclass(frozen=True)
class Server:
    """A running index server."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def stop(self, how: signal.Signals) -> None:
        """Signal the process and wait until it ends."""
        self.process.send_signal(how)
        self.process.wait(20)


def run_server(folder: Path, port: int, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "index_server.app", "--port", str(port)]
    with (folder.parent / f"{folder.name}.log").open("ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stderr=output, start_new_session=True
        )


def start(folder: Path) -> Server:
    """Start the server for a folder and wait until it is healthy."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = run_server(folder, port, INDEX_SERVER_FOLDER=str(folder), INDEX_SERVER_KEY=KEY)
    server = Server(f"http://127.0.0.1:{port}", folder, process)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(f"{server.url}/healthz").close()
            return server
        except OSError:
            time.sleep(0.05)
    raise AssertionError((folder.parent / f"{folder.name}.log").read_text())


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    server = start(folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


@contextmanager
def connected(url: str, key: str | None = KEY) -> Iterator[QdrantClient]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
        client = QdrantClient(url=url, api_key=key, timeout=20, check_compatibility=False)
    with closing(client):
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("index") / "folder") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[QdrantClient]:
    with connected(server.url) as client:
        yield client


@pytest.fixture
def name(client: QdrantClient) -> Iterator[str]:
    """A collection of four dimensions."""
    name = f"test-{uuid4().hex}"
    client.create_collection(name, VECTOR)
    yield name
    client.delete_collection(name)


@pytest.fixture(scope="module")
def read_only(client: QdrantClient) -> str:
    """A collection with one point, which no test may change."""
    client.create_collection("read-only", VECTOR)
    client.upsert("read-only", [point(1, a=1)])
    return "read-only"


def point(number: int, /, **payload: Any) -> models.PointStruct:
    return models.PointStruct(id=number, vector=[1.0, number / 100, 0.0, 0.0], payload=payload)


def where(key: str, **test: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, **test)])


def ids(client: QdrantClient, name: str, query_filter: models.Filter | None = None) -> list[Any]:
    return [record.id for record in client.scroll(name, query_filter, limit=10_000, with_payload=False)[0]]


def refusal(call: Callable[[], object]) -> tuple[int | None, str]:
    with pytest.raises(UnexpectedResponse) as caught:
        call()
    return caught.value.status_code, caught.value.structured()["status"]["error"]


def post(server: Server, path: str, body: str) -> tuple[int, Any]:
    """Send a body as it is, however malformed."""
    request = Request(f"{server.url}{path}", body.encode(), {"api-key": KEY}, method="POST")
    try:
        with urlopen(request) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


# Collections


def test_collections_are_created_and_deleted(client: QdrantClient) -> None:
    assert client.create_collection("created", VECTOR, metadata={"embedder": "minilm"})
    assert client.collection_exists("created")
    assert "created" in [each.name for each in client.get_collections().collections]
    assert client.get_collection("created").config.params.vectors == VECTOR
    assert client.get_collection("created").config.metadata == {"embedder": "minilm"}
    assert client.delete_collection("created")
    assert not client.collection_exists("created")
    assert not client.delete_collection("created")


@pytest.mark.parametrize("datatype", ["float32", "float16", "turbo16", "turbo8"])
def test_vectors_are_stored_in_the_collections_datatype_and_survive_a_restart(tmp_path: Path, datatype: str) -> None:
    rng = random.Random(3)
    points = [models.PointStruct(id=n, vector=[rng.gauss(0, 1) for _ in range(128)]) for n in range(40)]
    params = models.VectorParams(size=128, distance=models.Distance.COSINE, datatype=models.Datatype(datatype))
    for start in range(2):
        with running(tmp_path / "index") as server, connected(server.url) as client:
            if start == 0:
                client.create_collection("kept", params)
                client.upsert("kept", points)
            assert client.get_collection("kept").config.params.vectors == params
            for point in points:
                best = client.query_points("kept", point.vector, limit=1).points[0]
                assert best.id == point.id and best.score == pytest.approx(1, abs=0.01)


def test_a_collection_cannot_be_created_twice(client: QdrantClient, name: str) -> None:
    assert refusal(lambda: client.create_collection(name, VECTOR)) == (
        409,
        f"Wrong input: Collection `{name}` already exists!",
    )


def test_an_unknown_collection_is_not_found(client: QdrantClient) -> None:
    assert refusal(lambda: client.count("nowhere")) == (404, "Not found: Collection `nowhere` doesn't exist!")


def test_payload_indexes_are_created_and_reported(client: QdrantClient, name: str) -> None:
    kinds = ["keyword", "integer", "float", "bool", "datetime", "uuid"]
    client.upsert(name, [point(1, integer=7)])
    for kind in kinds:
        client.create_payload_index(name, kind, models.PayloadSchemaType(kind))
    schema = client.get_collection(name).payload_schema
    assert {field: index.data_type.value for field, index in schema.items()} == {kind: kind for kind in kinds}
    assert schema["integer"].points == 1


def test_the_server_reports_a_version_that_the_client_accepts(client: QdrantClient) -> None:
    ours, theirs = (each.split(".")[:2] for each in (client.info().version, version("qdrant-client")))
    assert ours[0] == theirs[0] and abs(int(ours[1]) - int(theirs[1])) <= 1
    assert client.info().version == API_VERSION


# Points


def test_points_are_returned_as_they_were_stored(client: QdrantClient, name: str) -> None:
    point_id = str(uuid5(NAMESPACE, "a picture"))
    payload = {"text": "Ä 猫 \x00", "none": None, "list": [1, 2.5, True], "inner": {"key": "value"}}
    client.upsert(name, [models.PointStruct(id=point_id, vector=[0.6, 0.8, 0, 0], payload=payload), point(3)])
    records = client.retrieve(name, [point_id, 3, 4], with_vectors=True)
    assert [record.id for record in records] == [point_id, 3]
    assert records[0].payload == payload
    assert records[0].vector == pytest.approx([0.6, 0.8, 0, 0])
    assert client.retrieve(name, [3], with_payload=False)[0].payload is None
    assert client.retrieve(name, [point_id], with_payload=["none", "inner"])[0].payload == {
        "none": None,
        "inner": {"key": "value"},
    }


def test_payloads_are_merged_or_replaced(client: QdrantClient, name: str) -> None:
    client.upsert(name, [point(1, a=1, b=2), point(2, a=1)])
    client.set_payload(name, {"b": 3}, points=[1])
    client.set_payload(name, {"c": 4}, points=where("a", match=models.MatchValue(value=1)))
    assert [each.payload for each in client.retrieve(name, [1, 2])] == [{"a": 1, "b": 3, "c": 4}, {"a": 1, "c": 4}]
    client.overwrite_payload(name, {"d": 5}, points=[1])
    assert client.retrieve(name, [1])[0].payload == {"d": 5}
    assert refusal(lambda: client.set_payload(name, {"a": 1}, points=[99])) == (
        404,
        "Not found: No point with id 99",
    )


def test_points_are_deleted_by_id_and_by_filter(client: QdrantClient, name: str) -> None:
    client.upsert(name, [point(n, even=n % 2 == 0) for n in range(10)])
    client.delete(name, [1, 3, 77])
    client.delete(name, where("even", match=models.MatchValue(value=True)))
    assert ids(client, name) == [5, 7, 9]
    assert client.count(name).count == 3


def test_the_nearest_points_come_first(client: QdrantClient, name: str) -> None:
    client.upsert(name, [point(n, n=n) for n in range(10)])
    exact = models.SearchParams(exact=True, hnsw_ef=128)
    nearest = client.query_points(name, [1.0, 0.0, 0.0, 0.0], limit=3, offset=1, search_params=exact).points
    assert [(each.id, each.payload) for each in nearest] == [(1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3})]
    assert nearest[0].score == pytest.approx((1 + 0.01**2) ** -0.5)
    above = client.query_points(name, [1.0, 0.0, 0.0, 0.0], score_threshold=0.9999, with_payload=False).points
    assert [(each.id, each.payload) for each in above] == [(0, None), (1, None)]


FILTERS = [
    (where("tag", match=models.MatchValue(value="a")), [0, 3, 6, 9]),
    (where("n", match=models.MatchValue(value=4)), [4]),
    (where("even", match=models.MatchValue(value=True)), [0, 2, 4, 6, 8]),
    (where("even", match=models.MatchValue(value=1)), [9]),
    (where("tag", match=models.MatchAny(any=["a", "b"])), [0, 1, 3, 4, 6, 7, 9]),
    (where("n", match=models.MatchExcept(**{"except": [0, 1, 2]})), [3, 4, 5, 6, 7, 8, 9]),
    (where("n", range=models.Range(gt=2, lte=4)), [3, 4]),
    (where("day", range=models.DatetimeRange(gte=datetime(2026, 1, 9, tzinfo=UTC))), [8, 9]),
    (models.Filter(must=[models.HasIdCondition(has_id=[2, 5, 99])]), [2, 5]),
    (models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="odd"))]), [0, 2, 4, 6, 8]),
    (where("odd", is_empty=False), [1, 3, 5, 7, 9]),
    (where("odd[].deep", match=models.MatchValue(value=3)), [3]),
    (models.Filter(must=[where("n", range=models.Range(lt=3)), where("n", range=models.Range(gt=0))]), [1, 2]),
    (models.Filter(should=[models.HasIdCondition(has_id=[2]), where("n", range=models.Range(gt=7))]), [2, 8, 9]),
    (models.Filter(must_not=[where("n", range=models.Range(gt=1))]), [0, 1]),
    (models.Filter(), list(range(10))),
]


@pytest.mark.parametrize("indexed", [False, True])
def test_filters_find_their_points_with_and_without_an_index(client: QdrantClient, name: str, indexed: bool) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(10):
        odd = {"odd": [{"deep": n}]} if n % 2 else {}
        day = (first + timedelta(days=n)).isoformat()
        even = 1 if n == 9 else n % 2 == 0  # an integer is not a boolean
        client.upsert(name, [point(n, n=n, tag="abc"[n % 3], even=even, day=day, **odd)])
    if indexed:
        for field, kind in (("n", "integer"), ("tag", "keyword"), ("even", "bool"), ("day", "datetime")):
            client.create_payload_index(name, field, models.PayloadSchemaType(kind))
    assert [(query_filter, ids(client, name, query_filter)) for query_filter, _ in FILTERS] == FILTERS
    assert [client.count(name, query_filter).count for query_filter, _ in FILTERS] == [
        len(expected) for _, expected in FILTERS
    ]
    near = client.query_points(name, [1.0, 0.0, 0.0, 0.0], query_filter=FILTERS[0][0], limit=2).points
    assert [each.id for each in near] == [0, 3]


def test_scrolling_by_id_returns_every_point_once(client: QdrantClient, name: str) -> None:
    client.upsert(name, [point(n) for n in range(25)])
    seen, offset = [], None
    while not seen or offset is not None:
        page, offset = client.scroll(name, limit=10, offset=offset)
        seen += [record.id for record in page]
    assert seen == list(range(25))


@pytest.mark.parametrize("direction", [models.Direction.ASC, models.Direction.DESC])
@pytest.mark.parametrize("kind", ["integer", "float", "datetime"])
def test_scrolling_in_order_returns_every_point_once(
    client: QdrantClient, name: str, kind: str, direction: models.Direction
) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    value = {"integer": int, "float": lambda n: n / 2, "datetime": lambda n: (first + timedelta(n)).isoformat()}
    rng = random.Random(1)
    points = [point(n, key=value[kind](rng.randrange(8))) for n in range(40)]
    client.create_payload_index(name, "key", models.PayloadSchemaType(kind))
    client.upsert(name, points)
    seen: list[models.Record] = []
    start: Any = None
    while True:
        at_start = [each.id for each in seen if each.order_value == start]
        order = models.OrderBy(key="key", direction=direction, start_from=start)
        unseen = models.Filter(must_not=[models.HasIdCondition(has_id=at_start)])
        page, offset = client.scroll(name, unseen, limit=7, order_by=order)
        assert offset is None
        if not page:
            break
        seen += page
        start = page[-1].order_value
    assert sorted(each.id for each in seen) == [each.id for each in points]
    values = [each.payload["key"] for each in seen]
    assert values == sorted(values, reverse=direction is models.Direction.DESC)


# Refusals

UNSUPPORTED: list[tuple[str, Callable[[QdrantClient, str], object]]] = [
    ("facet", lambda c, name: c.facet(name, "key")),
    ("PATCH", lambda c, name: c.update_collection(name, metadata={})),
    ("Manhattan", lambda c, _: c.create_collection("x", models.VectorParams(size=4, distance="Manhattan"))),
    ("uint8", lambda c, _: c.create_collection("x", VECTOR.model_copy(update={"datatype": models.Datatype.UINT8}))),
    ("named vectors", lambda c, _: c.create_collection("x", {"text": VECTOR})),
    ("on_disk", lambda c, _: c.create_collection("x", VECTOR.model_copy(update={"on_disk": True}))),
    ("shard_number", lambda c, _: c.create_collection("x", VECTOR, shard_number=2)),
    ("collection name", lambda c, _: c.create_collection(".half-x", VECTOR)),
    ("geo", lambda c, name: c.create_payload_index(name, "key", models.PayloadSchemaType.GEO)),
    ("is_tenant", lambda c, name: c.create_payload_index(name, "k", {"type": "keyword", "is_tenant": True})),
    ("batch", lambda c, name: c.upsert(name, models.Batch(ids=[1], vectors=[[0.0] * 4]))),
    ("update_filter", lambda c, name: c.upsert(name, [point(1)], update_filter=where("a", is_empty=True))),
    ("expected dim: 4, got 3", lambda c, name: c.upsert(name, [models.PointStruct(id=1, vector=[1.0] * 3)])),
    ("expected dim: 4, got 3", lambda c, name: c.query_points(name, [1.0] * 3)),
    ("point ID", lambda c, name: c.retrieve(name, ["not a uuid"])),
    ("point ID", lambda c, name: c.retrieve(name, [-1])),
    ("prefetch", lambda c, name: c.query_points(name, [1.0] * 4, prefetch=models.Prefetch(limit=1))),
    ("using", lambda c, name: c.query_points(name, [1.0] * 4, using="text")),
    ("recommend", lambda c, name: c.query_points(name, models.RecommendQuery(recommend={"positive": [1]}))),
    ("nearest points to a vector", lambda c, name: c.query_points(name, 1)),
    ("nearest points to a vector", lambda c, name: c.query_points(name)),
    ("indexed_only", lambda c, name: c.query_points(name, [1.0] * 4, search_params={"indexed_only": True})),
    ("with_vector", lambda c, name: c.query_points(name, [1.0] * 4, with_vectors=["text"])),
    ("limit", lambda c, name: c.query_points(name, [1.0] * 4, limit=0)),
    ("offset", lambda c, name: c.scroll(name, offset=1, order_by="n")),
    ("No range index", lambda c, name: c.scroll(name, order_by="n")),
    ("shard_key", lambda c, name: c.count(name, shard_key_selector="a")),
    ("values_count", lambda c, name: c.count(name, where("a", values_count=models.ValuesCount(gt=1)))),
    ("is_null", lambda c, name: c.count(name, where("a", is_null=True))),
    ("match and range", lambda c, n: c.count(n, where("a", match={"value": 1}, range=models.Range(gt=1)))),
    ("none", lambda c, name: c.count(name, where("a"))),
    ("text", lambda c, name: c.count(name, where("a", match=models.MatchText(text="word")))),
    ("JSON path", lambda c, name: c.count(name, where("a[", is_empty=True))),
    (
        "nested",
        lambda c, name: c.count(
            name, models.Filter(must=[models.NestedCondition(nested={"key": "a", "filter": models.Filter()})])
        ),
    ),
    (
        "min_should",
        lambda c, name: c.count(name, models.Filter(min_should={"conditions": [], "min_count": 1})),
    ),
]


@pytest.mark.parametrize(("word", "call"), UNSUPPORTED)
def test_an_unsupported_request_is_refused_by_name(
    client: QdrantClient, read_only: str, word: str, call: Callable[[QdrantClient, str], object]
) -> None:
    status, message = refusal(lambda: call(client, read_only))
    assert status == 400
    assert word in message


def test_an_unknown_argument_is_refused_by_name(server: Server, read_only: str) -> None:
    status, answer = post(server, f"/collections/{read_only}/points/count?dry_run=true", "{}")
    assert (status, "dry_run" in answer["status"]["error"]) == (400, True)


HOSTILE = {
    "a filter that would overflow the engine's stack": (
        "delete",
        '{"filter":' + '{"must":[' * 400 + '{"has_id":[1]}' + "]}" * 400 + "}",
    ),
    "JSON too deep for Python": ("count", "[" * 200_000),
    "a payload that the engine's log could not read back": (
        "payload",
        '{"points":[1],"payload":' + '{"a":' * 150 + "1" + "}" * 151,
    ),
    "a vector beyond float32": ("query", '{"query":[1e300,0,0,0]}'),
    "a vector of infinity": ("query", '{"query":[1e999,0,0,0]}'),
    "NaN instead of a number": ("query", '{"query":[1,0,0,0],"score_threshold":NaN}'),
    "a boolean in a vector": ("query", '{"query":[true,0,0,0]}'),
    "infinity in a payload": ("payload", '{"points":[1],"payload":{"a":1e999}}'),
    "half of a surrogate pair": ("payload", '{"points":[1],"payload":{"a":"\\ud800"}}'),
    "a boolean for an id": ("delete", '{"points":[true]}'),
    "two selections": ("delete", '{"points":[1],"filter":{}}'),
    "no selection": ("delete", "{}"),
    "a list instead of an object": ("count", "[]"),
    "truncated JSON": ("count", "{"),
}


@pytest.mark.parametrize(("path", "body"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_refused_and_harms_nothing(
    server: Server, client: QdrantClient, read_only: str, path: str, body: str
) -> None:
    status, answer = post(server, f"/collections/{read_only}/points/{path}", body)
    assert (status, answer["time"] < 1) == (400, True), answer
    assert [each.payload for each in client.scroll(read_only)[0]] == [{"a": 1}]


@pytest.mark.parametrize("key", ["wrong", "", None])
def test_without_the_key_every_request_is_refused(server: Server, key: str | None) -> None:
    with connected(server.url, key) as client:
        assert refusal(client.get_collections)[0] == 401
        assert refusal(lambda: client.count("nowhere"))[0] == 401
        assert refusal(lambda: client.facet("nowhere", "key"))[0] == 401


@pytest.mark.parametrize("path", ["/", "/healthz", "/livez", "/readyz"])
def test_health_needs_no_key(server: Server, path: str) -> None:
    with urlopen(f"{server.url}{path}") as response:
        assert response.status == 200


def test_a_body_over_the_size_limit_is_refused(client: QdrantClient, read_only: str) -> None:
    status, message = refusal(lambda: client.upsert(read_only, [point(1, text="a" * LARGEST_BODY)]))
    assert (status, "limit" in message) == (413, True)


def test_a_panic_of_the_engine_fails_only_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("index_server.request_bodies.MAX_PAYLOAD_DEPTH", 200)
    app = create_app(tmp_path, KEY)
    send = partial(app.test_client().open, method="POST", headers={"api-key": KEY})
    collections_of(app).create("frail", {"vectors": {"size": 1, "distance": "Dot"}})
    deep = json.loads('{"a":' * 150 + "1" + "}" * 150)
    collections_of(app).get("frail").upsert({"points": [{"id": 1, "vector": [1], "payload": deep}]})
    failed = send("/collections/frail/points/count", data='{"filter":{"must":[{"key":"a","is_empty":true}]}}')
    assert (failed.status_code, "Service internal error" in failed.json["status"]["error"]) == (500, True)
    assert "POST /collections/frail/points/count" in caplog.text
    assert send("/collections/frail/points/count", data="{}").json["result"] == {"count": 1}
    collections_of(app).close()


def test_an_unexpected_error_is_answered_in_the_usual_envelope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(tmp_path, KEY)
    monkeypatch.setattr(collections_of(app), "names", lambda: 1 / 0)
    failed = app.test_client().get("/collections", headers={"api-key": KEY})
    assert (failed.status_code, failed.json["status"]) == (500, {"error": "Service internal error"})
    collections_of(app).close()


# Ownership and durability


def test_a_folder_has_one_owner(server: Server) -> None:
    with pytest.raises(CannotStart, match=f"{server.folder} is in use by another index server \\(pid \\d+\\)"):
        open_collections(server.folder, lock_seconds=0.2)


def test_a_server_without_settings_does_not_start(tmp_path: Path) -> None:
    process = run_server(tmp_path / "folder", 0, INDEX_SERVER_FOLDER="", INDEX_SERVER_KEY="")
    assert process.wait(20) != 0
    assert "set INDEX_SERVER_FOLDER" in (tmp_path / "folder.log").read_text()


def write_until_killed(server: Server, acknowledged: list[int]) -> None:
    with connected(server.url) as client:
        try:
            for number in range(100_000):
                client.upsert("kept", [point(number, n=number)])
                acknowledged.append(number)
        except ResponseHandlingException:
            return


def test_every_acknowledged_write_survives_a_kill(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    with running(tmp_path / "folder") as server, connected(server.url) as client:
        client.create_collection("kept", VECTOR)
        client.create_payload_index("kept", "n", models.PayloadSchemaType.INTEGER)
        writer = Thread(target=write_until_killed, args=(server, acknowledged))
        writer.start()
        while len(acknowledged) < 300:
            time.sleep(0.01)
        client.delete("kept", [0, 1])
        client.set_payload("kept", {"n": -1}, points=[2])
        server.stop(signal.SIGKILL)
        writer.join()
    with running(tmp_path / "folder") as server, connected(server.url) as client:
        assert set(acknowledged) - set(ids(client, "kept")) == {0, 1}
        assert ids(client, "kept", where("n", match=models.MatchValue(value=-1))) == [2]
        assert client.get_collection("kept").payload_schema["n"].data_type.value == "integer"


def create_until_killed(server: Server, acknowledged: list[str]) -> None:
    with connected(server.url) as client:
        try:
            for number in range(1000):
                client.create_collection(f"created-{number}", VECTOR)
                acknowledged.append(f"created-{number}")
        except ResponseHandlingException:
            return


def test_a_collection_half_created_when_the_server_was_killed_is_deleted(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    (tmp_path / "folder" / ".half-left" / "shard").mkdir(parents=True)
    with running(tmp_path / "folder") as server:
        creator = Thread(target=create_until_killed, args=(server, acknowledged))
        creator.start()
        while len(acknowledged) < 2:
            time.sleep(0.01)
        time.sleep(random.random() / 10)
        server.stop(signal.SIGKILL)
        creator.join()
    with running(tmp_path / "folder") as server, connected(server.url) as client:
        names = {each.name for each in client.get_collections().collections}
        assert set(acknowledged) <= names
        assert {path.name for path in server.folder.iterdir()} == names | {".lock"}
        assert [client.count(name).count for name in names] == [0] * len(names)


def test_a_server_flushes_everything_before_it_stops(tmp_path: Path) -> None:
    with running(tmp_path / "folder") as server, connected(server.url) as client:
        client.create_collection("kept", VECTOR)
        client.upsert("kept", [point(1)])
        server.stop(signal.SIGTERM)
    shutil.rmtree(tmp_path / "folder" / "kept" / "shard" / "wal")
    collections = open_collections(tmp_path / "folder", lock_seconds=0)
    assert collections.get("kept").count({}) == {"count": 1}
    collections.close()


def test_a_failing_flush_is_reported_until_it_succeeds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(tmp_path / "folder", KEY, flush_seconds=0.02)
    collections = collections_of(app)
    collections.create("kept", {"vectors": {"size": 1, "distance": "Dot"}})
    collections.get("kept").upsert({"points": [{"id": 1, "vector": [1]}]})
    collections.get("kept").flush()
    segments = tmp_path / "folder" / "kept" / "shard" / "segments"
    segments.rename(tmp_path / "away")
    collections.get("kept").delete_points({"points": [1]})
    assert wait_for_status(app, 503) == "cannot flush to disk, see the log: kept"
    assert re.search("collection kept cannot be flushed to disk: .*Service internal error", caplog.text)
    assert collections.get("kept").info()["status"] == "red"
    (tmp_path / "away").rename(segments)
    assert wait_for_status(app, 200) == "all shards are ready"
    collections.close()


def wait_for_status(app: Any, status: int) -> str:
    deadline = time.monotonic() + 10
    while (response := app.test_client().get("/readyz")).status_code != status:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.01)
    return str(response.text)


# Concurrency


def in_threads(*actions: Callable[[], object]) -> None:
    """Run all actions at once; raise the first error."""
    errors: list[BaseException] = []

    def run(action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's thread
            errors.append(error)

    threads = [Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_concurrent_writers_and_readers_lose_nothing(client: QdrantClient, name: str) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 50):
            client.upsert(name, [point(number, n=number)])

    def read() -> None:
        for _ in range(50):
            points = client.query_points(name, [1.0, 0.0, 0.0, 0.0], limit=20).points
            assert [each.payload for each in points] == [{"n": each.id} for each in points]

    in_threads(*[partial(write, first) for first in range(0, 200, 50)], read, read)
    assert ids(client, name) == list(range(200))


def test_readers_of_a_deleted_collection_get_404(client: QdrantClient) -> None:
    client.create_collection("leaving", VECTOR)

    def write_and_read() -> None:
        with pytest.raises(UnexpectedResponse, match="Collection `leaving` doesn"):
            while True:
                client.upsert("leaving", [point(1)])
                client.query_points("leaving", [1.0, 0.0, 0.0, 0.0])

    def delete() -> None:
        time.sleep(0.2)
        client.delete_collection("leaving")

    in_threads(write_and_read, write_and_read, delete)
    assert not client.collection_exists("leaving")


def test_a_collection_deleted_during_a_request_is_not_found(tmp_path: Path) -> None:
    with closing(open_collections(tmp_path)) as collections:
        collections.create("leaving", {"vectors": {"size": 1, "distance": "Dot"}})
        leaving = collections.get("leaving")
        assert collections.delete("leaving")
        leaving.flush()
        with pytest.raises(NotFound, match="Collection `leaving` doesn't exist"):
            leaving.count({})


# Agreement with Qdrant's in-memory client


def random_point(rng: random.Random, number: int) -> models.PointStruct:
    payload = {
        "tag": rng.choice("abc"),
        "n": rng.randrange(10),
        "x": round(rng.random(), 3),
        "yes": rng.random() < 0.5,
    }
    del payload[rng.choice(list(payload))]
    vector = [rng.gauss(0, 1) for _ in range(16)]
    return models.PointStruct(id=str(uuid5(NAMESPACE, str(number))), vector=vector, payload=payload)


def random_filter(rng: random.Random) -> models.Filter:
    tag, n, x = rng.choice("abc"), rng.randrange(10), rng.random()
    tests: list[Any] = [
        models.FieldCondition(key="tag", match=models.MatchValue(value=tag)),
        models.FieldCondition(key="tag", match=models.MatchAny(any=[tag, "c"])),
        models.FieldCondition(key="n", match=models.MatchExcept(**{"except": [n, 3]})),
        models.FieldCondition(key="n", range=models.Range(gte=n)),
        models.FieldCondition(key="x", range=models.Range(lt=x)),
        models.FieldCondition(key="yes", match=models.MatchValue(value=rng.random() < 0.5)),
        models.IsEmptyCondition(is_empty=models.PayloadField(key="tag")),
        models.HasIdCondition(has_id=[str(uuid5(NAMESPACE, str(rng.randrange(60)))) for _ in range(30)]),
    ]
    rng.shuffle(tests)
    inner = models.Filter(must=tests[3:4], must_not=tests[4:5])
    return models.Filter(must=tests[:1], should=[*tests[1:2], inner], must_not=tests[2:3])


def change(both: list[QdrantClient], name: str, rng: random.Random) -> None:
    point = random_point(rng, rng.randrange(60))
    action, selection = rng.randrange(10), random_filter(rng)
    for client in both:
        if action < 7:
            client.upsert(name, [point])
        elif action == 7:
            client.set_payload(name, {"n": 3}, points=selection)
        elif action == 8:
            client.overwrite_payload(name, {"tag": "c"}, points=selection)
        else:
            client.delete(name, selection)


@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid"])
def test_random_operations_give_the_same_results_as_the_in_memory_client(client: QdrantClient, distance: str) -> None:
    rng, name = random.Random(7), f"random-{distance}"
    points = [random_point(rng, number) for number in range(60)]
    with closing(QdrantClient(":memory:")) as memory:
        both = [client, memory]
        for each in both:
            each.create_collection(name, models.VectorParams(size=16, distance=models.Distance(distance)))
            each.upsert(name, points)
        for _ in range(30):
            change(both, name, rng)
            query_filter, vector = random_filter(rng), [rng.gauss(0, 1) for _ in range(16)]
            assert sorted(ids(client, name, query_filter)) == sorted(ids(memory, name, query_filter))
            ours, theirs = (each.query_points(name, vector, query_filter=query_filter).points for each in both)
            assert [(a.id, a.payload) for a in ours] == [(b.id, b.payload) for b in theirs]
            assert [a.score for a in ours] == pytest.approx([b.score for b in theirs], abs=1e-5)
