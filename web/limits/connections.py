"""Limits on the connections of clients: how long they may take to send and receive, and how much of it may pile up.

One thread receives all requests, with Waitress, and passes a request on when all of it has arrived. So a client that
sends half a request, or sends it slowly, occupies a socket and no thread.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator

from flask import Flask
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.wasyncore import close_all, loop
from waitress.wasyncore import dispatcher as AsyncDispatcher

from .request_parser import Discarding, RequestParser

HEADER_READ = 2**11  # bytes per read until the headers are complete
CHUNK_READ = 2**13  # bytes per read of a chunked body
MAX_PIPELINED = 8  # requests of a connection that wait; a client that sends more at once is closed
MAX_BODIES_PER_ROUND = 4  # request bodies read in one round of the main loop; headers are always read
ACCEPTED_AT_ONCE = 100  # Waitress accepts one connection a round, and a round visits all connections that there are
MAX_UNREADY = 2000  # connections that wait for their client; if there are more, some are closed
HEADER_SECONDS = 20.0  # for all headers of a request to arrive, from its first byte
BODY_SECONDS = 300.0  # for the whole request to arrive, from its first byte
PRESSED_BODY_SECONDS = 60.0  # the same, while BODY_ROOM is used up
IDLE_SECONDS = 60.0  # between two requests of a connection
SEND_SECONDS = 60.0  # a client must accept some bytes of its response within this time
OUTPUT_ROOM = 256 * 2**20  # bytes of responses that clients have not accepted yet; beyond it, connections are closed
BODY_ROOM = 128 * 2**20  # bytes of request bodies; when it is used up, only the oldest arriving body is read
MORE_ROOM = 32 * 2**20  # for the oldest one: enough for any request
SMALL_BODY = 2**16  # bytes of each body that are always read
PRESSED_PACE = 5.0, 2**19  # seconds, and bytes of the oldest body that must arrive in them while there is no room
LONGEST_CHUNK_LINE = 2**13  # bytes of a chunk's header, or of the headers that follow the last chunk


class ClientConnection(HTTPChannel):  # type: ignore[misc]  # Waitress has no types
    """A client's connection. Requests must arrive, and responses must be accepted, within time limits."""

    last_activity: float  # when the client last sent something of a request or accepted bytes, in seconds since 1970

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.request_started = self.creation_time

    def parser_class(self, adjustments: object) -> HTTPRequestParser:
        """A parser for the next request. If too many wait already, they are dropped, and the connection is closed."""
        if len(self.requests) < MAX_PIPELINED:
            return RequestParser(adjustments)
        del self.requests[1:]  # all but the one that may be running
        self.will_close = True
        return Discarding(adjustments)

    def readable(self) -> bool:
        """Whether bytes that arrive are read now; false while there is no room for them."""
        return bool(super().readable()) and self.server.has_room_for(self)

    def handle_read_event(self) -> None:
        """Read from the connection. If this round has read enough bodies already, a body waits for a later round."""
        if self.request is None or self.server.may_read_body(self):
            super().handle_read_event()

    def handle_read(self) -> None:
        """Read and parse some bytes. Blank lines between requests do not make an idle connection a new one."""
        before: float = self.last_activity
        super().handle_read()
        if self.request is None and self.is_unready:
            self.last_activity = before

    def recv(self, size: int) -> bytes:
        """Read up to `size` bytes, but fewer of headers and of chunked bodies, which take long to parse.

        Nothing behind a body is read with it, since that could be headers.
        """
        if self.request is None or not self.request.headers_finished:
            return bytes(super().recv(HEADER_READ))
        if self.request.chunked:
            return bytes(super().recv(CHUNK_READ))
        return bytes(super().recv(min(size, max(1, self.request.body_rcv.remain))))

    def received(self, data: bytes) -> bool:
        """Parse the bytes, and note when a new request began."""
        if self.request is None:
            self.request_started = time.time()
        is_read = bool(super().received(data))
        if self.request is not None and self.request.chunked and self.request.body_rcv is not None:
            chunks = self.request.body_rcv
            if len(chunks.control_line) + len(chunks.trailer) > LONGEST_CHUNK_LINE:
                self.will_close = True
        return is_read

    def write_soon(self, data: object) -> int:
        """Queue bytes of a response. If nothing else was queued, the client's time to accept them starts now."""
        if not self.total_outbufs_len:
            self.last_activity = time.time()
        return int(super().write_soon(data))

    @property
    def is_unready(self) -> bool:
        """Whether no complete request has arrived, and nothing is being sent."""
        return not self.requests and not self.total_outbufs_len

    @property
    def arriving_bytes(self) -> int:
        """How many bytes of the current request's body have arrived."""
        request = self.request
        return int(request.body_bytes_received) if request else 0

    @property
    def body_bytes(self) -> int:
        """How many bytes its request bodies take, including those of complete requests that wait for an answer."""
        return self.arriving_bytes + sum(int(request.body_bytes_received) for request in list(self.requests))

    @property
    def waits_since(self) -> float:
        """The time at which the connection began to wait for its client, in seconds since 1970."""
        return float(self.last_activity if self.total_outbufs_len or self.request is None else self.request_started)

    @property
    def idle_since(self) -> float:
        """As `waits_since`, but while a large body arrives, the time at which its last byte came."""
        return float(self.last_activity if self.arriving_bytes > SMALL_BODY else self.waits_since)

    def deadline(self) -> float:
        """The time at which the connection is closed if the client does nothing, in seconds since 1970."""
        if self.total_outbufs_len:
            return self.waits_since + SEND_SECONDS
        if self.request is None:
            return self.waits_since + IDLE_SECONDS
        if not self.request.headers_finished:
            return self.waits_since + HEADER_SECONDS
        pressed = max(self.waits_since, float(self.server.pressed_since)) + PRESSED_BODY_SECONDS
        return min(self.waits_since + BODY_SECONDS, pressed)


class WebServer(TcpWSGIServer):  # type: ignore[misc]  # Waitress has no types
    """Waitress with limits for its clients, and with a way to stop that lets running requests finish."""

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
        """Whether more of this connection's body may be read in this round."""
        if connection.arriving_bytes <= SMALL_BODY:
            return True
        if connection.requests:  # an earlier request is being answered, perhaps for long
            return False
        return self.room > 0 or (connection is self.oldest_body and self.room > -MORE_ROOM)

    def measure_room(self) -> None:
        """Measure how much space bodies and responses take; if responses take too much, close the oldest ones."""
        connections = list(self.active_channels.values())
        self.room = BODY_ROOM - sum(connection.body_bytes for connection in connections)
        now = time.time()
        self.pressed_since = math.inf if self.room > 0 else min(now, self.pressed_since)
        waited_for = (connection for connection in connections if not connection.requests)
        large = (connection for connection in waited_for if connection.arriving_bytes > SMALL_BODY)
        self.let_one_go_on(min(large, key=lambda connection: connection.request_started, default=None), now)
        excess = sum(connection.total_outbufs_len for connection in connections) - OUTPUT_ROOM
        for connection in sorted(connections, key=lambda each: each.waits_since) if excess > 0 else ():
            if excess > 0 and connection.total_outbufs_len:
                excess -= connection.total_outbufs_len
                self.stalled.append(connection)

    def let_one_go_on(self, oldest: ClientConnection | None, now: float) -> None:
        """Let the oldest large body be read even if there is no room. In that case, close it if it is slow."""
        since, bytes_then = self.oldest_mark
        seconds, pace = PRESSED_PACE
        if oldest is None or oldest is not self.oldest_body or self.room > 0:
            self.oldest_mark = now, oldest.arriving_bytes if oldest else 0
        elif now - since > seconds:
            if oldest.arriving_bytes - bytes_then < pace:
                oldest.will_close = True
            self.oldest_mark = now, oldest.arriving_bytes
        self.oldest_body = oldest

    def unready(self) -> Iterator[ClientConnection]:
        """Connections that have received no complete request and are sending nothing."""
        return (channel for channel in list(self.active_channels.values()) if channel.is_unready)

    def maintenance(self, now: float) -> None:
        """Close connections whose client is late; if too many wait for their client, also the longest idle.

        A connection with an unsent response is closed after this round, because Waitress itself would first wait
        until the client accepts it.
        """
        sending = (connection for connection in list(self.active_channels.values()) if connection.total_outbufs_len)
        waiting = sorted((*self.unready(), *sending), key=lambda connection: connection.idle_since)
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
