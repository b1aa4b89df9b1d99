"""What the embedded default serves at once: answers from memory, status polls, and open event streams.

Fills the folder of a `memoaized up` with remembered prompts of the judge's grammar (their files are empty: nobody
looks at them), starts it, and asks over HTTP like many browsers. The streams are held while jobs are painted; each
goes on with the next job when its own is done.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.hit import call, wait
from bench.recall import BATCH, index_server
from jobs.models import Catalogue
from memo import MemoConfig, Memory, Picture, open_memory
from memo.memory import object_name
from memoaized.up import free_port
from training.judge.grammar import Meaning, draw_meaning, write_prompt

MODELS = Path(__file__).parents[1] / "models"
POLLERS = 4  # connections that ask again and again
LONG = {"steps": 150, "memo": "off"}  # some seconds of a core
ANSWER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked for."""

    remembered: int = 10_000
    asked: int = 500
    streams: int = 200
    seconds: float = 60.0  # that streams are held; polls are counted for a sixth of it


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-folder", type=Path, default=Path("var/text"))
    parser.add_argument("--models", type=Path, default=MODELS)
    for name, default in (("remembered", Size().remembered), ("asked", Size().asked), ("streams", Size().streams)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=Size().seconds)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    size = Size(given.remembered, given.asked, given.streams, given.seconds)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), given.text_folder, given.models, size)
    print(json.dumps(figures) if given.json else "\n".join(f"{name:<28} {value}" for name, value in figures.items()))


def measure(folder: Path, text_folder: Path, models: Path, size: Size) -> dict[str, Any]:
    """Milliseconds of an answer from memory, polls a second, and how many streams were held."""
    if text_folder.is_dir():
        shutil.copytree(text_folder, folder / "text")
    prompts = remember(folder, models, size)
    with product(folder, models) as address:
        hits = [hit(address, prompt) for prompt in prompts]
        job = painted(address)
        alone = polls(address, job, size.seconds / 6)
        held = Streams(address, size)
        beside = polls(address, job, size.seconds)
        told = held.end()
    p50, p99 = np.percentile(hits, (50, 99))
    return {
        "remembered": size.remembered,
        "hit_p50_ms": round(float(p50), 1),
        "hit_p99_ms": round(float(p99), 1),
        "polls_per_s": round(alone),
        "polls_beside_streams_per_s": round(beside),
        **told,
    }


def remember(folder: Path, models: Path, size: Size) -> list[str]:
    """Fill the folder; prompts that memory answers, half in the same words, half in others, in random order."""
    random = Random(1)
    with index_server(folder / "index") as (url, key, _):
        settings = {"MEMO_INDEX": url, "MEMO_INDEX_KEY": key, "MEMO_STORE": f"file:{folder / 'pictures'}"}
        settings |= {"MEMO_TEXT_FOLDER": str(folder / "text"), "MEMO_STATES": str(folder / "states")}
        memory = open_memory(MemoConfig.from_env(settings))
        known = fill(memory, Catalogue(models), random, size.remembered)
        same = [prompt for _, prompt in random.choices(known, k=size.asked // 2)]
        alike = list(reworded(memory, Catalogue(models), random, known, size.asked - len(same)))
    prompts = [*same, *alike]
    random.shuffle(prompts)
    return prompts


def fill(memory: Memory, catalogue: Catalogue, random: Random, many: int) -> list[tuple[Meaning, str]]:
    """Remember so many prompts, each with what it means."""
    known: dict[str, Meaning] = {}
    while len(known) < many:
        meaning = draw_meaning(random)
        known.setdefault(write_prompt(random, meaning), meaning)
    wish = catalogue.recipe({"prompt": "any"})
    told = list(known)
    for start in range(0, many, BATCH):
        batch = told[start : start + BATCH]
        recipes = [replace(wish, prompt=prompt, seed=start + row) for row, prompt in enumerate(batch)]
        pictures = [Picture(recipe=recipe, created=time.time(), seconds=1.0) for recipe in recipes]
        memory.index.add_all(pictures, np.concatenate([memory.embedder([prompt]) for prompt in batch]))
        for picture in pictures:
            memory.store.put(object_name(picture.key), b"")
    return [(meaning, prompt) for prompt, meaning in known.items()]


def reworded(
    memory: Memory, catalogue: Catalogue, random: Random, known: Sequence[tuple[Meaning, str]], many: int
) -> Iterator[str]:
    """Prompts in other words that memory answers; the judge knows which."""
    found = 0
    for meaning, prompt in random.sample(known, len(known)):
        if found == many:
            return
        other = write_prompt(random, meaning)
        if other != prompt and memory.recall(catalogue.recipe({"prompt": other})).match:
            found += 1
            yield other


@contextmanager
def product(folder: Path, models: Path) -> Iterator[str]:
    """`memoaized up` over the folder; host:port."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "memoaized.cli", "up", "--port", address.partition(":")[2]]
    command += ["--data", str(folder), "--models", str(models)]
    with (folder / "log").open("w") as log:
        stack = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "WEB_STREAMS": ""})
        try:
            wait(lambda: call(f"http://{address}/healthz") is not None)
            yield address
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(ANSWER_SECONDS)


def hit(address: str, prompt: str) -> float:
    """Milliseconds of a POST that memory answers, on a connection of its own; raises RuntimeError if it does not."""
    begun = time.perf_counter()
    status, told = asked(http.client.HTTPConnection(address, timeout=ANSWER_SECONDS), {"prompt": prompt})
    took = 1000 * (time.perf_counter() - begun)
    if status != 200:
        raise RuntimeError(f"{prompt!r} was not answered from memory: {told}")
    return took


def asked(connection: http.client.HTTPConnection, body: object) -> tuple[int, dict[str, Any]]:
    """Status and answer of a POST for pictures."""
    connection.request("POST", "/api/v1/jobs", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = dict(json.loads(answer.read()))
    connection.close()
    return answer.status, told


def painted(address: str) -> str:
    """The path of a job that was painted and is done."""
    path = begun(address, {"prompt": "a red fox in the snow", "memo": "off"})
    wait(lambda: (call(f"http://{address}{path}") or {}).get("state") == "done")
    return path


def begun(address: str, body: object) -> str:
    """The path of a job."""
    _, told = asked(http.client.HTTPConnection(address, timeout=ANSWER_SECONDS), body)
    return str(told["links"]["self"])


def polls(address: str, path: str, seconds: float) -> float:
    """Answers a second to clients that ask for a job again and again."""
    counts = [0] * POLLERS
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=poll, args=(address, path, until, counts, number)) for number in range(POLLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def poll(address: str, path: str, until: float, counts: list[int], number: int) -> None:
    """One client on one connection; what is no whole answer of status 200 raises RuntimeError."""
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    with connected(address) as line:
        while time.monotonic() < until:
            line.sendall(request)
            head, _, body = line.recv(65536).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a poll was answered by {head[:80]!r}")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            while len(body) < length:
                body += line.recv(65536)
            counts[number] += 1


def connected(address: str) -> socket.socket:
    """A connection."""
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)


class Streams:
    """Clients that hold event streams of jobs, one job after the other, until the end."""

    def __init__(self, address: str, size: Size) -> None:
        self.address, self.size = address, size
        self.until = time.monotonic() + size.seconds
        self.paths = [begun(address, {"prompt": "a castle at sunset", **LONG})]
        self.lock = threading.Lock()
        self.events: list[int] = [0] * size.streams
        self.broken: list[str] = []
        self.threads = [threading.Thread(target=self.hold, args=(number,)) for number in range(size.streams)]
        for thread in self.threads:
            thread.start()

    def end(self) -> dict[str, Any]:
        """Wait for the time to be over: streams that were held all the time, and what they heard."""
        for thread in self.threads:
            thread.join()
        return {
            "sse_streams": self.size.streams - len(self.broken),
            "sse_seconds": self.size.seconds,
            "sse_events_each": round(statistics.median(self.events)),
            "sse_jobs": len(self.paths),
        }

    def hold(self, number: int) -> None:
        """One client."""
        turn = 0
        try:
            while time.monotonic() < self.until:
                self.follow(self.path(turn), number)
                turn += 1
        except (OSError, RuntimeError) as error:
            self.broken.append(repr(error))

    def path(self, turn: int) -> str:
        """Of the job whose turn it is; the first who needs it asks for it."""
        with self.lock:
            if turn == len(self.paths):
                self.paths.append(begun(self.address, {"prompt": "a castle at sunset", **LONG}))
            return self.paths[turn]

    def follow(self, path: str, number: int) -> None:
        """Until the job is final or the time is over; raises RuntimeError when the stream ends before."""
        request = f"GET {path}/events HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n\r\n".encode()
        with connected(self.address) as line:
            line.sendall(request)
            last = b""
            while time.monotonic() < self.until:
                heard = line.recv(65536)
                self.events[number] += heard.count(b"event: job")
                last = (last + heard)[-4096:]
                if not heard:
                    if b'"state": "done"' not in last:
                        raise RuntimeError(f"the stream broke off after {last[-200:]!r}")
                    return


if __name__ == "__main__":
    main()
