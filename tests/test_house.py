"""The walls between the rooms. A failing test here is a question about design, not about code."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.real import ROOT

ROOMS = ("memo", "jobs", "worker", "training", "web", "index_server", "memoaized")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
MAY_IMPORT = {  # rooms, by the rooms that they may know; lazy imports count
    "memo": set(),
    "jobs": {"memo"},
    "worker": {"memo", "jobs"},
    "web": {"memo", "jobs"},
    "training": {"memo", "jobs", "worker"},
    "index_server": set(),
    "memoaized": {"memo", "jobs", "worker", "training", "index_server"},
}
WITHIN = {  # the same for folders of a room: "" are the files of the room itself
    "worker.engine": {"worker.engine"},
    "worker.stickers": {"worker.stickers", "worker.engine"},
    "worker.painters": {"worker.painters", "worker.stickers", "worker.engine"},
    "training.scenes": {"training.scenes", "training", "worker.stickers"},
    "web.api": {"web.api", "web"},
}
BARRED = {  # packages, by the rooms that must not know them
    "memo": {"flask", "celery", "kombu", "redis", "diffusers", "torch", "transformers", "boto3", "qdrant_client"},
    "jobs": {"flask", "werkzeug", "gunicorn", "torch", "transformers", "diffusers", "boto3", "qdrant_client"},
    "worker": {"flask", "werkzeug", "gunicorn", "boto3", "qdrant_client"},
    "web": {"torch", "diffusers", "transformers", "celery", "kombu", "redis", "boto3", "qdrant_client"},
    "training": {"flask", "werkzeug", "gunicorn", "boto3", "qdrant_client"},
    "index_server": {"torch", "diffusers", "transformers", "celery", "redis", "boto3", "qdrant_client"},
    "memoaized": {"diffusers", "transformers", "celery", "boto3", "qdrant_client"},
}
ADAPTERS = {  # files that speak with another system, or open what does
    "memo/index.py": {"qdrant_client"},
    "memo/qdrant_rest.py": {"qdrant_client"},
    "memo/store/s3.py": {"boto3"},
    "memo/judge/llm.py": {"boto3"},
    "memo/judge/cross_encoder.py": {"torch", "transformers"},
    "memo/embed.py": {"torch", "transformers"},
    "worker/painters/remote.py": {"boto3"},
    "memoaized/doctor.py": {"torch"},
}
LAZY = {"memo/judge/cross_encoder.py", "memo/embed.py", "memoaized/doctor.py"}  # torch inside functions only
QUEUE_DOOR = ("jobs/", "worker/app.py", "training/app.py")  # where Redis and Celery are spoken with
ENTRIES = {"web/wsgi.py", "worker/main.py", "training/main.py", "memoaized/cli.py", "index_server/app.py"}
MOST_MODULES = 16  # in one folder
LARGEST_ROOM = 0.25  # of all lines that are not tests
SAME_NAME = {  # modules that are the same thing in every folder
    *("__init__", "config", "errors", "app", "main", "port", "factory", "routes", "generation_request"),
}
JUNK = {"utils", "util", "helpers", "common", "misc", "base", "core", "manager", "service", "constants"}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def module_of(file: Path) -> str:
    return name(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def folder_of(module: str) -> str:
    """The folder that a module lies in; a package is its own folder."""
    return module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


def part_of(module: str) -> str:
    """The folder inside a room that a module lies in; a module of the room itself stands for itself."""
    folder = folder_of(module)
    return folder if "." in folder else module


@pytest.fixture(scope="module")
def graph():
    """Every import between the project's modules: lazy, relative and conditional ones included."""
    return grimp.build_graph(*ROOMS, cache_dir=None)


def imported(file: Path, *, top_only: bool = False) -> set[str]:
    """The first parts of all modules that a file imports, those inside functions included."""
    tree = ast.parse(file.read_text())
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def cycle_in(edges: dict[str, set[str]]) -> str:
    """A circle of imports as "a -> b -> a"; "" where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def test_modules_import_each_other_in_no_circle(graph):
    edges = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert not cycle_in(edges)


def test_folders_import_each_other_in_no_circle(graph):
    """Each folder inside a room counts as one: what `worker.engine` imports must not import `worker.engine`."""
    edges: dict[str, set[str]] = {}
    for module in graph.modules:
        part, others = part_of(module), graph.find_modules_directly_imported_by(module)
        edges.setdefault(part, set()).update({part_of(other) for other in others} - {part})
    assert not cycle_in(edges)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may_know(graph, room):
    modules = {room, *graph.find_descendants(room)}
    found = {other.split(".")[0] for module in modules for other in graph.find_modules_directly_imported_by(module)}
    assert found - {room} <= MAY_IMPORT[room]


@pytest.mark.parametrize("folder", WITHIN)
def test_a_folder_imports_only_the_folders_of_its_room_that_it_may_know(graph, folder):
    room = folder.split(".")[0]
    modules = {folder, *graph.find_descendants(folder)}
    others = {other for module in modules for other in graph.find_modules_directly_imported_by(module)}
    found = {folder_of(other) for other in others if other.split(".")[0] in (room, "worker")}
    assert found <= WITHIN[folder] | {folder_of(folder)}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_imports_only_the_packages_that_it_may_know(file):
    barred = BARRED[name(file).split("/")[0]] - ADAPTERS.get(name(file), set())
    assert not barred & imported(file)


@pytest.mark.parametrize("file", sorted(LAZY))
def test_torch_is_imported_lazily_where_it_is_optional(file):
    assert not {"torch", "transformers"} & imported(ROOT / file, top_only=True)


def test_redis_and_celery_stay_behind_the_queue():
    users = {name(file) for file in FILES if {"redis", "celery", "kombu"} & imported(file)}
    assert {file for file in users if not file.startswith(QUEUE_DOOR)} <= {"memoaized/doctor.py", "memoaized/up.py"}


def test_there_is_no_junk_drawer():
    assert not [name(file) for file in FILES if file.stem in JUNK]


def test_no_two_modules_share_a_name():
    stems = Counter(file.stem for file in FILES if file.stem not in SAME_NAME)
    assert not [stem for stem, count in stems.items() if count > 1]


def test_no_two_public_classes_share_a_name():
    """But for the knobs of each training run."""
    trees = [ast.parse(file.read_text()) for file in FILES]
    classes = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert not [known for known, count in classes.items() if count > 1 and known != "Knobs"]


def test_a_folder_holds_few_modules():
    folders = Counter(name(file.parent) for file in FILES)
    assert not {folder: count for folder, count in folders.items() if count > MOST_MODULES}


def test_no_room_is_much_larger_than_the_others():
    lines: Counter[str] = Counter()
    for file in FILES:
        lines[name(file).split("/")[0]] += len(file.read_text().splitlines())
    room, most = lines.most_common(1)[0]
    assert most <= LARGEST_ROOM * lines.total(), room


def test_folders_are_one_level_deep():
    assert not [name(file) for file in FILES if len(file.relative_to(ROOT).parts) > 3]


def test_the_environment_is_read_only_at_entries():
    readers = {name(file) for file in FILES if "os.environ" in file.read_text() or "getenv" in file.read_text()}
    assert readers <= ENTRIES


@pytest.mark.parametrize("room", ["memo", "web", "web.wsgi", "jobs.queue", "worker.main", "memoaized.cli"])
def test_opening_a_room_wakes_no_torch(room):
    code = f"import sys, {room}; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers')))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_setting_is_documented():
    from dataclasses import fields

    from jobs.config import JobsConfig
    from memo import MemoConfig
    from web.config import WebConfig
    from worker.config import WorkerConfig

    text = (ROOT / "docs" / "architecture.md").read_text()
    kinds = {"MEMO_": MemoConfig, "JOBS_": JobsConfig, "WORKER_": WorkerConfig, "WEB_": WebConfig}
    for prefix, kind in kinds.items():
        for field in fields(kind):
            assert prefix + field.name.upper() in text, f"{prefix}{field.name.upper()} is not in docs/architecture.md"


def test_every_package_that_is_imported_is_declared():
    import tomllib

    text = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [text["dependencies"], *text["optional-dependencies"].values()]
    declared = {re.split(r"[\[=<>~!]", word)[0].replace("-", "_") for group in groups for word in group}
    known_as = {"PIL": "pillow", "botocore": "boto3", "kombu": "celery", "werkzeug": "flask", "markupsafe": "flask"}
    known_as |= {"qdrant_edge": "qdrant_edge_py", "pynvml": "nvidia_ml_py"}
    used = set().union(*map(imported, FILES)) - set(sys.stdlib_module_names) - {"_typeshed", *ROOMS}
    assert {known_as.get(module, module) for module in used} <= declared
