"""`memoaized doctor`: what this machine has, what is missing, and the command that mends it."""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from memo import BadSetup, MemoError
from memo.embed import ONNX_NAME, intact
from memo.minilm import minilm_folder
from memo.store import open_store
from worker.board import open_board
from worker.catalogue import Catalogue
from worker.config import WorkerConfig

from .redis_server import find_redis

LEAST_FREE = 2 * 2**30  # bytes
PACKAGES = ("celery", "redis", "flask", "gunicorn", "qdrant-client", "qdrant-edge-py", "onnxruntime", "diffusers")
EXTRA = "pip install -c constraints.txt 'memoaized[gpu]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; a fault carries its remedy in the text."""

    name: str
    text: str
    fault: bool = False

    def line(self) -> str:
        """As printed."""
        return f"{'MISSING' if self.fault else 'ok':<8} {self.name:<16} {self.text}"


def examine(data: Path, models: Path, environment: Mapping[str, str]) -> list[Finding]:
    """All findings, the machine first."""
    return [
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {cores()}"),
        *map(package, PACKAGES),
        found("redis", lambda: redis(environment)),
        found("text weights", lambda: f"{minilm_folder().parent.name}, sha256 as published"),
        found("text model", lambda: text_model(data / "text")),
        found("picture models", lambda: picture_models(models)),
        found("painting on", accelerator),
        found("data folder", lambda: data_folder(data)),
    ]


def found(name: str, look: Callable[[], str]) -> Finding:
    """What was found, or the fault."""
    try:
        return Finding(name, look())
    except MemoError as error:
        return Finding(name, str(error), fault=True)


def package(name: str) -> Finding:
    """An installed package's version."""
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, f"not installed: {EXTRA}", fault=True)


def cores() -> str:
    """How many cores there are."""
    return f"{os.cpu_count()} cores"


def redis(environment: Mapping[str, str]) -> str:
    """The server binary that would be used."""
    binary = find_redis(dict(environment))
    return f"{binary.version} at {binary.path} (from {binary.source})"


def text_model(folder: Path) -> str:
    """The exported model; it is made at the first start, so that its absence is no fault."""
    path = folder / ONNX_NAME
    return f"{path}, intact" if intact(path) else f"not yet in {folder}; made at the first start"


def picture_models(folder: Path) -> str:
    """The models with their revisions; raises BadSetup."""
    return ", ".join(f"{model.name} {model.revision}" for model in Catalogue(folder).models().values())


def accelerator() -> str:
    """What torch would paint on; raises BadSetup without torch."""
    if find_spec("torch") is None:
        raise BadSetup(f"torch is not installed: {EXTRA}")
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (torch {torch.__version__})"
    return f"CPU, no GPU seen (torch {torch.__version__}): seconds per picture with the small model only"


def data_folder(data: Path) -> str:
    """Whether it can be written and has room; raises BadSetup or Unavailable."""
    open_store(f"file:{data.resolve()}").check()
    free = shutil.disk_usage(data).free
    if free < LEAST_FREE:
        raise BadSetup(f"{data} has {free / 2**30:.1f} GiB left: free some disk space or give another --data")
    return f"{data}, {free / 2**30:.0f} GiB free"


def worker_alive(environment: Mapping[str, str]) -> bool:
    """Whether a worker of this host has been heard of lately; raises Unavailable."""
    workers = open_board(WorkerConfig.from_env(environment).redis).workers()
    alive = any(facts.get("host") == socket.gethostname() for facts in workers.values())
    if not alive:
        print("no worker of this host is alive", file=sys.stderr)
    return alive
