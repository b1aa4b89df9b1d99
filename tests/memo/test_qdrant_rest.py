"""Our client of Qdrant's REST API: URLs, persistent connections and bad answers."""

import json
import re
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from memo import Unavailable
from memo.points import open_client
from memo.qdrant_rest import RestClient, open_rest

POINTS = json.dumps({"result": {"points": [{"id": "a", "score": 0.5, "payload": {}}]}})


def answer(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}"


def request(connection):
    """Read one request, head and body."""
    data = b""
    while not (head := re.search(rb"content-length: (\d+)(?s:.*?)\r\n\r\n", data, re.IGNORECASE)) or (
        len(data) < head.end() + int(head[1])
    ):
        part = connection.recv(65536)
        assert part, data
        data += part
    return data.decode()


@contextmanager
def server(*connections):
    """Serve a list of answers per connection, where None hangs up; yields the port and the requests received."""
    listener, requests = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        for answers in connections:
            connection, _ = listener.accept()
            with connection:
                for reply in answers:
                    requests.append(request(connection))
                    if reply is None:
                        break
                    connection.sendall(reply.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], requests
    thread.join(5)
    listener.close()


def rest_client(port, path=""):
    return RestClient(f"http://127.0.0.1:{port}{path}", 1, "secret", 2)


def test_a_query_goes_to_the_collection_with_the_api_key():
    with server([answer(POINTS)]) as (port, requests):
        points = rest_client(port, "/behind/")("a b", "query", {"limit": 1})
    assert points == [{"id": "a", "score": 0.5, "payload": {}}]
    assert requests[0].startswith("POST /behind/collections/a%20b/points/query HTTP/1.1")
    assert "api-key: secret" in requests[0] and requests[0].endswith('{"limit": 1}')


def test_a_connection_is_reused():
    with server([answer(POINTS), answer(POINTS)]) as (port, requests):
        rest = rest_client(port)
        rest("a", "query", {}), rest("a", "query", {})
    assert len(requests) == 2


def test_a_connection_that_the_server_closed_is_replaced():
    with server([answer(POINTS), None], [answer(POINTS)]) as (port, requests):
        rest = rest_client(port)
        rest("a", "query", {})
        assert rest("a", "query", {})
    assert len(requests) == 3


def test_a_server_that_hangs_up_twice_is_unavailable():
    with server([None], [None]) as (port, _), pytest.raises(Unavailable, match="does not answer"):
        rest_client(port)("a", "query", {})


@pytest.mark.parametrize("body", ["<html>", "[]", '{"result": {}}', '{"result": null}'])
def test_an_answer_without_points_is_unavailable(body):
    with server([answer(body)]) as (port, _), pytest.raises(Unavailable):
        rest_client(port)("a", "query", {})


def test_a_refusal_raises_the_same_error_as_qdrant_client():
    with server([answer('{"status": {"error": "no"}}', "404 Not Found")]) as (port, _):
        with pytest.raises(UnexpectedResponse) as error:
            rest_client(port)("a", "query", {})
    assert error.value.status_code == 404 and b"no" in error.value.content


def test_an_unreachable_server_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable):
        rest_client(port)("a", "query", {})


def test_the_rest_client_uses_the_same_server_as_qdrant_client():
    options = {"timeout": 3, "check_compatibility": False}
    assert open_rest(QdrantClient(url="http://127.0.0.1", **options)).pool.port == 6333
    with_port = open_rest(QdrantClient(url="https://127.0.0.1:7/x", **options))
    assert (with_port.pool.scheme, with_port.pool.port, with_port.path) == ("https", 7, "/x")
    assert open_rest(QdrantClient(location=":memory:")) is None


def test_a_key_over_plain_http_gives_no_warning_in_any_thread():
    """A filter of warnings would hold for all threads of the process, and while several set one, for ever."""
    client = open_client("http://127.0.0.1", "secret")
    assert open_rest(client).headers["api-key"] == "secret"
    assert client.http.points_api.api_client._client.headers["api-key"] == "secret"


def test_a_server_that_is_not_ready_is_unavailable(monkeypatch):
    answers = [SimpleNamespace(status=200, data=b"ok"), SimpleNamespace(status=503, data=b"cannot flush to disk")]
    rest = rest_client(1)
    monkeypatch.setattr(rest.pool, "urlopen", lambda *_, **__: answers.pop(0))
    rest.check_ready()
    with pytest.raises(Unavailable, match="not ready: cannot flush to disk"):
        rest.check_ready()


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://qdrant.example.org", 443),
        ("https://qdrant.example.org/behind", 443),
        ("https://qdrant.example.org:6333", 6333),
        ("http://index", 6333),
        ("http://index:80", 80),
    ],
)
def test_https_without_a_port_is_443_and_http_is_qdrants_own_port(url, port):
    client = open_client(url, None)
    rest = open_rest(client)
    assert rest and rest.pool.port == port
    assert f":{port}" in client._client.rest_uri
