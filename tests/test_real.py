"""The servers that tests start behave like real ones."""

import socket
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

from flask import Flask, Response

from .real import serving, wait_for

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def test_a_response_is_closed_when_the_browser_disconnects_at_its_end():
    app, closed = Flask("answers"), []

    @app.get("/")
    def home() -> Response:
        answer = Response(words(), headers={"Content-Length": "7"})
        answer.call_on_close(lambda: closed.append(True))
        return answer

    def words() -> Iterator[bytes]:
        yield b"the end"

    with serving(app) as base:
        for _ in range(20):
            read_and_reset(urlsplit(base).port or 0)
        wait_for(lambda: len(closed) == 20)


def read_and_reset(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        browser.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with browser.makefile("rb") as answer:
            while answer.readline().strip():
                pass
            assert answer.read(7) == b"the end"
