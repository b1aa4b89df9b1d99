"""Questions in plain JSON: where they go, which connections are kept, and what becomes of a bad answer."""

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
    """The port of a server that gives each connection these answers, None being to hang up; and what it was sent."""
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


def test_a_connection_is_kept():
    with server([answer(POINTS), answer(POINTS)]) as (port, heard):
        rest = asked(port)
        rest("a", "query", {}), rest("a", "query", {})
    assert len(heard) == 2


def test_a_kept_connection_that_is_given_up_costs_nothing():
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


def test_a_refusal_is_that_of_the_client():
    with server([answer('{"status": {"error": "no"}}', "404 Not Found")]) as (port, _):
        with pytest.raises(UnexpectedResponse) as error:
            asked(port)("a", "query", {})
    assert error.value.status_code == 404 and b"no" in error.value.content


def test_nobody_there_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable):
        asked(port)("a", "query", {})


@pytest.mark.filterwarnings("ignore:Api key is used")
def test_it_goes_where_the_client_goes():
    given = {"api_key": "k", "timeout": 3, "check_compatibility": False}
    assert open_rest(QdrantClient(url="http://127.0.0.1", **given)).pool.port == 6333
    with_port = open_rest(QdrantClient(url="https://127.0.0.1:7/x", **given))
    assert (with_port.pool.scheme, with_port.pool.port, with_port.path) == ("https", 7, "/x")
    assert open_rest(QdrantClient(location=":memory:")) is None
