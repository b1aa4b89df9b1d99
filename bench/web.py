"""Load on the web with the embedded parts: answers from memory, status polls, and open event streams.

Fills the folder of a `memoaized up` with prompts of the judge's grammar (their picture files are empty, since no one
opens them), starts it, and sends requests over HTTP like many browsers. Event streams stay open while jobs are
painted; each follows the next job when its own is done.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.hit import send_json, wait_until
from bench.recall import BATCH, PIXEL, start_index_server
from jobs.models import Catalogue
from memo import MemoConfig, Memory, Picture, open_memory, write_png
from memo.memory import object_name
from memoaized.up import free_port
from training.judge.grammar import Meaning, draw_meaning, write_prompt

MODELS = Path(__file__).parents[1] / "models"
POLLERS = 4  # connections that poll
LONG_PAINTING = {"steps": 150, "memo": "off"}  # takes some seconds of one core
ANSWER_SECONDS = 60  # limit of one request, and of the time to stop


@dataclass(frozen=True, slots=True)
class Size:
    """How much load to make."""

    remembered: int = 10_000
    requests: int = 500
    streams: int = 200
    seconds: float = 60.0  # of open streams; polls are first counted without streams for a sixth of it


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--models", type=Path, default=MODELS)
    for name in ("remembered", "requests", "streams"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Size(), name))
    parser.add_argument("--seconds", type=float, default=Size().seconds)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = Size(options.remembered, options.requests, options.streams, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.text_folder, options.models, size)
    print(
        json.dumps(figures) if options.json else "\n".join(f"{name:<28} {value}" for name, value in figures.items())
    )


def measure(folder: Path, text_folder: Path, models: Path, size: Size) -> dict[str, Any]:
    """Milliseconds of an answer from memory, polls per second, and the number of streams that stayed open."""
    if text_folder.is_dir():
        shutil.copytree(text_folder, folder / "text")
    prompts = remember(folder, models, size)
    with start_product(folder, models) as address:
        hits = [time_hit(address, prompt) for prompt in prompts]
        job = paint_one_job(address)
        polls_alone = count_polls(address, job, size.seconds / 6)
        streams = Streams(address, size)
        polls_with_streams = count_polls(address, job, size.seconds)
        stream_results = streams.end()
    p50, p99 = np.percentile(hits, (50, 99))
    return {
        "remembered": size.remembered,
        "hit_p50_ms": round(float(p50), 1),
        "hit_p99_ms": round(float(p99), 1),
        "polls_per_s": round(polls_alone),
        "polls_beside_streams_per_s": round(polls_with_streams),
        **stream_results,
    }


def remember(folder: Path, models: Path, size: Size) -> list[str]:
    """Fill the folder; returns prompts that memory answers, half of them in other words, in random order."""
    random = Random(1)
    with start_index_server(folder / "index") as (url, key, _):
        settings = {"MEMO_INDEX": url, "MEMO_INDEX_KEY": key, "MEMO_STORE": f"file:{folder / 'pictures'}"}
        settings |= {"MEMO_TEXT_FOLDER": str(folder / "text"), "MEMO_EMBEDDING_CACHE": str(folder / "embeddings")}
        memory = open_memory(MemoConfig.from_env(settings))
        remembered = fill(memory, Catalogue(models), random, size.remembered)
        repeats = [prompt for _, prompt in random.choices(remembered, k=size.requests // 2)]
        paraphrases = list(
            find_paraphrases(memory, Catalogue(models), random, remembered, size.requests - len(repeats))
        )
    prompts = [*repeats, *paraphrases]
    random.shuffle(prompts)
    return prompts


def fill(memory: Memory, catalogue: Catalogue, random: Random, count: int) -> list[tuple[Meaning, str]]:
    """Remember `count` prompts; returns each with its meaning."""
    remembered: dict[str, Meaning] = {}
    while len(remembered) < count:
        meaning = draw_meaning(random)
        remembered.setdefault(write_prompt(random, meaning), meaning)
    recipe, prompts = catalogue.recipe({"prompt": "any"}), list(remembered)
    for start in range(0, count, BATCH):
        batch = prompts[start : start + BATCH]
        recipes = [replace(recipe, prompt=prompt, seed=start + row) for row, prompt in enumerate(batch)]
        pictures = [Picture(recipe=recipe, created=time.time(), seconds=1.0) for recipe in recipes]
        memory.index.add_all(pictures, np.concatenate([memory.embedder([prompt]) for prompt in batch]))
        for picture in pictures:
            memory.store.put(object_name(picture.key), write_png(PIXEL, picture))
    return [(meaning, prompt) for prompt, meaning in remembered.items()]


def find_paraphrases(
    memory: Memory, catalogue: Catalogue, random: Random, remembered: Sequence[tuple[Meaning, str]], count: int
) -> Iterator[str]:
    """`count` rewordings of remembered prompts that memory answers, or fewer if it answers fewer."""
    answered = 0
    for meaning, prompt in random.sample(remembered, len(remembered)):
        if answered == count:
            return
        paraphrase = write_prompt(random, meaning)
        if paraphrase != prompt and memory.recall(catalogue.recipe({"prompt": paraphrase})).match:
            answered += 1
            yield paraphrase


@contextmanager
def start_product(folder: Path, models: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `memoaized up` with the folder, and with settings as environment variables; yields host:port."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "memoaized.cli", "up", "--port", address.partition(":")[2]]
    command += ["--data", str(folder), "--models", str(models)]
    environment = {**os.environ, "WEB_LONG_REQUESTS": "", **(settings or {})}
    with (folder / "log").open("w") as log:
        product = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            wait_until(lambda: send_json(f"http://{address}/healthz") is not None)
            yield address
        finally:
            product.send_signal(signal.SIGINT)
            product.wait(ANSWER_SECONDS)


def time_hit(address: str, prompt: str) -> float:
    """Milliseconds of a POST that memory answers, on its own connection; raises RuntimeError if it is a miss."""
    started = time.perf_counter()
    status, job = post_job(http.client.HTTPConnection(address, timeout=ANSWER_SECONDS), {"prompt": prompt})
    milliseconds = 1000 * (time.perf_counter() - started)
    if status != 200:
        raise RuntimeError(f"{prompt!r} was not answered from memory: {job}")
    return milliseconds


def post_job(connection: http.client.HTTPConnection, body: object) -> tuple[int, dict[str, Any]]:
    """POST a job and close the connection; returns the status and the job."""
    connection.request("POST", "/api/v1/jobs", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    job = dict(json.loads(answer.read()))
    connection.close()
    return answer.status, job


def paint_one_job(address: str) -> str:
    """Paint one job; returns its path."""
    job_path = submit_job(address, {"prompt": "a red fox in the snow", "memo": "off"})
    wait_until(lambda: (send_json(f"http://{address}{job_path}") or {}).get("state") == "done")
    return job_path


def submit_job(address: str, body: object) -> str:
    """Submit a job; returns its path."""
    _, job = post_job(http.client.HTTPConnection(address, timeout=ANSWER_SECONDS), body)
    return str(job["links"]["self"])


def count_polls(address: str, job_path: str, seconds: float) -> float:
    """Answers per second to POLLERS clients that poll one job."""
    counts = [0] * POLLERS
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=poll, args=(address, job_path, until, counts, number)) for number in range(POLLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def poll(address: str, job_path: str, until: float, counts: list[int], number: int) -> None:
    """Poll on one connection and count answers in `counts[number]`; raises RuntimeError unless all are 200."""
    request = f"GET {job_path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    with connect(address) as connection:
        while time.monotonic() < until:
            connection.sendall(request)
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a poll was answered by {head[:80]!r}")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += connection.recv(65536)
            counts[number] += 1


def connect(address: str) -> socket.socket:
    """A TCP connection to host:port."""
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)


class Streams:
    """Clients that keep event streams open, following one job after another."""

    def __init__(self, address: str, size: Size) -> None:
        self.address, self.size = address, size
        self.until = time.monotonic() + size.seconds
        self.paths = [submit_job(address, {"prompt": "a castle at sunset", **LONG_PAINTING})]
        self.lock = threading.Lock()
        self.events: list[int] = [0] * size.streams
        self.broken: list[str] = []
        self.threads = [threading.Thread(target=self.hold_stream, args=(number,)) for number in range(size.streams)]
        for thread in self.threads:
            thread.start()

    def end(self) -> dict[str, Any]:
        """Wait for the clients; returns the number of streams that never broke, and how many events they received."""
        for thread in self.threads:
            thread.join()
        return {
            "sse_streams": self.size.streams - len(self.broken),
            "sse_seconds": self.size.seconds,
            "sse_events_each": round(statistics.median(self.events)),
            "sse_jobs": len(self.paths),
        }

    def hold_stream(self, number: int) -> None:
        """Run the client `number`: follow one job after another until the time is over."""
        turn = 0
        try:
            while time.monotonic() < self.until:
                self.follow_job(self.job_path(turn), number)
                turn += 1
        except (OSError, RuntimeError) as error:
            self.broken.append(repr(error))

    def job_path(self, turn: int) -> str:
        """The path of the job number `turn`, submitted by the first client that needs it."""
        with self.lock:
            if turn == len(self.paths):
                self.paths.append(submit_job(self.address, {"prompt": "a castle at sunset", **LONG_PAINTING}))
            return self.paths[turn]

    def follow_job(self, job_path: str, number: int) -> None:
        """Read events until the job is final or the time is over; raises RuntimeError if the stream breaks."""
        request = f"GET {job_path}/events HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n\r\n".encode()
        with connect(self.address) as connection:
            connection.sendall(request)
            last = b""
            while time.monotonic() < self.until:
                received = connection.recv(65536)
                self.events[number] += received.count(b"event: job")
                last = (last + received)[-4096:]
                if not received:
                    if b'"state": "done"' not in last:
                        raise RuntimeError(f"the stream ended early, after {last[-200:]!r}")
                    return


if __name__ == "__main__":
    main()
