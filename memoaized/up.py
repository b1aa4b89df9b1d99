"""`memoaized up`: runs Redis, index, web and workers together on this machine, over one data folder.

Everything ends together: on Ctrl-C, and when Redis, index or web dies. A dead worker is replaced, because the queue
gives its job to another; a worker that keeps dying ends everything. On Linux the child processes end even when this
process is killed; elsewhere the next start ends those that are still running.
"""

import fcntl
import ipaddress
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from disk.disk_errors import explain, is_of_the_disk
from disk.durable_files import write_durably
from jobs.webhooks.signature import generate_secret
from memo import BadSetup
from memo.onnx_embedder import ONNX_NAME, is_intact

from .child_processes import ChildProcess, end_leftovers, started_at, wait_until
from .private_folder import close_folder
from .redis_server import RedisPlan, find_redis, plan_redis

# glibc keeps freed memory in an arena for each core and eight more; the threads of web read large pictures in turn
WEB_ALLOCATION = {"MALLOC_ARENA_MAX": "2"}
LOOPBACK = "127.0.0.1"  # where everything listens, except web if --host is given
WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # addresses that stand for all, and the loopback address of each
PROCESSES = "processes.json"  # in the folder `run`: what the next start ends if this one is killed
START_SECONDS = 180.0  # loading torch from a slow disk takes a minute
MAX_DEATHS, DEATHS_SECONDS = 5, 60.0  # a worker that dies this often within this time ends everything


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `memoaized up`."""

    data: Path
    port: int
    workers: int
    models: Path
    host: str = LOOPBACK  # where web listens

    @property
    def address(self) -> str:
        """The host and port at which web listens."""
        return f"{url_host(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of web on this machine."""
        return f"http://{url_host(WILDCARDS.get(self.host, self.host))}:{self.port}"


class Shutdown(Exception):
    """Raised to end everything; the message says why."""


def up(options: UpOptions, environment: Mapping[str, str]) -> int:
    """Run everything until it is stopped, and return the exit status. Raises BadSetup when it cannot start."""
    try:
        return run_in(options.data.resolve(), options, environment)
    except OSError as error:
        raise BadSetup(explain(error, error.filename or options.data.resolve())) from error


def run_in(data: Path, options: UpOptions, environment: Mapping[str, str]) -> int:
    """Run everything with a data folder; raises BadSetup and OSError."""
    for folder in (data, data / "run", data / "secrets"):
        if note := close_folder(folder):
            print_line(note)
    with DataFolderLock(data):
        check_port(options.host, options.port)
        prepare_text_model(data / "text")
        supervisor = Supervisor(options, data, environment)
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, lambda *_: supervisor.stopping.set())
        return supervisor.run()


class DataFolderLock:
    """Locks the data folder for this process, and ends processes that an earlier run left behind."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.lock = (data / "run" / "lock").open("a+")

    def __enter__(self) -> None:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.lock.seek(0)
            pid = self.lock.read().strip() or "unknown"
            self.lock.close()
            raise BadSetup(
                f"the data folder {self.data} is in use by process {pid}: stop that process, or give another --data"
            ) from error
        self.lock.truncate(0)
        self.lock.write(str(os.getpid()))
        self.lock.flush()
        if ended := end_leftovers(read_processes(self.data / "run" / PROCESSES)):
            print_line(f"ended processes of an earlier run: {', '.join(ended)}")

    def __exit__(self, *_: object) -> None:
        (self.data / "run" / PROCESSES).unlink(missing_ok=True)
        self.lock.truncate(0)
        self.lock.close()


def read_processes(record: Path) -> dict[str, tuple[int, float]]:
    """Return pid and start time of each process of an earlier run, by name; none if the record cannot be read."""
    try:
        pairs = json.loads(record.read_text()).items()
        return {name: (int(pid), float(started)) for name, (pid, started) in pairs if started is not None}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        print_line(f"ignoring {record}, which cannot be read: {error}")
        return {}


class Supervisor:
    """Starts the child processes, watches them and stops them."""

    def __init__(self, options: UpOptions, data: Path, environment: Mapping[str, str]) -> None:
        self.options, self.data = options, data
        self.stopping = threading.Event()
        self.keys = environment.get("WEB_KEYS", "auto")
        self.errors: dict[str, str] = {}  # the last error of ours that each child printed, by the child's name
        self.width = max(len("worker-99"), 5)  # of the column of names
        self.redis = self.plan_redis(environment)
        self.children = self.plan_children(environment)

    def plan_redis(self, environment: Mapping[str, str]) -> RedisPlan:
        """Return how to run this data folder's private Redis server."""
        return plan_redis(
            find_redis(dict(environment)),
            self.data,
            self.data / "run",
            password=read_or_create_secret(self.data / "secrets" / "redis"),
            free_port=free_port(),
            print_line=print_line,
        )

    def plan_children(self, environment: Mapping[str, str]) -> list[ChildProcess]:
        """Return all child processes in the order in which they start."""
        index_port = free_port()
        env = self.environment(environment, index_port)
        index = [sys.executable, "-m", "index_server.app", "--port", str(index_port)]
        web = [sys.executable, "-m", "web.main", "--host", self.options.host, "--port", str(self.options.port)]
        web += ["--grace", "3"]
        worker = [sys.executable, "-m", "celery", "--app", "worker.main:app", "--quiet", "worker"]
        worker += ["--pool", "threads", "--prefetch-multiplier", "1", "--loglevel", "WARNING"]
        worker += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname"]
        names = [f"worker-{number}" for number in range(1, self.options.workers + 1)]
        return [
            ChildProcess("redis", self.redis.command, env, grace=10),
            ChildProcess("index", index, env, grace=10),
            ChildProcess("web", web, {**env, **WEB_ALLOCATION}, grace=8),
            *(
                ChildProcess(name, [*worker, f"{name}@%h"], env, grace=20, replaceable=True, in_background=True)
                for name in names
            ),
        ]

    def environment(self, environment: Mapping[str, str], index_port: int) -> dict[str, str]:
        """Return the environment variables of the children; see docs/architecture.md."""
        key = read_or_create_secret(self.data / "secrets" / "index")
        threads = environment.get("WORKER_THREADS", "1")
        root = str(Path(__file__).parent.parent)
        return {
            # As root, Celery warns of pickled messages; ours are JSON, and any others are refused.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            "HF_HUB_OFFLINE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads make a busy machine five times slower
            **environment,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH")))),
            "MEMO_INDEX": f"http://{LOOPBACK}:{index_port}",
            "MEMO_INDEX_KEY": key,
            "MEMO_STORE": f"file:{self.data / 'pictures'}",
            "MEMO_TEXT_FOLDER": str(self.data / "text"),
            "MEMO_EMBEDDING_CACHE": str(self.data / "embeddings"),
            "JOBS_REDIS": self.redis.url,
            "JOBS_MODELS": str(self.options.models.resolve()),
            **webhook_secret(environment, self.data / "secrets" / "webhook-secret"),
            "WORKER_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "INDEX_SERVER_FOLDER": str(self.data / "index"),
            "INDEX_SERVER_KEY": key,
        }

    def run(self) -> int:
        """Start everything, watch it until it has to stop, and stop it; return the exit status."""
        try:
            self.start()
            print_line(f"ready: {self.options.url}   (stop with Ctrl-C; data in {self.data})")
            for line in access_notes(self.options, self.data, self.keys):
                print_line(line)
            while not self.stopping.wait(0.2):
                self.check_children()
            print_line("stopping")
            return 0
        except Shutdown as reason:
            print_line(f"stopping: {reason}")
            return 0 if self.stopping.is_set() else 1
        finally:
            self.stop_all()

    def start(self) -> None:
        """Start Redis and index first, because the others need them to start, then the others; wait until healthy."""
        redis_server, index, *others = self.children
        self.start_child(redis_server)
        self.start_child(index)
        self.wait_until_ready("Redis", self.redis_responds, interval=0.02)
        self.wait_until_ready(
            "index", lambda: responds_ok(f"{index.environment['MEMO_INDEX']}/readyz"), interval=0.05
        )
        for child in others:
            self.start_child(child)
        self.wait_until_ready("everything", self.is_healthy, interval=0.5)

    def start_child(self, child: ChildProcess) -> None:
        """Start a child and record the pids of all children for the next start of `memoaized up`."""
        self.errors.pop(child.name, None)
        child.start(self.log)
        alive = [(c.name, c.process.pid) for c in self.children if c.process and c.is_running]
        running = {name: (pid, started_at(pid)) for name, pid in alive}
        write_durably(self.data / "run" / PROCESSES, json.dumps(running), mode=0o600)

    def wait_until_ready(self, what: str, ready: Callable[[], bool], *, interval: float) -> None:
        """Wait until ready; raises Shutdown after START_SECONDS, or when a child dies."""
        if not wait_until(ready, seconds=START_SECONDS, interval=interval, check=self.check_children):
            raise Shutdown(f"{what} was not ready within {START_SECONDS:.0f} s")

    def check_children(self) -> None:
        """Restart dead workers; raises Shutdown on Ctrl-C, when another child dies, or a worker keeps dying."""
        if self.stopping.is_set():
            raise Shutdown("interrupted")
        for child in self.children:
            if child.process is None or child.is_running:
                continue
            status = ": ".join(filter(None, (str(child.process.returncode), self.errors.get(child.name))))
            if not child.replaceable:
                raise Shutdown(f"{child.name} ended with status {status}")
            now = time.monotonic()
            child.deaths = [moment for moment in child.deaths if moment > now - DEATHS_SECONDS] + [now]
            if len(child.deaths) >= MAX_DEATHS:
                times = f"{MAX_DEATHS} times within {DEATHS_SECONDS:.0f} s"
                raise Shutdown(f"{child.name} died {times}, last with status {status}")
            seconds = 0.5 * 2 ** (len(child.deaths) - 1)
            print_line(f"{child.name} ended with status {status}; restarting it in {seconds:g} s")
            self.stopping.wait(seconds)
            self.start_child(child)

    def stop_all(self) -> None:
        """Stop web and workers, then the index, then Redis, which the others use to the end."""
        for group in (("web", "worker"), ("index",), ("redis",)):
            members = [child for child in self.children if child.name.startswith(group)]
            for child in members:
                child.terminate()
            for child in members:
                child.wait()
        print_line("stopped")

    def redis_responds(self) -> bool:
        """Return whether Redis has loaded its data."""
        try:
            with redis.Redis.from_url(self.redis.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def is_healthy(self) -> bool:
        """Return whether web reports that jobs can be served."""
        return responds_ok(f"{self.options.url}/healthz")

    def log(self, name: str, line: str) -> None:
        """Print a child's line after the child's name."""
        if line.startswith(("memo.errors.", "index_server.errors.")):  # the last line of a traceback
            self.errors[name] = line.partition(": ")[2]
        elif is_of_the_disk(RuntimeError(line)):  # the words of Redis for it
            self.errors.setdefault(name, explain(RuntimeError(line), self.data))
        print(f"{name:<{self.width}} | {line}", flush=True)


def responds_ok(url: str) -> bool:
    """Return whether a GET request is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def print_line(line: str) -> None:
    """Print a line of `memoaized up` itself."""
    print(f"memoaized | {line}", flush=True)


def read_or_create_secret(path: Path, generate: Callable[[], str] = lambda: secrets.token_hex(24)) -> str:
    """Return the secret in this file. Only the owner can read the file.

    It is generated on first use, and anew if the file is empty, which a power cut may leave behind.
    """
    secret = path.read_text().strip() if path.exists() else ""
    if not secret:
        write_durably(path, secret := generate(), mode=0o600)
    return secret


def webhook_secret(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the setting with the secret that signs webhooks; empty if the environment has it already."""
    is_set = {"JOBS_WEBHOOK_SECRET", "JOBS_WEBHOOK_SECRET_FILE"} & environment.keys()
    return {} if is_set else {"JOBS_WEBHOOK_SECRET": read_or_create_secret(path, generate_secret)}


def free_port() -> int:
    """Return a loopback port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """Raise BadSetup when the port is in use, or this machine has no such address."""
    try:
        [family, kind, _, _, address], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        fix = "give another --port" if host == LOOPBACK else "give another --port or --host"
        raise BadSetup(f"cannot listen on port {port} of {host} ({error.strerror}): {fix}") from error


def url_host(host: str) -> str:
    """Return the host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def access_notes(options: UpOptions, data: Path, keys: str) -> list[str]:
    """Return lines that tell the operator who can use a web server that other machines can reach."""
    if is_loopback(options.host):
        return []
    if keys == "off":
        return [f"WEB_KEYS=off: anybody who can reach {options.address} may do everything"]
    command = f"memoaized key add NAME --data {data}"
    return [f"web listens at {options.address}, so everybody needs a key, on this machine too: {command}"]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def prepare_text_model(folder: Path) -> None:
    """Export the text model on first use; raises BadSetup when torch is missing."""
    if is_intact(folder / ONNX_NAME):
        return
    print_line("exporting the text model (once, takes a few seconds)")
    try:
        from training.text_export import export_text_model
    except ImportError as error:
        raise BadSetup(f"preparing the text model needs torch: pip install 'memoaized[gpu]' ({error})") from error
    export_text_model(folder)
