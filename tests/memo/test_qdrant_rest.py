"""Qdrant's REST client: URLs, persistent connections and bad answers."""

import json
import re
import socket
import threading
from contextlib import contextmanager

import pytest
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from memo import Unavailable
from memo.qdrant_rest import Rest, open_rest

POINTS = json.dumps({"result": {"points": [{"id": "a", "score": 0.5, "payload": {}}]}})


def answer(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}"


def request(connection):
    """One request, head and body."""
    heard = b""
    while not (there := re.search(rb"content-length: (\d+)(?s:.*?)\r\n\r\n", heard, re.IGNORECASE)) or (
        len(heard) < there.end() + int(there[1])
    ):
        part = connection.recv(65536)
        assert part, heard
        heard += part
    return heard.decode()


@contextmanager
def server(*connections):
    """The port of a server with these answers per connection (None hangs up), and a list of what it received."""
    listening, heard = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        for answers in connections:
            connection, _ = listening.accept()
            with connection:
                for told in answers:
                    heard.append(request(connection))
                    if told is None:
                        break
                    connection.sendall(told.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], heard
    thread.join(5)
    listening.close()


def asked(port, path=""):
    return Rest(f"http://127.0.0.1:{port}{path}", 1, "secret", 2)


def test_a_question_goes_to_the_collection_with_the_key():
    with server([answer(POINTS)]) as (port, heard):
        assert asked(port, "/behind/")("a b", "query", {"limit": 1}) == [{"id": "a", "score": 0.5, "payload": {}}]
    assert heard[0].startswith("POST /behind/collections/a%20b/points/query HTTP/1.1")
    assert "api-key: secret" in heard[0] and heard[0].endswith('{"limit": 1}')


def test_a_connection_is_used_again():
    with server([answer(POINTS), answer(POINTS)]) as (port, heard):
        rest = asked(port)
        rest("a", "query", {}), rest("a", "query", {})
    assert len(heard) == 2


def test_a_connection_that_the_server_closed_is_replaced():
    with server([answer(POINTS), None], [answer(POINTS)]) as (port, heard):
        rest = asked(port)
        rest("a", "query", {})
        assert rest("a", "query", {})
    assert len(heard) == 3


def test_a_server_that_hangs_up_twice_is_unavailable():
    with server([None], [None]) as (port, _), pytest.raises(Unavailable, match="does not answer"):
        asked(port)("a", "query", {})


@pytest.mark.parametrize("body", ["<html>", "[]", '{"result": {}}', '{"result": null}'])
def test_an_answer_without_points_is_unavailable(body):
    with server([answer(body)]) as (port, _), pytest.raises(Unavailable):
        asked(port)("a", "query", {})


def test_a_refusal_raises_the_same_error_as_qdrant_client():
    with server([answer('{"status": {"error": "no"}}', "404 Not Found")]) as (port, _):
        with pytest.raises(UnexpectedResponse) as error:
            asked(port)("a", "query", {})
    assert error.value.status_code == 404 and b"no" in error.value.content


def test_an_unreachable_server_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable):
        asked(port)("a", "query", {})


@pytest.mark.filterwarnings("ignore:Api key is used")
def test_it_uses_the_same_server_as_qdrant_client():
    given = {"api_key": "k", "timeout": 3, "check_compatibility": False}
    assert open_rest(QdrantClient(url="http://127.0.0.1", **given)).pool.port == 6333
    with_port = open_rest(QdrantClient(url="https://127.0.0.1:7/x", **given))
    assert (with_port.pool.scheme, with_port.pool.port, with_port.path) == ("https", 7, "/x")
    assert open_rest(QdrantClient(location=":memory:")) is None
