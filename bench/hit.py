"""What an answer from memory costs beside painting: the whole product over HTTP, on this machine.

Starts `memoaized up` in a temporary folder, has a few prompts painted, then asks for them again in the same words,
one after another, and looks up others that are misses. Does not measure load: that is for `bench.web`.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from memoaized.up import free_port

THINGS = ("a red fox in the snow", "a yellow car", "a castle at sunset", "a fish under water")
REPEATS = 50


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as data:
        port = free_port()
        command = [sys.executable, "-m", "memoaized.cli", "up", "--port", str(port), "--data", data]
        stack = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            figures = measure(f"http://127.0.0.1:{port}")
        finally:
            stack.send_signal(signal.SIGINT)
            stack.wait(60)
    print(json.dumps(figures) if as_json else "\n".join(f"{name:<28} {value}" for name, value in figures.items()))


def measure(url: str) -> dict[str, float]:
    """Seconds to paint, milliseconds to remember, and how many times less."""
    wait(lambda: call(f"{url}/healthz") is not None)
    ask(url, "a warm up")
    painted = [timed(ask, url, prompt) for prompt in THINGS]
    same = [timed(ask, url, prompt) for prompt in THINGS * REPEATS]
    other = [prompt.replace("a ", "an odd ", 1) + f" {number}" for number in range(REPEATS) for prompt in THINGS]
    missed = [timed(post, url, prompt) for prompt in other]
    return {
        "painted_s": round(statistics.median(painted), 2),
        "same_words_p50_ms": round(statistics.median(same) * 1000, 1),
        "same_words_p99_ms": round(statistics.quantiles(same, n=100)[98] * 1000, 1),
        "miss_p50_ms": round(statistics.median(missed) * 1000, 1),
        "painted_over_same_words": round(statistics.median(painted) / statistics.median(same)),
    }


def timed(work: Callable[[str, str], object], url: str, prompt: str) -> float:
    """Seconds."""
    began = time.perf_counter()
    work(url, prompt)
    return time.perf_counter() - began


def ask(url: str, prompt: str) -> None:
    """Until the picture is there."""
    job = post(url, prompt)
    wait(lambda: (call(url + job["links"]["self"]) or {}).get("state") == "done")


def post(url: str, prompt: str) -> dict[str, Any]:
    """Submit and do not wait."""
    answer = call(f"{url}/api/v1/jobs", {"prompt": prompt})
    assert answer is not None
    return answer


def call(url: str, body: object = None) -> dict[str, Any] | None:
    """A JSON request; None when nobody answers."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))
    except OSError:
        return None


def wait(done: Callable[[], bool], seconds: float = 300) -> None:
    """Poll; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
