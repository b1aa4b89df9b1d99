"""Runs OpenStack Swift on one node with its s3api middleware: a real S3 server that pip can install.

It checks signatures and the expiry of links, which moto does not, and keeps objects on disk. Swift has
a virtual environment of its own because it patches sockets with eventlet.
https://docs.openstack.org/swift/latest/s3_compat.html
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.services.s3 import S3Server

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / "var" / "swift-venv"
REQUIREMENTS = Path(__file__).with_name("swift-requirements.txt")

ACCOUNT, USER, KEY = "memo", "tester", "a-secret-of-the-test-bench"
STORES = ("account", "container", "object")
START_SECONDS = 60
STOP_SECONDS = 10


class SwiftMissing(Exception):
    """Swift cannot run here; the message says what is missing."""


@contextmanager
def swift_server(folder: Path) -> Iterator[S3Server]:
    """Run Swift on free loopback ports, with data and logs in `folder`. Raises SwiftMissing."""
    python = ensure_swift_venv()
    check_xattrs(folder)
    ports = dict(zip(("proxy", *STORES), free_ports(4), strict=True))
    write_configuration(folder, ports)
    build_rings(python, folder, ports)
    with ExitStack() as running:
        processes = {name: running.enter_context(run_server(python, folder, name)) for name in ports}
        for name, process in processes.items():
            wait_for(ports[name], process, folder / f"{name}.log")
        yield S3Server(f"http://127.0.0.1:{ports['proxy']}", f"{ACCOUNT}:{USER}", KEY)


def ensure_swift_venv() -> Path:
    """Return the Python of Swift's virtual environment, created on first use; raises SwiftMissing if pip fails."""
    python = VENV / "bin" / "python"
    stamp = VENV / "requirements.sha256"
    checksum = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    VENV.parent.mkdir(exist_ok=True)
    with (VENV.parent / "swift-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test runs wait instead of installing twice
        if not stamp.exists() or stamp.read_text() != checksum:
            make_venv(python)
            stamp.write_text(checksum)
    return python


def make_venv(python: Path) -> None:
    """Create the virtual environment with the pinned packages; raises SwiftMissing with the end of pip's output."""
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise SwiftMissing(f"pip cannot install Swift: {done.stderr.strip()[-400:]}")


def check_xattrs(folder: Path) -> None:
    """Raise SwiftMissing if the file system has no extended attributes, where Swift keeps metadata."""
    try:
        os.setxattr(folder, "user.memoaized", b"x")
        os.removexattr(folder, "user.memoaized")
    except (OSError, AttributeError) as error:
        raise SwiftMissing(f"{folder} has no extended attributes: {error}") from error


def free_ports(count: int) -> list[int]:
    """Return different loopback ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def write_configuration(folder: Path, ports: dict[str, int]) -> None:
    """Create the folders and configuration files."""
    for name in ("etc", "devices/d1", "cache"):
        (folder / name).mkdir(parents=True)
    etc = folder / "etc"
    # Swift refuses to start without a salt for its hashes.
    (etc / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = memoaized\n")
    (etc / "proxy.conf").write_text(common_settings(folder, ports["proxy"]) + PROXY)
    for name in STORES:
        (etc / f"{name}.conf").write_text(common_settings(folder, ports[name]) + STORE.format(name=name))


def common_settings(folder: Path, port: int) -> str:
    """Return the beginning of all four configuration files."""
    user = pwd.getpwuid(os.geteuid()).pw_name  # otherwise Swift switches to the user "swift"
    return COMMON.format(folder=folder, port=port, user=user)


def build_rings(python: Path, folder: Path, ports: dict[str, int]) -> None:
    """Build the rings, which map objects to devices: one device, one replica."""
    servers = [f"{name}={ports[name]}" for name in STORES]
    subprocess.run([python, "-c", RINGS, *servers], cwd=folder / "etc", check=True, capture_output=True)


@contextmanager
def run_server(python: Path, folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of Swift's servers as a child process."""
    server = python.with_name(f"swift-{name}-server")
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([server, folder / "etc" / f"{name}.conf"], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until HTTP is answered with any status; raises RuntimeError with the end of the log if it never is."""
    deadline = time.monotonic() + START_SECONDS
    while not responds(f"http://127.0.0.1:{port}/info"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{log.stem} of Swift did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def responds(url: str) -> bool:
    """Return whether an HTTP server answers at the URL."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


RINGS = """
import sys
from swift.common.ring import RingBuilder

for server in sys.argv[1:]:
    name, port = server.split("=")
    ring = RingBuilder(4, 1, 1)  # 2**4 partitions, one replica, at most one move an hour
    node = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1}
    ring.add_dev(node)
    ring.rebalance()
    ring.get_ring().save(name + ".ring.gz")
"""

COMMON = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}/etc
devices = {folder}/devices
recon_cache_path = {folder}/cache
mount_check = false
disable_fallocate = true
log_address = {folder}/no-syslog-here
log_level = ERROR

"""

STORE = """[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}
"""

PROXY = f"""[pipeline:main]
pipeline = catch_errors listing_formats bulk s3api tempauth copy slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:bulk]
use = egg:swift#bulk

[filter:s3api]
use = egg:swift#s3api
location = us-east-1

[filter:tempauth]
use = egg:swift#tempauth
user_{ACCOUNT}_{USER} = {KEY} .admin

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo

[filter:dlo]
use = egg:swift#dlo
"""
