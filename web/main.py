"""The web process: `python -m web.main --host 127.0.0.1 --port 8000`. Only this file reads the environment.

One thread receives all requests, with Waitress, and passes a request on when all of it has arrived. So a client that
sends half a request, or sends it slowly, occupies a socket and no thread.
"""

import argparse
import gc
import logging
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.wasyncore import close_all, loop
from waitress.wasyncore import dispatcher as AsyncDispatcher

from jobs.config import JobsConfig
from jobs.log_lines import log_to_stderr
from jobs.models import Catalogue
from jobs.queue import open_queue
from memo import MemoConfig, open_memory

from . import create_app
from .config import WebConfig
from .limits.long_requests import MAX_LONG
from .limits.rates import storage_uri

log = logging.getLogger("web")  # __name__ is "__main__" here

SHORT_THREADS = 300  # reserved for short requests, so that long ones cannot use up all threads
THREADS = MAX_LONG + SHORT_THREADS  # each answers one request or holds one event stream
MAX_CLIENT_CONNECTIONS = 4000
READ_AT_ONCE = 2**17  # bytes per read; large reads are fewer, and each one may wait for other threads
FIRST_READ = 2**13  # bytes per read until the headers are complete
MAX_BODIES_PER_ROUND = 4  # request bodies read in one round of the main loop; headers are always read
ACCEPTED_AT_ONCE = 100  # Waitress accepts one connection a round, and a round visits all connections that there are
MAX_UNREADY = 2000  # connections whose request has not arrived; beyond that the oldest are closed
HEADER_SECONDS = 20.0  # for all headers of a request to arrive, from its first byte
BODY_SECONDS = 300.0  # for the whole request to arrive, from its first byte
PRESSED_BODY_SECONDS = 60.0  # the same, while there is no room for more bodies
IDLE_SECONDS = 60.0  # between two requests of a connection
SEND_SECONDS = 60.0  # in which a client must take some of its response
OUTPUT_ROOM = 256 * 2**20  # bytes of all responses that wait for their clients; beyond that the oldest are dropped
LARGEST_REQUEST = 32 * 2**20  # bytes; more than any limit of the application, whose errors say what to do
BODY_ROOM = 128 * 2**20  # bytes of all bodies; beyond that only the oldest of those that are arriving is read on
SMALL_BODY = 2**16  # bytes that are read of any body, whatever the others take
PRESSED_PACE = 5.0, 2**19  # seconds in which the oldest body must bring so many bytes while there is no more room
LONGEST_CHUNK_LINE = 2**13  # bytes of a line between the chunks of a body, and of the headers after them
GRACE_SECONDS = 30.0
SWITCH_SECONDS = 0.0005  # a thread runs this long while others wait for the interpreter; sixty of them make 30 ms


class ClientConnection(HTTPChannel):  # type: ignore[misc]  # Waitress has no types
    """A client's connection, with time limits for each request to arrive and for its response to be taken."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.request_started = self.creation_time

    def readable(self) -> bool:
        """Whether to read from the connection when bytes come; not while there is no room for more of its body."""
        return bool(super().readable()) and self.server.has_room_for(self)

    def handle_read_event(self) -> None:
        """Read from the connection. If this round has read enough bodies already, a body waits for a later round."""
        if self.request is None or self.server.may_read_body(self):
            super().handle_read_event()

    def recv(self, size: int) -> bytes:
        """Read up to `size` bytes, but few until the headers are complete, and few of chunks, which may be tiny."""
        few = self.request is None or self.request.chunked
        return bytes(super().recv(FIRST_READ if few else size))

    def received(self, data: bytes) -> bool:
        """Parse the bytes; a request starts with its first byte."""
        if self.request is None:
            self.request_started = time.time()
        is_read = bool(super().received(data))
        if self.request is not None and self.request.chunked and self.request.body_rcv is not None:
            chunks = self.request.body_rcv
            if len(chunks.control_line) + len(chunks.trailer) > LONGEST_CHUNK_LINE:
                self.will_close = True
        return is_read

    def write_soon(self, data: object) -> int:
        """Send the bytes when the client takes them; its time to take them begins now."""
        if not self.total_outbufs_len:
            self.last_activity = time.time()
        return int(super().write_soon(data))

    @property
    def is_unready(self) -> bool:
        """Whether no complete request has arrived, and nothing is being sent."""
        return not self.requests and not self.total_outbufs_len

    @property
    def arriving_bytes(self) -> int:
        """How much has arrived of the body that is arriving."""
        request = self.request
        return int(request.body_bytes_received) if request else 0

    @property
    def body_bytes(self) -> int:
        """The size of all bodies here, of which some belong to requests that wait for their answer."""
        return self.arriving_bytes + sum(int(request.body_bytes_received) for request in list(self.requests))

    @property
    def waits_since(self) -> float:
        """Since when a connection has waited for its client, in seconds since 1970."""
        return float(self.last_activity if self.total_outbufs_len or self.request is None else self.request_started)

    def deadline(self) -> float:
        """When a connection that waits for its client is closed, in seconds since 1970."""
        if self.total_outbufs_len:
            return self.waits_since + SEND_SECONDS
        if self.request is None:
            return self.waits_since + IDLE_SECONDS
        if not self.request.headers_finished:
            return self.waits_since + HEADER_SECONDS
        pressed = max(self.waits_since, float(self.server.pressed_since)) + PRESSED_BODY_SECONDS
        return min(self.waits_since + BODY_SECONDS, pressed)


class WebServer(TcpWSGIServer):  # type: ignore[misc]  # Waitress has no types
    """Waitress with deadlines for clients, room for their bodies, and a stop that lets running requests end."""

    channel_class = ClientConnection

    def __init__(self, app: Flask, **settings: object) -> None:
        super().__init__(app, **settings)
        self.stopping = threading.Event()
        self.bodies_read = 0  # in the current round of the main loop
        self.room = BODY_ROOM  # for bodies, at the start of this round
        self.pressed_since = math.inf  # since when there has been no room
        self.oldest_body: ClientConnection | None = None  # of those of which more than a small body has arrived
        self.oldest_mark = 0.0, 0  # when its pace was measured last, and how much of it had arrived then
        self.stalled: list[ClientConnection] = []  # to be closed after this round

    def handle_accept(self) -> None:
        """Accept all connections that wait, up to a limit."""
        for _ in range(ACCEPTED_AT_ONCE):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                break

    def may_read_body(self, connection: ClientConnection) -> bool:
        """Whether the body of this connection may be read now. If so, the other connections come first next time."""
        self.bodies_read += 1
        if is_allowed := self.bodies_read <= MAX_BODIES_PER_ROUND:
            self._map[connection._fileno] = self._map.pop(connection._fileno)
        return is_allowed

    def has_room_for(self, connection: ClientConnection) -> bool:
        """Whether more of this connection's body may arrive in this round."""
        return self.room > 0 or connection.arriving_bytes <= SMALL_BODY or connection is self.oldest_body

    def measure_room(self) -> None:
        """Measure the room for bodies and for responses; without room, drop what has waited for the longest time."""
        connections = list(self.active_channels.values())
        self.room = BODY_ROOM - sum(connection.body_bytes for connection in connections)
        now = time.time()
        self.pressed_since = math.inf if self.room > 0 else min(now, self.pressed_since)
        large = (connection for connection in connections if connection.arriving_bytes > SMALL_BODY)
        self.let_one_go_on(min(large, key=lambda connection: connection.request_started, default=None), now)
        excess = sum(connection.total_outbufs_len for connection in connections) - OUTPUT_ROOM
        for connection in sorted(connections, key=lambda each: each.waits_since) if excess > 0 else ():
            if excess > 0 and connection.total_outbufs_len:
                excess -= connection.total_outbufs_len
                self.stalled.append(connection)

    def let_one_go_on(self, oldest: ClientConnection | None, now: float) -> None:
        """Read on the oldest of the large bodies, whatever room there is; close it if it is too slow without room."""
        since, bytes_then = self.oldest_mark
        seconds, pace = PRESSED_PACE
        if oldest is None or oldest is not self.oldest_body or self.room > 0:
            self.oldest_mark = now, oldest.arriving_bytes if oldest else 0
        elif now - since > seconds:
            oldest.will_close = oldest.arriving_bytes - bytes_then < pace
            self.oldest_mark = now, oldest.arriving_bytes
        self.oldest_body = oldest

    def unready(self) -> Iterator[ClientConnection]:
        """The connections that wait for a request."""
        return (channel for channel in list(self.active_channels.values()) if channel.is_unready)

    def maintenance(self, now: float) -> None:
        """Close connections whose client sends no request or takes no response, and the oldest if there are too many.

        One that has something to send is closed after the round: Waitress would wait until it can be sent.
        """
        sending = (connection for connection in list(self.active_channels.values()) if connection.total_outbufs_len)
        waiting = sorted((*self.unready(), *sending), key=lambda connection: connection.waits_since)
        excess = len(waiting) - MAX_UNREADY
        for rank, connection in enumerate(waiting):
            if rank < excess or connection.deadline() < now:
                connection.will_close = True
                if connection.total_outbufs_len:
                    self.stalled.append(connection)

    def stop(self) -> None:
        """Make `serve` end; may be called from a signal handler, and more than once."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.pull_trigger()

    def run_round(self, timeout: float) -> None:
        """Run the main loop once: wait up to `timeout` seconds, then serve every connection that is ready."""
        self.bodies_read = 0
        self.measure_room()
        loop(timeout=timeout, use_poll=True, map=self._map, count=1)
        while self.stalled:
            self.stalled.pop().handle_close()

    def serve(self, end_streams: Callable[[], None], grace: float) -> None:
        """Answer requests until `stop`, then let those that are running end for up to `grace` seconds."""
        while not self.stopping.is_set():
            self.run_round(timeout=1.0)
        AsyncDispatcher.close(self)  # the listening socket only: another process can take over the port
        end_streams()
        deadline = time.monotonic() + grace
        while self.active_channels and time.monotonic() < deadline:
            for connection in self.unready():
                connection.will_close = True
            self.run_round(timeout=0.1)
        self.task_dispatcher.shutdown(timeout=1)
        close_all(self._map)


def create() -> Flask:
    """The application, configured by the environment."""
    log_to_stderr()
    jobs = JobsConfig.from_env(os.environ)
    memory = open_memory(MemoConfig.from_env(os.environ))
    web = WebConfig.from_env(os.environ)
    web = replace(web, limits=web.limits or storage_uri(jobs.redis))
    return create_app(memory, open_queue(jobs), Catalogue(Path(jobs.models)), web)


def open_server(app: Flask, host: str, port: int) -> WebServer:
    """The application at an address; listens, but answers nothing yet."""
    return WebServer(
        app,
        host=host,
        port=port,
        server_name=host,  # by which `auth` knows that only this machine can send requests
        threads=THREADS,
        connection_limit=MAX_CLIENT_CONNECTIONS,
        recv_bytes=READ_AT_ONCE,
        cleanup_interval=1,
        channel_request_lookahead=1,  # notices that a client has gone while its request is being answered
        max_request_body_size=LARGEST_REQUEST,
        clear_untrusted_proxy_headers=False,  # `create_app` decides by WEB_PROXIES which ones to trust
        log_socket_errors=False,  # clients that go away are nothing unusual
        ident=None,
    )


def allow_many_files() -> None:
    """Raise the limit on open files, usually 1,024, to what the system allows: each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def freeze_startup_objects() -> None:
    """Exclude all existing objects from garbage collection. Scanning them would pause every thread for 0.2 s."""
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m web.main", description="Serves pages, API and dialects.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="seconds for running requests to finish")
    options = parser.parse_args()
    allow_many_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    app = create()
    freeze_startup_objects()
    server = open_server(app, options.host, options.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    log.info("listening at %s:%d", options.host, options.port)
    server.serve(app.extensions["queue"].events.stop, options.grace)


if __name__ == "__main__":
    main()
