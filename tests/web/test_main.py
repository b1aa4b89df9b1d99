"""The web server with clients that send half a request, send slowly, or stay while it stops."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection

import pytest
from flask import Flask, Response, request

from tests.real import free_port, wait_for
from web import main
from web.limits import connections as limits
from web.limits import request_parser

LARGE = 30 * 2**20  # bytes; more than sockets and Waitress take without waiting for the client
LAST = b"\r\nConnection: close\r\n\r\n"
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n"
HALF_A_HEADER = b"GET / HTTP/1.1\r\nHost: here\r\nX-Half"
NO_BODY = b"POST /size HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n"


@dataclass
class Running:
    """A server over a small application, in a thread."""

    port: int
    server: limits.WebServer
    thread: threading.Thread

    def get(self, path: str = "/") -> str:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def channels(self) -> list[limits.ClientConnection]:
        """The server's side of all connections."""
        return list(self.server.active_channels.values())

    def send(self, data: bytes) -> socket.socket:
        """Open a connection, send the bytes and keep it open."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        connection.sendall(data)
        return connection


def read_until(connection: socket.socket, mark: bytes) -> None:
    """Read until the bytes have come; an error after 5 s, or when the connection ends before."""
    data = b""
    while mark not in data:
        assert (piece := connection.recv(1000)), data
        data += piece


def small_app(streams_end: threading.Event) -> Flask:
    app = Flask("small")
    app.add_url_rule("/", view_func=lambda: "here", endpoint="index")
    app.add_url_rule("/size", view_func=lambda: str(len(request.get_data())), endpoint="size", methods=["POST"])

    def messages() -> Iterator[str]:
        yield "first\n"
        streams_end.wait(20)
        yield "last\n"

    app.add_url_rule("/stream", view_func=lambda: Response(messages()), endpoint="stream")
    noticed = threading.Event()

    def wait_for_the_client_to_leave() -> str:
        while not request.environ["waitress.client_disconnected"]():
            time.sleep(0.05)
        noticed.set()
        return ""

    app.add_url_rule("/left", view_func=wait_for_the_client_to_leave, endpoint="left")
    app.add_url_rule("/left-at", view_func=lambda: "noticed" if noticed.wait(4) else "missed", endpoint="left-at")
    app.add_url_rule("/hold", view_func=lambda: str(streams_end.wait(20)), endpoint="hold", methods=["POST"])
    app.add_url_rule(
        "/accepted", view_func=lambda: f"accepted: {request.accept_mimetypes or 'nothing'}", endpoint="a"
    )
    app.add_url_rule("/large", view_func=lambda: b"x" * LARGE, endpoint="large")
    app.add_url_rule("/slow", view_func=lambda: (time.sleep(0.5), "done")[1], endpoint="slow")
    return app


@contextmanager
def running_server() -> Iterator[Running]:
    streams_end, port = threading.Event(), free_port()
    server = main.open_server(small_app(streams_end), "127.0.0.1", port)
    thread = threading.Thread(target=server.serve, args=(streams_end.set, 5.0))
    thread.start()
    try:
        yield Running(port, server, thread)
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def server() -> Iterator[Running]:
    with running_server() as running:
        yield running


@pytest.mark.parametrize("half", [b"", HALF_A_HEADER, NO_BODY], ids=["nothing", "half a header", "no body"])
def test_more_half_sent_requests_than_threads_delay_nobody(server, half):
    with ExitStack() as stack:
        for _ in range(main.THREADS + 50):
            stack.enter_context(closing(server.send(half)))
        assert server.get() == "here"


@pytest.mark.parametrize(("half", "limit"), [(HALF_A_HEADER, "HEADER_SECONDS"), (NO_BODY, "BODY_SECONDS")])
def test_a_request_that_never_arrives_is_given_up(server, monkeypatch, half, limit):
    monkeypatch.setattr(limits, limit, 0.5)
    with closing(server.send(half)) as connection:
        assert connection.recv(100) == b""


def test_a_header_sent_letter_by_letter_does_not_extend_its_time(server, monkeypatch):
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.0)
    with closing(server.send(HALF_A_HEADER)) as connection, pytest.raises(OSError):
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.1)


def test_a_slow_upload_within_its_time_is_answered(server):
    with closing(server.send(NO_BODY)) as connection:
        for _ in range(10):
            time.sleep(0.02)
            connection.sendall(b"x" * 10)
        read_until(connection, b"\r\n\r\n100")


def open_in_turn(stack: ExitStack, server: Running, data: bytes) -> list[socket.socket]:
    """Open eight connections, one after another, and send the bytes on each."""
    connections = []
    for _ in range(8):
        connections.append(stack.enter_context(closing(server.send(data))))
        time.sleep(0.05)
    return connections


def test_the_oldest_of_too_many_unready_connections_are_closed(server, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNREADY", 5)
    with ExitStack() as stack:
        connections = open_in_turn(stack, server, HALF_A_HEADER)
        assert [connection.recv(10) for connection in connections[:3]] == [b""] * 3
        assert server.get() == "here"
        connections[-1].sendall(b": yes\r\nConnection: close\r\n\r\n")
        read_until(connections[-1], b"here")


def test_a_large_upload_is_not_closed_for_many_clients_that_send_nothing(server, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNREADY", 5)
    sent, size = 2 * limits.SMALL_BODY, 2 * limits.SMALL_BODY + 100
    with ExitStack() as stack:
        uploading = stack.enter_context(closing(server.send(upload(size, sent))))
        wait_for(lambda: any(channel.arriving_bytes == sent for channel in server.channels()))
        idle = open_in_turn(stack, server, b"\r\n\r\n")
        for _ in range(30):
            uploading.sendall(b"x")
            for connection in idle:
                with suppress(OSError):
                    connection.sendall(b"\r\n\r\n")
            time.sleep(0.1)
        assert len(server.channels()) <= 5
        uploading.sendall(b"x" * (size - sent - 30))
        read_until(uploading, f"\r\n\r\n{size}".encode())


def test_blank_lines_do_not_make_an_idle_connection_a_new_one(server, monkeypatch):
    monkeypatch.setattr(limits, "IDLE_SECONDS", 1.0)
    with closing(server.send(b"")) as connection, pytest.raises(OSError):
        for _ in range(100):
            connection.sendall(b"\r\n\r\n")
            time.sleep(0.1)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET a://" + b"1" * 30_000 + b" x HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX:" + b" " * 30_000 + b"\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX:" + b" x" * 15_000 + b"\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nAccept: a" + b" " * 30_000 + b"b\r\n\r\n",
        b"G" * 30_000 + b" / HTTP/1.1\r\n\r\n",
        b"GET /" + b" " * 30_000 + b"HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nCookie: a=" + (b"\r\n" + b" " * 31) * 200 + b'"x\r\n\r\n',
        b"GET / HTTP/1.1\r\nCookie: a=" + b"x" * 9000 + b"\r\n\r\n",
        b"GET /\r\nX: HTTP/1.1\r\n\r\n",
        b"GET http://[x HTTP/1.1\r\n\r\n",
    ],
    ids=[
        *(
            "digits in the address",
            "blanks",
            "words and blanks",
            "blanks in Accept",
            "method",
            "blanks in the first line",
        ),
        *("blanks in many lines", "a long cookie", "a first line of two", "half an address"),
    ],
)
def test_headers_that_take_long_to_parse_are_refused_at_once(server, request_bytes):
    with closing(server.send(request_bytes)) as connection:
        read_until(connection, b" 400 Bad Request")
        assert server.get() == "here"


@pytest.mark.parametrize(
    "accept",
    [
        b"a/b" + b"".join(b';x*%d="%s"' % (number, b" " * 31) for number in range(700)),
        b"a/b;x*=utf-8''" + b"%20" * 2_500,
    ],
)
def test_what_a_client_accepts_is_not_read_if_it_is_too_long(server, accept):
    """Werkzeug decodes its parameters, and needs a second for the blanks in them."""
    status = "400" if len(accept) > request_parser.LARGEST_HEADER else "200"
    with closing(server.send(b"GET /accepted HTTP/1.1\r\nAccept: " + accept + LAST)) as connection:
        read_until(connection, b" 400 " if status == "400" else b"accepted: nothing")


@pytest.mark.parametrize("method", [b"GET /", b"POST /size"])
def test_an_expected_body_that_is_empty_is_not_waited_for(server, method):
    head = method + b" HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 0" + LAST
    with closing(server.send(head)) as connection:
        read_until(connection, b"HTTP/1.1 200 OK")


def test_a_client_that_waits_before_it_sends_a_body_is_told_to_send_it(server):
    head = b"POST /size HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 10" + LAST
    with closing(server.send(head)) as connection:
        read_until(connection, b"100 Continue\r\n\r\n")
        connection.sendall(b"x" * 10)
        read_until(connection, b"\r\n\r\n10")


def test_headers_have_a_size_that_any_prompt_fits_into(server):
    with closing(server.send(b"GET /?prompt=" + b"%F0%9F%A6%8A" * 2000 + b" HTTP/1.1\r\nHost: here" + LAST)) as fits:
        read_until(fits, b"here")
    with closing(server.send(b"GET /?prompt=" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: here" + LAST)) as too_long:
        read_until(too_long, b"431 Request Header Fields Too Large")


def test_a_few_requests_sent_at_once_are_answered_and_many_are_not_even_parsed(server, monkeypatch):
    parsers = []
    new = limits.RequestParser
    monkeypatch.setattr(limits, "RequestParser", lambda adjustments: parsers.append(1) or new(adjustments))
    get = b"GET / HTTP/1.1\r\n\r\n"
    with closing(server.send(get * 3 + get.replace(b"\r\n\r\n", LAST))) as few:
        data = b""
        while piece := few.recv(1000):
            data += piece
        assert data.count(b"here") == 4
    parsers.clear()
    slow = get.replace(b"/", b"/slow", 1)
    with closing(server.send(slow * 100)) as many:
        wait_for(lambda: [channel.will_close for channel in server.channels()] in ([], [True]))
        assert all(len(channel.requests) <= 1 for channel in server.channels())
        take_all(many)
    assert len(parsers) <= limits.MAX_PIPELINED and server.get() == "here"


def test_a_client_that_does_not_take_its_response_is_closed(server, monkeypatch):
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.5)
    with closing(server.send(2 * GET_LARGE)) as connection:
        wait_for(lambda: any(channel.total_outbufs_len for channel in server.server.active_channels.values()))
        assert server.get() == "here"
        wait_for(lambda: not server.server.active_channels and not server.server.task_dispatcher.active_count)
        assert take_all(connection) < LARGE


def take_all(connection: socket.socket) -> int:
    """How many bytes come until the connection is closed, or nothing comes for a second."""
    connection.settimeout(1)
    taken = 0
    with suppress(ConnectionResetError, TimeoutError):
        while piece := connection.recv(2**20):
            taken += len(piece)
    return taken


def test_a_client_that_takes_its_response_slowly_gets_all_of_it(server, monkeypatch):
    monkeypatch.setattr(limits, "SEND_SECONDS", 1.5)
    with closing(server.send(GET_LARGE.replace(b"\r\n\r\n", LAST))) as connection:
        taken, number = 0, 0
        while piece := connection.recv(2**20):
            taken, number = taken + len(piece), number + 1
            time.sleep(0.4 if number < 8 else 0)
        assert taken > LARGE


def test_too_many_clients_that_take_nothing_do_not_keep_others_out(server, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNREADY", 4)
    with ExitStack() as stack:
        connections = open_in_turn(stack, server, GET_LARGE)
        time.sleep(2)  # the server looks every second
        assert server.get() == "here"
        assert take_all(connections[0]) < LARGE  # the oldest was closed
        assert take_all(connections[-1]) > 0


def upload(size: int, sent: int) -> bytes:
    """The start of a request whose body has this size, of which so much is sent."""
    return b"POST /size HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size + b"x" * sent


def test_bodies_that_arrive_take_no_more_than_their_room(server, monkeypatch):
    """The oldest goes on, small ones too; the others go on when it has been read."""
    monkeypatch.setattr(limits, "BODY_ROOM", 2**20)
    taken, measure_room = [0], server.server.measure_room

    def measure() -> None:
        measure_room()
        taken.append(2**20 - server.server.room)

    monkeypatch.setattr(server.server, "measure_room", measure)
    size, sent = 2 * 2**20, 2**20 - 2**16
    with ExitStack() as stack:
        uploads = []
        for _ in range(4):
            uploads.append(stack.enter_context(closing(server.send(upload(size, 0)))))
            time.sleep(0.05)
        senders = [threading.Thread(target=connection.sendall, args=(b"x" * sent,)) for connection in uploads]
        for sender in senders:
            sender.start()
        wait_for(lambda: server.server.room <= 0)
        assert server.get() == "here"
        read_until(stack.enter_context(closing(server.send(upload(10, 10)))), b"\r\n\r\n10")
        for connection, sender in zip(uploads, senders, strict=True):
            rest = threading.Thread(target=lambda c=connection, s=sender: (s.join(), c.sendall(b"x" * (size - sent))))
            rest.start()
            read_until(connection, b"\r\n\r\n%d" % size)
            rest.join(5)
    assert max(taken) <= 2**20 + size + 4 * 2**17 + 4 * limits.SMALL_BODY  # and not 4 * size


def test_responses_that_nobody_takes_have_a_common_bound(server, monkeypatch):
    monkeypatch.setattr(limits, "OUTPUT_ROOM", 20 * 2**20)
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.send(2 * GET_LARGE))) for _ in range(4)]
        time.sleep(1.5)
        held = sum(channel.total_outbufs_len for channel in server.server.active_channels.values())
        assert held <= limits.OUTPUT_ROOM + LARGE and server.get() == "here"
        assert sum(take_all(connection) < LARGE for connection in connections) >= 2


def test_the_excess_is_taken_from_those_who_wait_longest(server, monkeypatch):
    """Not from a client that is taking its response: half a body has a later deadline."""
    monkeypatch.setattr(limits, "MAX_UNREADY", 3)
    with ExitStack() as stack:
        halves = [stack.enter_context(closing(server.send(NO_BODY))) for _ in range(4)]
        time.sleep(0.5)
        taking = stack.enter_context(closing(server.send(GET_LARGE.replace(b"\r\n\r\n", LAST))))
        taken = 0
        while piece := taking.recv(2**20):
            taken += len(piece)
            time.sleep(0.1)
        assert taken > LARGE
        halves[0].settimeout(5)
        assert halves[0].recv(10) == b""


def test_an_answer_that_begins_late_has_its_whole_time_to_be_taken(server, monkeypatch):
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.2)
    with closing(server.send(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")):
        wait_for(lambda: any(channel.requests for channel in server.server.active_channels.values()))
        [channel] = server.server.active_channels.values()
        monkeypatch.setattr(channel, "_flush_some", lambda *_, **__: False)  # nothing has been sent yet
        channel.last_activity -= 100
        channel.write_soon(b"x" * LARGE)
        assert channel.deadline() > time.time()


def test_a_body_behind_a_running_request_is_not_read_yet(server):
    behind = limits.SMALL_BODY + main.READ_AT_ONCE
    with closing(server.send(b"GET /stream HTTP/1.1\r\nHost: here\r\n\r\n" + upload(2**20, 2**20))) as connection:
        read_until(connection, b"first")
        time.sleep(1)
        assert [limits.SMALL_BODY < channel.body_bytes <= behind for channel in server.channels()] == [True]


def test_even_the_oldest_body_is_not_read_without_end(server, monkeypatch):
    monkeypatch.setattr(limits, "BODY_ROOM", 2**17)
    monkeypatch.setattr(limits, "MORE_ROOM", 2**17)
    with closing(server.send(upload(2**20, 2**19))):
        time.sleep(1)
        [channel] = server.channels()
        assert 2**18 <= channel.arriving_bytes <= 2**18 + main.READ_AT_ONCE


def test_bodies_that_wait_for_their_answer_take_room_too(server):
    with ExitStack() as stack:
        for _ in range(3):
            body = b"x" * 2**20
            head = b"POST /hold HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body)
            stack.enter_context(closing(server.send(head + body)))
        wait_for(lambda: limits.BODY_ROOM - server.server.room >= 3 * 2**20)


@pytest.mark.parametrize("chunks", [b"1;" + b"x" * 20_000, b"0\r\n" + b"X-Long: " + b"x" * 20_000])
def test_a_line_between_chunks_is_not_endless(server, chunks):
    head = b"POST /size HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(server.send(head + chunks)) as connection:
        connection.settimeout(10)
        with suppress(ConnectionResetError):
            assert connection.recv(10) == b""


def test_tiny_chunks_delay_nobody(server):
    head = b"POST /size HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(server.send(head)) as connection:
        wait_for(lambda: server.server.active_channels)
        [channel] = server.server.active_channels.values()
        wait_for(lambda: channel.request is not None and channel.request.chunked)
        connection.sendall(b"1\r\nx\r\n" * 3000)
        received, sizes = channel.received, []
        channel.received = lambda data: sizes.append(len(data)) or received(data)
        connection.sendall(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        read_until(connection, b"\r\n\r\n23000")
        assert max(sizes) <= limits.CHUNK_READ


def test_chunks_that_come_with_the_end_of_the_headers_are_few(server):
    with closing(server.send(b"P")) as connection:
        wait_for(server.channels)
        [channel] = server.channels()
        wait_for(lambda: channel.request)
        received, sizes = channel.received, []
        channel.received = lambda data: sizes.append(len(data)) or received(data)
        head = b"OST /size HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        read_until(connection, b"\r\n\r\n20000")
        assert sizes[0] <= limits.HEADER_READ and max(sizes) <= limits.CHUNK_READ


def test_the_oldest_body_must_go_on_while_there_is_no_room(server, monkeypatch):
    monkeypatch.setattr(limits, "BODY_ROOM", 2**17)
    monkeypatch.setattr(limits, "PRESSED_PACE", (0.5, 2**19))
    with closing(server.send(upload(2**20, 2**18))) as connection:
        connection.settimeout(10)
        with suppress(ConnectionResetError):
            assert connection.recv(10) == b""


def test_bodies_have_less_time_while_there_is_no_room(server, monkeypatch):
    monkeypatch.setattr(limits, "BODY_ROOM", 2**17)
    monkeypatch.setattr(limits, "PRESSED_BODY_SECONDS", 0.5)
    with closing(server.send(upload(2**20, 2**18))) as connection:
        connection.settimeout(10)
        with suppress(ConnectionResetError):
            assert connection.recv(10) == b""


def test_a_stop_ends_streams_and_finishes_running_requests(server):
    with closing(server.send(b"GET /stream HTTP/1.1\r\nHost: here\r\n\r\n")) as stream:
        read_until(stream, b"first")
        slow = server.send(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(0.2)
        server.server.stop()
        with closing(slow):
            read_until(slow, b"done")
        read_until(stream, b"last")
    server.thread.join(5)
    assert not server.thread.is_alive()


def test_a_stopping_server_accepts_nothing_and_waits_for_no_idle_client(server):
    with closing(server.send(HALF_A_HEADER)):
        server.server.stop()
        server.thread.join(5)
        assert not server.thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        server.send(b"")


def test_a_client_that_goes_away_is_noticed(server):
    with closing(server.send(b"GET /left HTTP/1.1\r\nHost: here\r\n\r\n")):
        time.sleep(0.2)
    assert server.get("/left-at") == "noticed"


def test_a_round_reads_a_few_bodies_each_in_turn_and_every_short_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, a short request waits while each of sixty uploads is read once."""
    monkeypatch.setattr(main, "READ_AT_ONCE", 10_000)
    server = main.open_server(small_app(threading.Event()), "127.0.0.1", port := free_port())
    running, body = Running(port, server, threading.Thread()), 50_000
    header = f"POST /size HTTP/1.1\r\nHost: here\r\nContent-Length: {body}\r\n\r\n".encode()
    with ExitStack() as stack:
        stack.callback(limits.close_all, server._map)
        stack.callback(server.task_dispatcher.shutdown)
        uploads = [stack.enter_context(closing(running.send(header + b"x" * body))) for _ in range(10)]
        wait_for(lambda: server.run_round(0.1) or len(server.active_channels) == len(uploads))
        server.run_round(0.1)  # reads the headers
        channels = list(server.active_channels.values())
        short = stack.enter_context(closing(running.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")))
        first = received(channels)
        assert max(first) < limits.HEADER_READ
        for number in range(1, 6):
            server.run_round(0.1)
            assert sum(received(channels)) - sum(first) == 10_000 * limits.MAX_BODIES_PER_ROUND * number
        assert all(later - before == 20_000 for later, before in zip(received(channels), first, strict=True))
        read_until(short, b"here")
        wait_for(lambda: server.run_round(0.1) or not any(channel.request for channel in channels))
        for upload in uploads:
            read_until(upload, f"\r\n\r\n{body}".encode())


def received(channels: list[limits.ClientConnection]) -> list[int]:
    """How many bytes of its body each of these has received."""
    return [channel.request.body_bytes_received for channel in channels]
