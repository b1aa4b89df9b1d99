"""How long an answer from memory takes, compared with painting: the whole product over HTTP, on this machine.

Starts `memoaized up` in a temporary folder, paints a few prompts, then requests them again in the same words, one
after another, and submits prompts that are misses. `bench.web` measures load.
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

PROMPTS = ("a red fox in the snow", "a yellow car", "a castle at sunset", "a fish under water")
REPEATS = 50


def main() -> None:
    """Print a table, or with --json one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as data:
        port = free_port()
        command = [sys.executable, "-m", "memoaized.cli", "up", "--port", str(port), "--data", data]
        product = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            figures = measure(f"http://127.0.0.1:{port}")
        finally:
            product.send_signal(signal.SIGINT)
            product.wait(60)
    print(json.dumps(figures) if as_json else "\n".join(f"{name:<28} {value}" for name, value in figures.items()))


def measure(url: str) -> dict[str, float]:
    """Seconds to paint, milliseconds of an answer from memory and of a miss, and painting relative to memory."""
    wait_until(lambda: send_json(f"{url}/healthz") is not None)
    get_picture(url, "a warm up")
    painted = [time_call(get_picture, url, prompt) for prompt in PROMPTS]
    hits = [time_call(get_picture, url, prompt) for prompt in PROMPTS * REPEATS]
    misses = [prompt.replace("a ", "an odd ", 1) + f" {number}" for number in range(REPEATS) for prompt in PROMPTS]
    missed = [time_call(submit, url, prompt) for prompt in misses]
    return {
        "painted_s": round(statistics.median(painted), 2),
        "same_words_p50_ms": round(statistics.median(hits) * 1000, 1),
        "same_words_p99_ms": round(statistics.quantiles(hits, n=100)[98] * 1000, 1),
        "miss_p50_ms": round(statistics.median(missed) * 1000, 1),
        "painted_over_same_words": round(statistics.median(painted) / statistics.median(hits)),
    }


def time_call(request: Callable[[str, str], object], url: str, prompt: str) -> float:
    """Seconds that `request(url, prompt)` takes."""
    started = time.perf_counter()
    request(url, prompt)
    return time.perf_counter() - started


def get_picture(url: str, prompt: str) -> None:
    """Submit a prompt and wait until its picture is painted or remembered."""
    job = submit(url, prompt)
    wait_until(lambda: (send_json(url + job["links"]["self"]) or {}).get("state") == "done")


def submit(url: str, prompt: str) -> dict[str, Any]:
    """Submit a prompt; returns the job."""
    answer = send_json(f"{url}/api/v1/jobs", {"prompt": prompt})
    assert answer is not None
    return answer


def send_json(url: str, body: object = None) -> dict[str, Any] | None:
    """POST the body, or GET without one; returns the JSON of the answer, None on any error."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))
    except OSError:
        return None


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Poll until `condition()` is true; raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done after {seconds:.0f} s")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
