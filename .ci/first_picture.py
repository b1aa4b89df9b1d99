"""`make up` as a new user runs it: until the first picture has come, then Ctrl-C. Standard library only."""

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
PATIENCE = 900  # seconds, most of them for the installation


def main() -> None:
    """Start, ask, look, stop; any surprise ends with a traceback."""
    with tempfile.TemporaryDirectory() as data, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        began = time.monotonic()
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
            print(f"first_picture: the page was there after {time.monotonic() - began:.0f} s", flush=True)
            paint(f"http://127.0.0.1:{port}", process)
            print(f"first_picture: the first picture came after {time.monotonic() - began:.0f} s", flush=True)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            reader.join()
        assert any("memoaized | stopped" in line for line in lines), "it did not stop cleanly"


def paint(url: str, process: "subprocess.Popen[str]") -> None:
    """Ask for a picture, wait for it, and look at its first bytes; then ask again and have it from memory."""
    job = call(f"{url}/api/v1/jobs", PROMPT)
    until(lambda: call(url + job["links"]["self"])["state"] in ("done", "failed"), process)
    done = call(url + job["links"]["self"])
    assert done["state"] == "done", done
    with urllib.request.urlopen(url + done["picture"]["links"]["image"]) as answer:
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"
    assert call(f"{url}/api/v1/jobs", PROMPT)["origin"] == "memory"


def call(url: str, body: object = None) -> dict:
    """A JSON request."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return dict(json.loads(answer.read()))


def until(done, process: "subprocess.Popen[str]") -> None:
    """Wait, but not when the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert process.poll() is None, f"make up ended with status {process.returncode}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def copy(process: "subprocess.Popen[str]", lines: list[str]) -> None:
    """Show and keep what it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)


if __name__ == "__main__":
    main()
