"""`memoaized doctor`: what this machine has, what is missing, and the command that mends it."""

import heapq
import json
import math
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from safetensors import SafetensorError, safe_open

from jobs.config import JobsConfig
from jobs.models import PIPELINE, Catalogue, Model
from jobs.store.job_store import open_job_store
from memo import BadKey, BadSetup, MemoError, read_png
from memo.minilm import minilm_folder
from memo.onnx_embedder import ONNX_NAME, is_intact
from memo.store import open_store
from worker.config import AUTO, WorkerConfig
from worker.engine.energy import nvml_counter

from .redis_server import find_redis

LEAST_FREE = 2 * 2**30  # bytes
PACKAGES = ("celery", "redis", "flask", "gunicorn", "qdrant-client", "qdrant-edge-py", "onnxruntime", "diffusers")
EXTRA = "pip install -c constraints.txt 'memoaized[gpu]'"
GIB = 2**30
ROOM = 1.0  # GiB that painting takes beside the weights: an estimate for one picture at a model's own size
NEWEST = 20  # pictures whose seconds are looked at
COMPILERS = {"gcc": ("gcc", "cc", "clang"), "g++": ("g++", "c++", "clang++")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; a fault carries its remedy in the text."""

    name: str
    text: str
    fault: bool = False
    state: str = "ok"  # or on, off

    def line(self) -> str:
        """As printed."""
        return f"{'MISSING' if self.fault else self.state:<8} {self.name:<16} {self.text}"


def examine(data: Path, models: Path, environment: Mapping[str, str]) -> list[Finding]:
    """All findings, the machine first."""
    return [
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {cores()}"),
        *map(package, PACKAGES),
        found("redis", lambda: redis(environment)),
        found("text weights", lambda: f"{minilm_folder().parent.name}, sha256 as published"),
        found("text model", lambda: text_model(data / "text")),
        found("picture models", lambda: picture_models(models)),
        *painting(data, models, environment),
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
    return f"{path}, intact" if is_intact(path) else f"not yet in {folder}; made at the first start"


def picture_models(folder: Path) -> str:
    """The models with their revisions; raises BadSetup."""
    catalogue = Catalogue(folder)
    catalogue.check()
    return ", ".join(f"{model.name} {model.revision}" for model in catalogue.models().values())


def painting(data: Path, models: Path, environment: Mapping[str, str]) -> list[Finding]:
    """What a worker with these settings would paint on, how fast it can be there, and whether the models fit."""
    try:
        config = WorkerConfig.from_env(environment)
        device = device_of(config)
    except MemoError as error:
        return [Finding("painting on", str(error), fault=True)]
    return [
        Finding("painting on", f"{device}, {where(device, config)}"),
        Finding("at once", f"up to {config.means().slots} in one step (WORKER_SLOTS={config.slots})"),
        *speed_ups(device, config),
        *(room(model, device) for model in local_models(models)),
        Finding("seconds", seconds(data / "pictures", models)),
    ]


def device_of(config: WorkerConfig) -> Any:
    """The `worker.engine.device.Device` it would be; raises BadSetup without torch or the GPU that is asked for,
    and where a GPU is there that torch cannot use, for then painting would fall to the CPU unasked.
    """
    if find_spec("torch") is None:
        raise BadSetup(f"torch is not installed: {EXTRA}")
    import torch

    from worker.engine.device import open_device

    device = open_device(config.device, config.dtype)
    if config.device == AUTO and not device.cuda and (gpus := gpus_of_driver()):
        raise BadSetup(
            f"here is a {gpus}, and torch {torch.__version__} cannot use it: install torch for a CUDA that its "
            "driver supports (pytorch.org/get-started), or say WORKER_DEVICE=cpu to paint on the CPU"
        )
    return device


def gpus_of_driver() -> str:
    """The first NVIDIA GPU that the driver knows; empty without one."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except (ImportError, OSError):
        return ""
    except pynvml.NVMLError:
        return ""


def where(device: Any, config: WorkerConfig) -> str:
    """The GPU by name, or how many threads of the CPU."""
    import torch

    if device.cuda:
        return f"{torch.cuda.get_device_name(device.name)} (torch {torch.__version__})"
    threads = f"WORKER_THREADS={config.threads} of {os.cpu_count()} cores (torch {torch.__version__})"
    return f"{threads}; no GPU is there, so large models take minutes a picture"


def speed_ups(device: Any, config: WorkerConfig) -> list[Finding]:
    """What makes painting faster there, each on or off and why."""
    gpu = "on GPUs, for models in the step loop" if device.cuda else "GPUs only"
    kind = str(device.kind).removeprefix("torch.")
    half = f"numbers are {kind}" + ("" if device.cuda else "; on a CPU WORKER_DTYPE=bfloat16 is rarely faster")
    return [
        Finding("bfloat16", half, state=on(kind == "bfloat16")),
        Finding("channels last", gpu, state=on(device.cuda)),
        Finding("fused QKV", "in what is compiled alone, for adapters", state=on(config.compile != "0")),
        Finding("attention", attention(device), state="on"),
        compiling(device, config),
        Finding("CUDA graphs", "torch ties them to the thread that recorded them, and threads change", state="off"),
        counter(device),
    ]


def on(yes: bool) -> str:
    """In a word."""
    return "on" if yes else "off"


def attention(device: Any) -> str:
    """Which kernels torch may choose from for scaled_dot_product_attention."""
    if not device.cuda:
        return "scaled_dot_product_attention, torch's own for CPUs"
    import torch

    cuda: Any = torch.backends.cuda
    kernels = {
        "flash": cuda.flash_sdp_enabled() and cuda.is_flash_attention_available(),
        "cuDNN": cuda.cudnn_sdp_enabled(),
        "memory-efficient": cuda.mem_efficient_sdp_enabled(),
        "plain": cuda.math_sdp_enabled(),
    }
    return f"scaled_dot_product_attention by {', '.join(name for name, there in kernels.items() if there)}"


def compiling(device: Any, config: WorkerConfig) -> Finding:
    """Whether networks go through torch.compile, and whether they could."""
    name, wanted = "torch.compile", config.compile != "0"
    compiler = "gcc" if device.cuda else "g++"
    missing = "" if any(map(shutil.which, COMPILERS[compiler])) else f"a compiler: apt-get install {compiler}"
    if device.cuda and not find_spec("triton"):
        missing = "the package triton: pip install triton"
    if not wanted:
        more = f"; it would want {missing}" if missing else ", minutes at the start"
        return Finding(name, f"WORKER_COMPILE=1 turns it on{more}", state="off")
    if missing:
        return Finding(name, f"WORKER_COMPILE={config.compile} wants {missing}", fault=True)
    said = "for models in the step loop, in their own size and without adapters; minutes for each width at the start"
    return Finding(name, said, state="on")


def counter(device: Any) -> Finding:
    """Whether energy is measured."""
    name = "energy counter"
    if not device.cuda:
        return Finding(name, "joules are estimated, WORKER_WATTS for each second of a core's work", state="off")
    try:
        nvml_counter(int(device.name.partition(":")[2] or 0))
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(name, f"joules are estimated by WORKER_WATTS: {error}", state="off")
    return Finding(name, "the GPU's own, by NVML", state="on")


def local_models(folder: Path) -> list[Model]:
    """Those that are painted here; none where the folder is faulty, which is told elsewhere."""
    try:
        return [model for model in Catalogue(folder).models().values() if not model.remote]
    except BadSetup:
        return []


def room(model: Model, device: Any) -> Finding:
    """What a model wants of the device's memory, estimated, and what there is."""
    name = f"memory {model.name}"[:16]
    about = json.loads((model.folder / "model.json").read_text())
    try:
        weights = sum(map(numbers, weights_of(model.folder, about))) * device.kind.itemsize / GIB
    except (OSError, SafetensorError) as error:
        return Finding(name, f"its weights cannot be read: {error}", fault=True)
    free, all_there = memory(device)
    there = f"{free:.1f} of {all_there:.1f} GiB are free on {device.name}"
    wants = weights + ROOM
    said = f"wants about {wants:.1f} GiB ({weights:.2f} of weights)"
    if not weights:
        wants = float(about.get("least_gib", 0))
        said = "its weights are not here yet" + (f", it may want {wants:g} GiB" if wants else "")
    if wants > all_there:
        remedy = "take a smaller model, or a larger device"
        if about.get("family") == PIPELINE:
            remedy += ', or leave parts out by "without" in model.json'
        return Finding(name, f"{said}, but {there}: {remedy}", fault=True)
    return Finding(name, f"{said}; {there}", state="ok" if wants <= free else "tight")


def weights_of(folder: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """The files of weights, in its folder or in the hub's cache."""
    if "source" in about:
        from huggingface_hub import constants

        name = "models--" + str(about["source"]).replace("/", "--")
        folder = Path(constants.HF_HUB_CACHE, name, "snapshots", str(about.get("hub_revision")))
    left_out = set(about.get("without", ()))
    return (path for path in folder.rglob("*.safetensors") if path.relative_to(folder).parts[0] not in left_out)


def numbers(path: Path) -> int:
    """How many numbers a file of weights holds, by its header."""
    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def memory(device: Any) -> tuple[float, float]:
    """Free and in all, in GiB."""
    if device.cuda:
        import torch

        free, there = torch.cuda.mem_get_info(device.name)
        return free / GIB, there / GIB
    main = psutil.virtual_memory()
    return main.available / GIB, main.total / GIB


def seconds(pictures: Path, models: Path) -> str:
    """What the default model took for a picture here, as its newest ones say."""
    name = next((model.name for model in local_models(models)), "the default model")
    files = (path for path in pictures.rglob("[!.]*.png")) if pictures.is_dir() else iter(())
    newest = heapq.nlargest(NEWEST, files, key=lambda path: path.stat().st_mtime_ns)
    took = [picture.seconds for path in newest if (picture := kept(path)) and picture.recipe.model == name]
    if not took:
        return f"{name} has not painted here yet; `python -m bench.model` measures it"
    return f"{name} took {median(took):.1f} s a picture, the middle of the newest {len(took)} here"


def kept(path: Path) -> Any:
    """The picture of a file, or None if it is none."""
    try:
        return read_png(path.read_bytes())
    except (OSError, BadKey):
        return None


def data_folder(data: Path) -> str:
    """Whether it can be written and has room; raises BadSetup or Unavailable."""
    open_store(f"file:{data.resolve()}").check()
    free = shutil.disk_usage(data).free
    if free < LEAST_FREE:
        raise BadSetup(f"{data} has {free / 2**30:.1f} GiB left: free some disk space or give another --data")
    return f"{data}, {free / 2**30:.0f} GiB free"


def worker_alive(environment: Mapping[str, str]) -> bool:
    """Whether a worker of this host has been heard of lately; raises Unavailable."""
    workers = open_job_store(JobsConfig.from_env(environment).redis).heartbeats.workers()
    alive = any(facts.get("host") == socket.gethostname() for facts in workers.values())
    if not alive:
        print("no worker of this host is alive", file=sys.stderr)
    return alive
