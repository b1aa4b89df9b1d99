"""The walls of the house. A failing test here is a question about design, not about code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real import ROOT

ROOMS = ("memo", "worker", "web", "memoaized")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
BARRED = {
    "memo": {"flask", "celery", "kombu", "redis", "diffusers", "worker", "web", "memoaized"},
    "worker": {"flask", "werkzeug", "gunicorn", "web", "memoaized", "boto3", "qdrant_client"},
    "web": {"torch", "diffusers", "transformers", "celery", "kombu", "redis", "boto3", "qdrant_client", "memoaized"},
    "memoaized": {"diffusers", "transformers", "celery", "boto3", "qdrant_client"},
}
TORCH = {"torch", "transformers", "sentence_transformers"}
WITH_TORCH = (
    "adapters compiled conditions decoder denoiser device diffusion families glance latents loop samplers stock"
    " upscaler"
)
TORCH_ROOMS = (
    "worker/export.py",
    "worker/text.py",
    "worker/judge/",
    "worker/train/",
    "worker/drawings/sheet.py",
    *(f"worker/painters/{part}.py" for part in WITH_TORCH.split()),
)
LAZY_TORCH = {
    "memo/cross_encoder.py",
    "memo/embed.py",
    "memoaized/doctor.py",
}  # inside a function, when it is asked for
FOLDERS = {*(f"worker/{part}" for part in ("drawings", "jobs", "judge", "painters", "train")), "memoaized/edge"}
ENTRIES = {"web/wsgi.py", "worker/main.py", "memoaized/cli.py", "memoaized/index_server.py"}
QUEUE_DOOR = {
    "worker/jobs/queue.py",
    "worker/jobs/board.py",
    "worker/jobs/events.py",
    "worker/celery_app.py",
    "worker/app.py",
}
JUNK = {"utils", "util", "helpers", "common", "misc", "base", "core", "manager", "service", "constants"}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path, *, top_only: bool = False) -> set[str]:
    """The first parts of all modules that a file imports, those inside functions included."""
    tree = ast.parse(file.read_text())
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_room_imports_only_what_it_may_know(file):
    room = name(file).split("/")[0]
    barred = set(BARRED[room])
    if name(file).startswith(TORCH_ROOMS):
        barred -= TORCH | {"diffusers"}
        barred |= {"celery", "redis"}
    elif name(file) not in LAZY_TORCH:
        barred |= TORCH | {"diffusers"}
    if name(file) in ("memo/s3.py", "memo/llm.py", "memo/index.py", "memo/questions.py", "worker/painters/remote.py"):
        barred -= {"boto3", "qdrant_client"}
    elif room == "memo":
        barred |= {"boto3", "qdrant_client"}
    assert not barred & imports(file)


@pytest.mark.parametrize("file", sorted(LAZY_TORCH))
def test_torch_is_imported_lazily_where_it_is_optional(file):
    assert not TORCH & imports(ROOT / file, top_only=True)


def test_redis_and_celery_stay_behind_the_queue():
    users = {name(file) for file in FILES if {"redis", "celery", "kombu"} & imports(file)}
    assert {file for file in users if file.startswith("worker/")} <= QUEUE_DOOR


def test_there_is_no_junk_drawer():
    assert not [name(file) for file in FILES if file.stem in JUNK]


def test_folders_are_one_level_deep():
    assert {name(file.parent) for file in FILES} <= {*ROOMS, *FOLDERS}


def test_the_environment_is_read_only_at_entries():
    readers = {name(file) for file in FILES if "os.environ" in file.read_text() or "getenv" in file.read_text()}
    assert readers <= ENTRIES


def edges(file: Path) -> set[str]:
    """The modules that a file imports when it is loaded, by their full names."""
    package = name(file.parent).replace("/", ".")
    nodes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom) and node.module]
    return {f"{package}.{node.module}" if node.level == 1 else str(node.module) for node in nodes}


def test_imports_make_no_cycle():
    modules = [name(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in FILES]
    graph = dict(zip(modules, map(edges, FILES), strict=True))
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join((*path, module))}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("room", ["memo", "web", "web.wsgi", "worker.jobs.queue", "worker.main", "memoaized.cli"])
def test_opening_a_room_wakes_no_torch(room):
    code = f"import sys, {room}; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers')))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_setting_is_documented():
    from dataclasses import fields

    from memo import MemoConfig
    from web.config import WebConfig
    from worker.config import WorkerConfig

    text = (ROOT / "docs" / "architecture.md").read_text()
    for prefix, kind in (("MEMO_", MemoConfig), ("WORKER_", WorkerConfig), ("WEB_", WebConfig)):
        for field in fields(kind):
            assert prefix + field.name.upper() in text, f"{prefix}{field.name.upper()} is not in docs/architecture.md"


def test_every_package_that_is_imported_is_declared():
    import tomllib

    text = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [text["dependencies"], *text["optional-dependencies"].values()]
    declared = {re.split(r"[\[=<>~!]", word)[0].replace("-", "_") for group in groups for word in group}
    known_as = {"PIL": "pillow", "botocore": "boto3", "kombu": "celery", "werkzeug": "flask", "markupsafe": "flask"}
    known_as |= {"qdrant_edge": "qdrant_edge_py", "pynvml": "nvidia_ml_py"}
    used = set().union(*map(imports, FILES)) - set(sys.stdlib_module_names) - {"_typeshed", *ROOMS}
    assert {known_as.get(module, module) for module in used} <= declared
