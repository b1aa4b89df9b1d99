"""The bench of a greedy user sends what it says at once, and counts the answers."""

import os
import time

import psutil

from bench.greedy import UPLOADS_AT_ONCE, GreedyUser, Request, Times, highest_memory, largest_uploads, timed
from bench.powercut import Receiver


def test_answers_are_counted_by_status():
    receiver = Receiver()
    address = receiver.url.split("/")[2]
    requests = [Request("/", b'{"id": "fox"}')] * 3 + [Request("/", None)]  # the receiver knows no GET
    with GreedyUser(address, "key", requests) as user:
        user.wait()
    receiver.close()
    assert user.statuses == {204: 3, 501: 1} and receiver.jobs == {"fox"}


def test_requests_of_others_that_are_refused_are_told(monkeypatch):
    monkeypatch.setattr("bench.greedy.HIT_SECONDS", 0.01)
    receiver, times = Receiver(), Times()
    for _ in range(2):
        with timed(times, receiver.url.split("/")[2], "key"):
            time.sleep(0.5)
    receiver.close()
    figures = times.figures()
    assert figures.keys() >= {"healthz p99 ms", "hit p99 ms"}
    assert figures["others refused"] == {501: figures["healthz times"], 0: figures["hit times"]}  # 0: no answer
    assert figures["hit times"] > 10


def test_the_largest_uploads_are_large_files_and_many_pixels(monkeypatch):
    monkeypatch.setattr("bench.greedy.SIDES", (64, 64))
    uploads = largest_uploads()
    assert {len(requests) for requests in uploads.values()} == {UPLOADS_AT_ONCE}
    assert max(len(request.body) for request in uploads["native uploads"]) > 15_000_000


def test_the_most_memory_is_noted():
    figures = {}
    with highest_memory(figures, "reading", psutil.Process(os.getpid())):
        held = bytearray(os.urandom(2**20) * 64)
    assert figures["reading: web MiB at most"] >= 64 and held
