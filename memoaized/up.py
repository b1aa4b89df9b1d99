"""`memoaized up`: redis, index, web and workers as one product on this machine, over one data folder.

Everything ends together: on Ctrl-C, and when redis, index or web dies. A dead worker is replaced, since the queue
gives its work to another; one that keeps dying ends everything. Linux ends the parts even when this process is
killed; what is left elsewhere is ended at the next start.
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

from memo import BadSetup
from memo.onnx_embedder import ONNX_NAME, is_intact

from .child_processes import Part, end_leftovers, started_at, wait_until
from .redis_server import RedisPlan, find_redis, plan_redis

HOST = "127.0.0.1"  # where all parts listen, and the web unless it is told otherwise
EVERYWHERE = {"0.0.0.0": HOST, "::": "::1"}  # what means every address, and which of them is here
START_SECONDS = 180.0  # a slow disk loads torch for a minute
DEATHS, DEATHS_SECONDS = 5, 60.0  # so many deaths of one part within so long end everything


@dataclass(frozen=True, slots=True)
class Plan:
    """What `up` was asked for."""

    data: Path
    port: int
    workers: int
    models: Path
    host: str = HOST  # where the web listens

    @property
    def address(self) -> str:
        """Where the web listens, with its port."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """Where the web is reached from this machine."""
        return f"http://{bracketed(EVERYWHERE.get(self.host, self.host))}:{self.port}"


class Trouble(Exception):
    """Everything has to end; the message says why."""


def up(plan: Plan, environment: Mapping[str, str]) -> int:
    """Run until stopped; the exit status. Raises BadSetup when it cannot start."""
    data = plan.data.resolve()
    for folder in (data, data / "run", data / "secrets"):
        folder.mkdir(parents=True, exist_ok=True)
    (data / "secrets").chmod(0o700)
    with claimed(data):
        check_port(plan.host, plan.port)
        prepare_text_model(data / "text")
        stack = Stack(plan, data, environment)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: stack.stopping.set())
        return stack.run()


class claimed:
    """The data folder, for this process alone; ends what an earlier run left behind."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.lock = (data / "run" / "lock").open("a+")

    def __enter__(self) -> None:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.lock.seek(0)
            owner = self.lock.read().strip() or "unknown"
            self.lock.close()
            raise BadSetup(
                f"the data folder {self.data} is in use by process {owner}; stop that one, or give another --data"
            ) from error
        self.lock.truncate(0)
        self.lock.write(str(os.getpid()))
        self.lock.flush()
        record = self.data / "run" / "processes.json"
        if record.exists():
            left = end_leftovers({name: tuple(pair) for name, pair in json.loads(record.read_text()).items()})
            if left:
                say(f"ended what an earlier run had left: {', '.join(left)}")

    def __exit__(self, *_: object) -> None:
        (self.data / "run" / "processes.json").unlink(missing_ok=True)
        self.lock.truncate(0)
        self.lock.close()


class Stack:
    """The parts, from start to end."""

    def __init__(self, plan: Plan, data: Path, environment: Mapping[str, str]) -> None:
        self.plan, self.data = plan, data
        self.stopping = threading.Event()
        self.keys = environment.get("WEB_KEYS", "auto")
        self.reasons: dict[str, str] = {}  # by part: the last of our errors that it printed
        self.width = max(len("worker-99"), 5)
        self.redis = self.plan_redis(environment)
        self.parts = self.plan_parts(environment)

    def plan_redis(self, environment: Mapping[str, str]) -> RedisPlan:
        """The private server of this data folder."""
        return plan_redis(
            find_redis(dict(environment)),
            self.data,
            self.data / "run",
            password=secret(self.data / "secrets" / "redis"),
            free_port=free_port(),
        )

    def plan_parts(self, environment: Mapping[str, str]) -> list[Part]:
        """All parts in the order of their start."""
        index_port = free_port()
        env = self.environment(environment, index_port)
        gunicorn = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1"]
        gunicorn += ["--no-control-socket"]
        quiet = ["--graceful-timeout", "3", "--log-level", "warning", "--bind"]
        index = [*gunicorn, "--threads", "8", *quiet, f"{HOST}:{index_port}", "index_server.app:create()"]
        web = [*gunicorn, "--threads", "400", *quiet, self.plan.address, "web.wsgi:create()"]
        worker = [sys.executable, "-m", "celery", "--app", "worker.main:app", "--quiet", "worker"]
        worker += ["--pool", "threads", "--prefetch-multiplier", "1", "--loglevel", "WARNING"]
        worker += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname"]
        names = [f"worker-{number}" for number in range(1, self.plan.workers + 1)]
        return [
            Part("redis", self.redis.command, env, grace=10),
            Part("index", index, env, grace=10),
            Part("web", web, env, grace=8),
            *(Part(name, [*worker, f"{name}@%h"], env, grace=20, replaceable=True) for name in names),
        ]

    def environment(self, environment: Mapping[str, str], index_port: int) -> dict[str, str]:
        """What the parts read; see docs/architecture.md."""
        key = secret(self.data / "secrets" / "index")
        threads = environment.get("WORKER_THREADS", "1")
        root = str(Path(__file__).parent.parent)
        return {
            # Celery warns root of pickled messages; ours are JSON, and others are refused.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin cost a busy machine five times the time
            **environment,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH")))),
            "MEMO_INDEX": f"http://{HOST}:{index_port}",
            "MEMO_INDEX_KEY": key,
            "MEMO_STORE": f"file:{self.data / 'pictures'}",
            "MEMO_TEXT_FOLDER": str(self.data / "text"),
            "MEMO_STATES": str(self.data / "states"),
            "JOBS_REDIS": self.redis.url,
            "JOBS_MODELS": str(self.plan.models.resolve()),
            **webhook_secret(environment, self.data / "secrets" / "webhook"),
            "WORKER_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "INDEX_SERVER_FOLDER": str(self.data / "index"),
            "INDEX_SERVER_KEY": key,
        }

    def run(self) -> int:
        """Start everything, watch it, end it."""
        try:
            self.start()
            say(f"ready: {self.plan.url}   (Ctrl-C stops it; data in {self.data})")
            for line in advice(self.plan, self.data, self.keys):
                say(line)
            while not self.stopping.wait(0.2):
                self.watch()
            say("stopping")
            return 0
        except Trouble as trouble:
            say(f"stopping: {trouble}")
            return 0 if self.stopping.is_set() else 1
        finally:
            self.end()

    def start(self) -> None:
        """First redis and index, which the others ask at their start; then those, until a job can be served."""
        first, index, *others = self.parts
        self.launch(first)
        self.launch(index)
        self.await_ready("redis", self.redis_answers, interval=0.02)
        self.await_ready("index", lambda: answers(f"{index.environment['MEMO_INDEX']}/readyz"), interval=0.05)
        for part in others:
            self.launch(part)
        self.await_ready("everything", self.healthy, interval=0.5)

    def launch(self, part: Part) -> None:
        """Start a part and write down its pid for a later start."""
        self.reasons.pop(part.name, None)
        part.start(self.log)
        running = {p.name: (p.process.pid, started_at(p.process.pid)) for p in self.parts if p.process and p.alive}
        (self.data / "run" / "processes.json").write_text(json.dumps(running))

    def await_ready(self, what: str, ready: Callable[[], bool], *, interval: float) -> None:
        """Wait, but not for ever, and not when a part has died; raises Trouble."""
        if not wait_until(ready, seconds=START_SECONDS, interval=interval, meanwhile=self.watch):
            raise Trouble(f"{what} was not ready within {START_SECONDS:.0f} s")

    def watch(self) -> None:
        """Replace dead workers; raises Trouble when another part died, a worker dies all the time, or at Ctrl-C."""
        if self.stopping.is_set():
            raise Trouble("asked to")
        for part in self.parts:
            if part.process is None or part.alive:
                continue
            status = ": ".join(filter(None, (str(part.process.returncode), self.reasons.get(part.name))))
            if not part.replaceable:
                raise Trouble(f"{part.name} ended with status {status}")
            now = time.monotonic()
            part.deaths = [moment for moment in part.deaths if moment > now - DEATHS_SECONDS] + [now]
            if len(part.deaths) >= DEATHS:
                raise Trouble(f"{part.name} died {DEATHS} times within {DEATHS_SECONDS:.0f} s, last with {status}")
            wait = 0.5 * 2 ** (len(part.deaths) - 1)
            say(f"{part.name} ended with status {status}; starting it again in {wait:g} s")
            self.stopping.wait(wait)
            self.launch(part)

    def end(self) -> None:
        """People first, then the work, then what both stand on."""
        for group in (("web", "worker"), ("index",), ("redis",)):
            chosen = [part for part in self.parts if part.name.startswith(group)]
            for part in chosen:
                part.terminate()
            for part in chosen:
                part.end()
        say("stopped")

    def redis_answers(self) -> bool:
        """Whether redis has loaded its data."""
        try:
            with redis.Redis.from_url(self.redis.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def healthy(self) -> bool:
        """Whether the web process says that a job can be served."""
        return answers(f"{self.plan.url}/healthz")

    def log(self, name: str, line: str) -> None:
        """A line of a part, with its name before it."""
        if line.startswith("memo.errors."):  # the last line of a traceback
            self.reasons[name] = line.partition(": ")[2]
        print(f"{name:<{self.width}} | {line}", flush=True)


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def say(line: str) -> None:
    """A line of our own."""
    print(f"memoaized | {line}", flush=True)


def secret(path: Path) -> str:
    """The password in this file, drawn at first use; readable by the owner only."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        file.write(password := secrets.token_hex(24))
    return password


def webhook_secret(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """What webhooks are signed with, unless the environment says it."""
    said = {"JOBS_WEBHOOK_SECRET", "JOBS_WEBHOOK_SECRET_FILE"} & environment.keys()
    return {} if said else {"JOBS_WEBHOOK_SECRET": secret(path)}


def free_port() -> int:
    """A loopback port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """Raise BadSetup when something listens there already, or this machine has no such address."""
    try:
        [family, kind, _, _, address], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        fix = "give another --port" if host == HOST else "give another --port or --host"
        raise BadSetup(f"port {port} on {host} cannot be used ({error.strerror}); {fix}") from error


def bracketed(host: str) -> str:
    """As addresses of IPv6 stand before a port."""
    return f"[{host}]" if ":" in host else host


def advice(plan: Plan, data: Path, keys: str) -> list[str]:
    """What whoever starts it must know where others can reach it."""
    if is_here(plan.host):
        return []
    if keys == "off":
        return [f"WEB_KEYS=off: whoever reaches {plan.address} may do everything"]
    make = f"memoaized key add NAME --data {data}"
    return [f"it listens at {plan.address}, so that everybody needs a key, on this machine too: {make}"]


def is_here(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def prepare_text_model(folder: Path) -> None:
    """Export the text model on first use; raises BadSetup when torch is missing."""
    if is_intact(folder / ONNX_NAME):
        return
    say("preparing the text model (once, a few seconds)")
    try:
        from training.text_export import export_text_model
    except ImportError as error:
        raise BadSetup(f"preparing the text model needs torch: pip install 'memoaized[gpu]' ({error})") from error
    export_text_model(folder)
