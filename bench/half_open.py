"""What clients that never finish their request cost the others: `memoaized up` with a thousand of them.

Half of them send half a header, the others a header without its body. A client that is closed is replaced. Meanwhile
the health check is timed, the page is loaded, jobs are painted, and event streams follow them.
"""

import argparse
import http.client
import json
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.web import ANSWER_SECONDS, MODELS, Size, Streams, connect, paint_one_job, start_product

HALF_A_HEADER = b"GET / HTTP/1.1\r\nHost: here\r\nX-Half"
NO_BODY = b"POST /api/v1/jobs HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
CHECK_SECONDS = 0.1  # between two health checks


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, start_product(Path(folder), MODELS) as address:
        figures = measure(address, options.clients, options.streams, options.seconds)
    print(
        json.dumps(figures) if options.json else "\n".join(f"{name:<24} {value}" for name, value in figures.items())
    )


def measure(address: str, clients: int, streams: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of a health check alone and beside the clients, and what the streams received meanwhile."""
    paint_one_job(address)
    alone = time_requests(address, "/healthz", seconds / 6)
    with HalfOpenClients(address, clients) as half_open:
        watchers = Streams(address, Size(streams=streams, seconds=seconds))
        page: list[float] = []
        loading = threading.Thread(target=lambda: page.extend(time_requests(address, "/", seconds)))
        loading.start()
        beside = time_requests(address, "/healthz", seconds)
        loading.join()
        results = watchers.end()
    return {
        "half_open_clients": clients,
        "opened_again": half_open.replaced,
        "healthz_alone_p99_ms": percentile(alone, 99),
        "healthz_p50_ms": percentile(beside, 50),
        "healthz_p99_ms": percentile(beside, 99),
        "page_p99_ms": percentile(page, 99),
        **results,
    }


def percentile(milliseconds: list[float], percent: float) -> float:
    """A percentile, rounded to 0.1 ms."""
    return round(float(np.percentile(milliseconds, percent)), 1)


def time_requests(address: str, path: str, seconds: float) -> list[float]:
    """Milliseconds of GET requests, each on a connection of its own; raises RuntimeError unless all are answered."""
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered with {answer.status}")
        times.append(1000 * (time.perf_counter() - started))
        time.sleep(CHECK_SECONDS)
    return times


class HalfOpenClients:
    """Connections that hold half a request until the block ends; `replaced` counts those that the server closed."""

    def __init__(self, address: str, count: int) -> None:
        self.address, self.count = address, count
        spawn = multiprocessing.get_context("spawn")
        self.ready, self.stopping, self.closed = spawn.Event(), spawn.Event(), spawn.Value("i", 0)
        self.process = spawn.Process(target=self.run)

    def __enter__(self) -> "HalfOpenClients":
        self.process.start()
        self.ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.process.join()

    @property
    def replaced(self) -> int:
        """How many connections the server has closed, each of which was opened again."""
        return int(self.closed.value)

    def run(self) -> None:
        """Hold the connections, in a process of their own: here they would delay the stopwatch."""
        sockets = [self.open(number) for number in range(self.count)]
        self.ready.set()
        while not self.stopping.wait(1.0):
            self.replace_closed(sockets)

    def open(self, number: int) -> socket.socket:
        """A new connection that has sent half of a request."""
        connection = connect(self.address)
        connection.sendall(NO_BODY if number % 2 else HALF_A_HEADER)
        connection.setblocking(False)
        return connection

    def replace_closed(self, sockets: list[socket.socket]) -> None:
        """Open again what the server has closed."""
        for number, connection in enumerate(sockets):
            if is_closed(connection.recv):
                connection.close()
                sockets[number] = self.open(number)
                self.closed.value += 1


def is_closed(receive: Callable[[int], bytes]) -> bool:
    """Whether the other side of a non-blocking connection has closed it."""
    try:
        return not receive(100)
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    main()
