"""`memoaized doctor`: reports what this machine has, what is missing, and the command that fixes it."""

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

from .redis_data import find_older_data
from .redis_server import find_redis

MIN_FREE_BYTES = 2 * 2**30  # on the disk of the data folder
PACKAGES = ("celery", "redis", "flask", "waitress", "qdrant-client", "qdrant-edge-py", "onnxruntime", "diffusers")
INSTALL = "pip install -c constraints.txt 'memoaized[gpu]'"
GIB = 2**30
WORKING_GIB = 1.0  # memory that painting needs besides the weights: an estimate for one picture at the default size
NEWEST = 20  # pictures whose painting times are averaged
COMPILERS = {"gcc": ("gcc", "cc", "clang"), "g++": ("g++", "c++", "clang++")}  # package: the commands that will do


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; the text of a fault says how to fix it."""

    name: str
    text: str
    fault: bool = False
    state: str = "ok"  # or on, off, tight

    def line(self) -> str:
        """Return the line to print."""
        return f"{'MISSING' if self.fault else self.state:<8} {self.name:<16} {self.text}"


def examine(data: Path, models: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Return all findings, those about the machine first."""
    return [
        Finding("python", describe_python()),
        *map(check_package, PACKAGES),
        run_check("redis", lambda: describe_redis(data, environment)),
        run_check("text weights", lambda: f"{minilm_folder().parent.name}, sha256 as published"),
        run_check("text model", lambda: describe_text_model(data / "text")),
        run_check("picture models", lambda: list_picture_models(models)),
        *check_painting(data, models, environment),
        run_check("data folder", lambda: check_data_folder(data)),
    ]


def run_check(name: str, check: Callable[[], str]) -> Finding:
    """Return the text of a check as a finding, or its MemoError as a fault."""
    try:
        return Finding(name, check())
    except MemoError as error:
        return Finding(name, str(error), fault=True)


def check_package(name: str) -> Finding:
    """Report the version of a package, or a fault if it is not installed."""
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, f"not installed: {INSTALL}", fault=True)


def describe_python() -> str:
    """Return the version of Python, the system and the number of cores."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{platform.python_version()} on {system}, {os.cpu_count()} cores"


def describe_redis(data: Path, environment: Mapping[str, str]) -> str:
    """Return the Redis server that `memoaized up` would run; raises BadSetup without one that may read the data."""
    binary = find_redis(dict(environment))
    older = find_older_data(binary.folder_in(data))
    return f"{binary}{f'; it will start on a copy of the data of {older.name}' if older else ''}"


def describe_text_model(folder: Path) -> str:
    """Return the state of the exported model; its absence is no fault, because the first start exports it."""
    path = folder / ONNX_NAME
    return f"{path}, intact" if is_intact(path) else f"not yet in {folder}; the first start exports it"


def list_picture_models(folder: Path) -> str:
    """Return the models with their revisions; raises BadSetup if one is faulty."""
    catalogue = Catalogue(folder)
    catalogue.check()
    return ", ".join(f"{model.name} {model.revision}" for model in catalogue.models().values())


def check_painting(data: Path, models: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Report the device of a worker with these settings, its speed-ups, and whether the models fit its memory."""
    try:
        config = WorkerConfig.from_env(environment)
        device = open_worker_device(config)
    except MemoError as error:
        return [Finding("device", str(error), fault=True)]
    return [
        Finding("device", f"{device}, {describe_device(device, config)}"),
        Finding("batch size", f"up to {config.painter_options().slots} pictures (WORKER_SLOTS={config.slots})"),
        *check_speed_ups(device, config),
        *(check_memory(model, device) for model in local_models(models)),
        Finding("seconds", painting_seconds(data / "pictures", models)),
    ]


def open_worker_device(config: WorkerConfig) -> Any:
    """Return the `worker.engine.device.Device` that a worker would use.

    Raises BadSetup without torch, without the GPU that WORKER_DEVICE names, and if torch cannot use the GPU of this
    machine, because a worker would then paint on the CPU without notice.
    """
    if find_spec("torch") is None:
        raise BadSetup(f"torch is not installed: {INSTALL}")
    import torch

    from worker.engine.device import open_device

    device = open_device(config.device, config.dtype)
    if config.device == AUTO and not device.cuda and (gpu := find_nvidia_gpu()):
        raise BadSetup(
            f"torch {torch.__version__} cannot use this machine's {gpu}: install torch for a CUDA that its "
            "driver supports (pytorch.org/get-started), or set WORKER_DEVICE=cpu to paint on the CPU"
        )
    return device


def find_nvidia_gpu() -> str:
    """Return the name of the driver's first NVIDIA GPU; empty without one."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except (ImportError, OSError):
        return ""
    except pynvml.NVMLError:
        return ""


def describe_device(device: Any, config: WorkerConfig) -> str:
    """Return the GPU's name, or the number of CPU threads."""
    import torch

    if device.cuda:
        return f"{torch.cuda.get_device_name(device.name)} (torch {torch.__version__})"
    threads = f"WORKER_THREADS={config.threads} of {os.cpu_count()} cores (torch {torch.__version__})"
    return f"{threads}; without a GPU, large models take minutes for each picture"


def check_speed_ups(device: Any, config: WorkerConfig) -> list[Finding]:
    """Report every speed-up as on or off, with the reason."""
    channels_last = "on GPUs, for models in the step loop" if device.cuda else "GPUs only"
    dtype = str(device.dtype).removeprefix("torch.")
    precision = f"numbers are {dtype}" + ("" if device.cuda else "; on a CPU WORKER_DTYPE=bfloat16 is rarely faster")
    return [
        Finding("bfloat16", precision, state=on_off(dtype == "bfloat16")),
        Finding("channels last", channels_last, state=on_off(device.cuda)),
        Finding("fused QKV", "only in compiled networks, because of adapters", state=on_off(config.compile != "0")),
        Finding("attention", attention_kernels(device), state="on"),
        check_compiling(device, config),
        Finding("CUDA graphs", "torch ties a graph to the thread that recorded it, and threads change", state="off"),
        check_energy_counter(device),
    ]


def on_off(is_on: bool) -> str:
    """Return "on" or "off"."""
    return "on" if is_on else "off"


def attention_kernels(device: Any) -> str:
    """Return the kernels among which torch chooses for scaled_dot_product_attention."""
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
    return f"scaled_dot_product_attention by {', '.join(name for name, enabled in kernels.items() if enabled)}"


def check_compiling(device: Any, config: WorkerConfig) -> Finding:
    """Report whether networks are compiled with torch.compile, and what is missing for it."""
    name, is_on = "torch.compile", config.compile != "0"
    compiler = "gcc" if device.cuda else "g++"
    missing = "" if any(map(shutil.which, COMPILERS[compiler])) else f"a compiler: apt-get install {compiler}"
    if device.cuda and not find_spec("triton"):
        missing = "the package triton: pip install triton"
    if not is_on:
        cost = f"; it would also need {missing}" if missing else "; compiling takes minutes at the start"
        return Finding(name, f"WORKER_COMPILE=1 turns it on{cost}", state="off")
    if missing:
        return Finding(name, f"WORKER_COMPILE={config.compile} needs {missing}", fault=True)
    scope = "for models in the step loop, at their default size and without adapters"
    return Finding(name, f"{scope}; takes minutes for each batch size at the start", state="on")


def check_energy_counter(device: Any) -> Finding:
    """Report whether energy is measured or estimated."""
    name = "energy counter"
    if not device.cuda:
        return Finding(name, "energy is estimated as WORKER_WATTS times the CPU time", state="off")
    try:
        nvml_counter(int(device.name.partition(":")[2] or 0))
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(name, f"energy is estimated from WORKER_WATTS: {error}", state="off")
    return Finding(name, "the GPU's own, read through NVML", state="on")


def local_models(folder: Path) -> list[Model]:
    """Return the models painted on this machine; empty if the folder is faulty, which another finding reports."""
    try:
        return [model for model in Catalogue(folder).models().values() if not model.remote]
    except BadSetup:
        return []


def check_memory(model: Model, device: Any) -> Finding:
    """Report an estimate of the memory that a model needs, and the memory of the device."""
    name = f"memory {model.name}"[:16]
    settings = json.loads((model.folder / "model.json").read_text())
    try:
        weights = sum(map(count_parameters, weight_files(model.folder, settings))) * device.dtype.itemsize / GIB
    except (OSError, SafetensorError) as error:
        return Finding(name, f"its weights cannot be read: {error}", fault=True)
    free, total = device_memory(device)
    available = f"{free:.1f} of {total:.1f} GiB are free on {device.name}"
    needed = weights + WORKING_GIB
    estimate = f"needs about {needed:.1f} GiB ({weights:.2f} for weights)"
    if not weights:
        needed = float(settings.get("min_gib", 0))
        estimate = "its weights are not downloaded yet" + (f"; it may need {needed:g} GiB" if needed else "")
    if needed > total:
        fix = "use a smaller model or a larger device"
        if settings.get("family") == PIPELINE:
            fix += ', or leave out parts with "without" in model.json'
        return Finding(name, f"{estimate}, but {available}: {fix}", fault=True)
    return Finding(name, f"{estimate}; {available}", state="ok" if needed <= free else "tight")


def weight_files(folder: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Return a model's files of weights, in its folder or in the hub's cache; `settings` is its model.json."""
    if "source" in settings:
        from huggingface_hub import constants

        name = "models--" + str(settings["source"]).replace("/", "--")
        folder = Path(constants.HF_HUB_CACHE, name, "snapshots", str(settings.get("hub_revision")))
    left_out = set(settings.get("without", ()))
    return (path for path in folder.rglob("*.safetensors") if path.relative_to(folder).parts[0] not in left_out)


def count_parameters(path: Path) -> int:
    """Return the number of parameters in a file of weights, read from its header."""
    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def device_memory(device: Any) -> tuple[float, float]:
    """Return the free and the total memory of the device, in GiB."""
    if device.cuda:
        import torch

        free, total = torch.cuda.mem_get_info(device.name)
        return free / GIB, total / GIB
    main_memory = psutil.virtual_memory()
    return main_memory.available / GIB, main_memory.total / GIB


def painting_seconds(pictures: Path, models: Path) -> str:
    """Return how long the default model took to paint a picture here: the median of the newest ones."""
    name = next((model.name for model in local_models(models)), "the default model")
    files = (path for path in pictures.rglob("[!.]*.png")) if pictures.is_dir() else iter(())
    newest = heapq.nlargest(NEWEST, files, key=lambda path: path.stat().st_mtime_ns)
    newest_pictures = filter(None, map(read_picture_file, newest))
    times = [picture.seconds for picture in newest_pictures if picture.recipe.model == name]
    if not times:
        return f"{name} has not painted here yet; `python -m bench.model` measures it"
    return f"{name} took {median(times):.1f} s per picture, the median of the newest {len(times)} here"


def read_picture_file(path: Path) -> Any:
    """Return the picture in a file, or None if the file is not one of our pictures."""
    try:
        return read_png(path.read_bytes())
    except (OSError, BadKey):
        return None


def check_data_folder(data: Path) -> str:
    """Return the free space of the data folder; raises BadSetup if it is too small, Unavailable if not writable."""
    open_store(f"file:{data.resolve()}").check()
    free = shutil.disk_usage(data).free
    if free < MIN_FREE_BYTES:
        raise BadSetup(f"{data} has only {free / GIB:.1f} GiB left: free some disk space or give another --data")
    return f"{data}, {free / GIB:.0f} GiB free"


def worker_alive(environment: Mapping[str, str]) -> bool:
    """Return whether a worker on this host has sent a recent heartbeat; raises Unavailable."""
    workers = open_job_store(JobsConfig.from_env(environment).redis).heartbeats.workers()
    alive = any(facts.get("host") == socket.gethostname() for facts in workers.values())
    if not alive:
        print(f"no worker on host {socket.gethostname()} has sent a recent heartbeat", file=sys.stderr)
    return alive
