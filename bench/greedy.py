"""What a greedy user costs the others, with the embedded parts: `memoaized up` with a key of a low quota.

The greedy user sends the slowest request of every dialect 60 times at once. Meanwhile the health check is timed, and
so are another user's answers from memory. That is repeated in rounds, because the 99th percentile of a few
measurements is just the slowest one. Then the greedy user sends the largest uploads, 20 at once, while the memory of
the web process is watched.
"""

import argparse
import base64
import http.client
import io
import itertools
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from bench.half_open import CHECK_SECONDS, percentile
from bench.hit import wait_until
from bench.web import ANSWER_SECONDS, MODELS, start_product
from jobs.api_keys import ApiKeys
from jobs.store.connection import open_connection
from memoaized.redis_server import read_redis_url

AT_ONCE = 60
UPLOADS_AT_ONCE = 20
HIT_SECONDS = 0.55  # between two answers from memory, within the usual rate of 120 a minute
DAILY = 30  # pictures a day of the greedy user
OTHERS_DAILY = 100_000  # of the other user, whose answers from memory all count
PROMPT, STEPS = "a castle at sunset", 150
SIDES = 4096, 3072  # px of the largest upload
OFF = {"memo": "off"}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    path: str
    body: bytes | None  # None for GET
    kind: str = "application/json"


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="for which the requests of a dialect go on")
    parser.add_argument("--rounds", type=int, default=5, help="how often the requests of all dialects are sent")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_product(Path(folder), MODELS, {"WEB_KEYS": "required", "WEB_LONG_REQUESTS": "30"}) as address,
    ):
        figures = measure(Path(folder), address, options.seconds, options.rounds)
    print(
        json.dumps(figures) if options.json else "\n".join(f"{name:<40} {value}" for name, value in figures.items())
    )


def measure(folder: Path, address: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of the others' requests beside each kind of greedy ones, the answers to those, and MiB of web."""
    api_keys = ApiKeys(open_connection(read_redis_url(folder / "run")))
    _, other = api_keys.add("other", daily=OTHERS_DAILY)
    _, first = api_keys.add("first", scope="other", daily=OTHERS_DAILY)  # these requests count towards its rate
    wait_until(lambda: send(address, first, jobs({"prompt": "a red fox in the snow"})) == 200)  # from memory
    web = find_web(folder)
    figures: dict[str, Any] = {}
    times, answers = defaultdict[str, Times](Times), defaultdict[str, Counter[int]](Counter)
    for number in range(rounds):
        with timed(times["alone"], address, other):
            time.sleep(seconds)
        for name, request in slow_requests().items():
            user = GreedyUser(address, greedy_key(api_keys, f"{name} {number}"), [request] * AT_ONCE)
            with timed(times[name], address, other), user:
                time.sleep(seconds)
            answers[name] += user.statuses
    for name, taken in times.items():
        figures |= {f"{name}: {what}": figure for what, figure in taken.figures().items()}
        if name in answers:
            figures[f"{name}: answers"] = dict(answers[name])
    figures["web MiB before"] = round(web.memory_info().rss / 2**20)
    for name, requests in largest_uploads().items():
        user = GreedyUser(address, greedy_key(api_keys, name), requests)
        with highest_memory(figures, name, web), user:
            user.wait()
        figures[f"{name}: answers"] = dict(user.statuses)
    return figures


def greedy_key(api_keys: ApiKeys, name: str) -> str:
    """A new key, whose quota nothing has used yet."""
    _, key = api_keys.add(name.replace(" ", "-"), daily=DAILY)
    return key


def slow_requests() -> dict[str, Request]:
    """The slowest request of each dialect."""
    photo = base64.b64encode(noise_png(900, 900)).decode()
    policy = {"alwayson_scripts": {"memoaized": {"args": [OFF]}}}
    images = {"prompt": PROMPT, "num_inference_steps": STEPS, "memo": {"policy": "off"}}
    return {
        "native": jobs({"prompt": PROMPT, "steps": STEPS, **OFF}),
        "openai": json_request("/v1/images/generations", images),
        "openai streams": json_request("/v1/images/generations", {**images, "stream": True}),
        "a1111": json_request("/sdapi/v1/txt2img", {"prompt": PROMPT, "steps": STEPS, **policy}),
        "a1111 img2img": json_request("/sdapi/v1/img2img", {"prompt": PROMPT, "init_images": [photo], **policy}),
        "horde": json_request("/api/v2/generate/async", {"prompt": PROMPT, "source_image": photo}),
        "gallery events": Request("/gallery/events", None),
    }


def largest_uploads() -> dict[str, list[Request]]:
    """The largest uploads of each dialect: noise, which is large as a file, and one colour, which is a small file."""
    files = [noise_png(2300, 2300), flat_png(*SIDES)]
    texts = [base64.b64encode(file).decode() for file in files]
    a1111 = [{"prompt": PROMPT, "init_images": [text]} for text in texts]
    horde = [{"prompt": PROMPT, "source_image": texts[1]}]
    return {
        "native uploads": several(Request("/api/v1/init-images", file, "image/png") for file in files),
        "a1111 uploads": several(json_request("/sdapi/v1/img2img", body) for body in a1111),
        "horde uploads": several(json_request("/api/v2/generate/async", body) for body in horde),
        "png-info": several(json_request("/sdapi/v1/png-info", {"image": text}) for text in texts),
    }


def several(requests: Iterable[Request]) -> list[Request]:
    """The requests in turn, UPLOADS_AT_ONCE in all."""
    return list(itertools.islice(itertools.cycle(requests), UPLOADS_AT_ONCE))


def json_request(path: str, body: object) -> Request:
    """A POST of JSON."""
    return Request(path, json.dumps(body).encode())


def jobs(body: object) -> Request:
    """A request for a picture by the native API."""
    return json_request("/api/v1/jobs", body)


def noise_png(width: int, height: int) -> bytes:
    """A PNG file of coloured noise: some 3 bytes a pixel."""
    return png(Image.frombytes("RGB", (width, height), os.urandom(3 * width * height)))


def flat_png(width: int, height: int) -> bytes:
    """A small PNG file of many pixels of one transparent colour."""
    return png(Image.new("RGBA", (width, height), (200, 30, 30, 128)))


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def send(address: str, key: str, request: Request, *, until: Callable[[], bool] = lambda: False) -> int:
    """The status of the answer, which is read until it ends or `until` is true; 0 if none came."""
    method, headers = ("GET", {}) if request.body is None else ("POST", {"Content-Type": request.kind})
    connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, request.path, request.body, {"Authorization": f"Bearer {key}", **headers})
        answer = connection.getresponse()
        while not until() and answer.read1(65536):
            pass
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Times:
    """How long health checks and answers from memory took, in milliseconds, and how many of them were refused."""

    def __init__(self) -> None:
        self.taken, self.refused = defaultdict[str, list[float]](list), Counter[int]()

    def figures(self) -> dict[str, Any]:
        """The 99th percentiles, each with the number of times, and the statuses of refused requests."""
        figures: dict[str, Any] = {}
        for what, taken in self.taken.items():
            figures |= {f"{what} p99 ms": percentile(taken, 99), f"{what} times": len(taken)}
        return figures | ({"others refused": dict(self.refused)} if self.refused else {})


@contextmanager
def timed(times: Times, address: str, key: str) -> Iterator[None]:
    """Time health checks and answers from memory during the block."""
    requests = {"healthz": Request("/healthz", None), "hit": jobs({"prompt": "a red fox in the snow"})}
    ended = threading.Event()

    def ask(what: str) -> None:
        while not ended.wait(CHECK_SECONDS if what == "healthz" else HIT_SECONDS):
            started = time.perf_counter()
            status = send(address, key, requests[what])
            times.taken[what].append(1000 * (time.perf_counter() - started))
            if status != 200:
                times.refused[status] += 1

    threads = [threading.Thread(target=ask, args=(what,)) for what in requests]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join()


class GreedyUser:
    """Sends requests at once, in a process of its own: here they would delay the stopwatch.

    `statuses` counts the answers.
    """

    def __init__(self, address: str, key: str, requests: Sequence[Request]) -> None:
        self.address, self.key, self.requests = address, key, requests
        spawn = multiprocessing.get_context("spawn")
        self.ready, self.beginning, self.stopping = spawn.Event(), spawn.Event(), spawn.Event()
        self.results = spawn.SimpleQueue()
        self.process = spawn.Process(target=self.run)
        self.statuses: Counter[int] = Counter()
        self.process.start()
        self.ready.wait()  # until it has imported everything, which takes a second of one core

    def __enter__(self) -> "GreedyUser":
        self.beginning.set()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.wait()

    def wait(self) -> None:
        """Wait for the answers."""
        if not self.statuses:
            self.statuses = Counter(self.results.get())
            self.process.join()

    def run(self) -> None:
        """Send each request by a thread of its own; those that are under way when the time is over are given up."""
        os.nice(19)  # real clients run on other machines: these must take no time from the server
        statuses = [0] * len(self.requests)

        def send_one(number: int) -> None:
            statuses[number] = send(self.address, self.key, self.requests[number], until=self.stopping.is_set)

        threads = [threading.Thread(target=send_one, args=(number,), daemon=True) for number in range(len(statuses))]
        self.ready.set()
        self.beginning.wait()
        for thread in threads:
            thread.start()
        while not self.stopping.wait(0.2) and any(thread.is_alive() for thread in threads):
            pass
        self.results.put(statuses)


def find_web(folder: Path) -> psutil.Process:
    """The web process of the product that runs in the folder."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "web.main" in command and str(folder) in " ".join(process.environ().values()):
            return process
    raise RuntimeError("the web process was not found")


@contextmanager
def highest_memory(figures: dict[str, Any], name: str, process: psutil.Process) -> Iterator[None]:
    """Note the most MiB that a process holds during the block, looking every 5 ms."""
    ended, most = threading.Event(), 0

    def look() -> None:
        nonlocal most
        while not ended.wait(0.005):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    yield
    ended.set()
    thread.join()
    figures[f"{name}: web MiB at most"] = round(most / 2**20)


if __name__ == "__main__":
    main()
