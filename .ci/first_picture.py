"""Run `make up` as a new user would, until the first picture is painted, then Ctrl-C. Standard library only."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

PROMPT = {"prompt": "a red fox in the snow"}
TIMEOUT_SECONDS = 900  # most of them for the installation


def main() -> None:
    """Start everything, paint a picture and stop; any error ends with a traceback."""
    with tempfile.TemporaryDirectory() as data, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        started_at = time.monotonic()
        process = subprocess.Popen(
            ["make", "up", f"PORT={port}", f"DATA={data}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines: list[str] = []
        reader = threading.Thread(target=copy, args=(process, lines))
        reader.start()
        try:
            until(lambda: any("ready: http" in line for line in lines), process)
            print(f"first_picture: the page was ready after {time.monotonic() - started_at:.0f} s", flush=True)
            paint(f"http://127.0.0.1:{port}", process)
            print(
                f"first_picture: painted the first picture after {time.monotonic() - started_at:.0f} s",
                flush=True,
            )
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            reader.join()
        assert any("memoaized | stopped" in line for line in lines), "it did not stop cleanly"


def paint(url: str, process: "subprocess.Popen[str]") -> None:
    """Request a picture and check its first bytes; then request it again and get it from memory."""
    job = call(f"{url}/api/v1/jobs", PROMPT)
    until(lambda: call(url + job["links"]["self"])["state"] in ("done", "failed"), process)
    done = call(url + job["links"]["self"])
    assert done["state"] == "done", done
    with urllib.request.urlopen(url + done["picture"]["links"]["image"]) as answer:
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"
    assert call(f"{url}/api/v1/jobs", PROMPT)["origin"] == "memory"


def call(url: str, body: object = None) -> dict:
    """Send a JSON request and return the answer."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return dict(json.loads(answer.read()))


def until(done, process: "subprocess.Popen[str]") -> None:
    """Wait until `done` is true; fails when the process ends or the time is up."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not done():
        assert process.poll() is None, f"make up ended with status {process.returncode}"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def copy(process: "subprocess.Popen[str]", lines: list[str]) -> None:
    """Print and collect the lines of the process."""
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)


if __name__ == "__main__":
    main()
