"""The walls between the rooms. A failure here is a question about design, not about code."""

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

ROOMS = ("disk", "memo", "jobs", "worker", "training", "web", "index_server", "memoaized")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
MAY_IMPORT = {  # the rooms that each room may import; lazy imports count
    "disk": set(),
    "memo": {"disk"},
    "jobs": {"memo"},
    "worker": {"memo", "jobs"},
    "web": {"memo", "jobs"},
    "training": {"disk", "memo", "jobs", "worker"},
    "index_server": {"disk"},
    "memoaized": {"disk", "memo", "jobs", "worker", "training", "index_server"},
}
FOLDER_MAY_IMPORT = {  # the rooms, and the folders of its own room, that each folder may import
    "memo.image_files": {"memo"},
    "memo.judge": {"memo"},
    "memo.store": {"disk", "memo", "memo.image_files"},
    "jobs.store": {"jobs", "memo"},
    "jobs.webhooks": {"jobs", "jobs.store", "memo"},
    "worker.engine": {"memo", "jobs"},
    "worker.stickers": {"memo", "worker.engine"},
    "worker.painters": {"memo", "jobs", "worker.engine", "worker.stickers"},
    "training": {"disk", "memo", "jobs"},
    "training.judge": {"disk", "memo", "training", "training.pairs", "worker.stickers"},
    "training.pairs": {"disk", "memo", "training"},
    "training.pictures": {
        *("disk", "memo", "jobs", "training", "worker.engine", "worker.painters", "worker.stickers"),
    },
    "training.scenes": {"memo", "training", "worker.stickers"},
    "web.a1111": {"memo", "jobs", "web", "web.limits"},
    "web.api": {"memo", "jobs", "web", "web.limits"},
    "web.horde": {"memo", "jobs", "web", "web.limits"},
    "web.limits": {"memo", "jobs", "web"},
    "web.monitoring": {"memo", "jobs", "web", "web.limits"},
    "web.openai": {"memo", "jobs", "web", "web.api", "web.limits"},
    "web.pages": {"memo", "jobs", "web", "web.api", "web.limits"},
}
BARRED = {  # the packages that each room must not import
    "disk": {"flask", "celery", "redis", "torch", "numpy", "boto3", "qdrant_client", "qdrant_edge"},
    "memo": {"flask", "celery", "kombu", "redis", "diffusers", "torch", "transformers", "boto3", "qdrant_client"},
    "jobs": {"flask", "werkzeug", "waitress", "torch", "transformers", "diffusers", "boto3", "qdrant_client"},
    "worker": {"flask", "werkzeug", "waitress", "boto3", "qdrant_client"},
    "web": {"torch", "diffusers", "transformers", "celery", "kombu", "redis", "boto3", "qdrant_client"},
    "training": {"flask", "werkzeug", "waitress", "boto3", "qdrant_client"},
    "index_server": {"torch", "diffusers", "transformers", "celery", "redis", "boto3", "qdrant_client"},
    "memoaized": {"diffusers", "transformers", "celery", "boto3", "qdrant_client"},
}
ADAPTERS = {  # files that talk to another system, with the packages that they may import for it
    "memo/index.py": {"qdrant_client"},
    "memo/points.py": {"qdrant_client"},
    "memo/qdrant_rest.py": {"qdrant_client"},
    "memo/store/s3.py": {"boto3"},
    "memo/judge/llm.py": {"boto3"},
    "memo/judge/cross_encoder.py": {"torch", "transformers"},
    "memo/embed.py": {"torch", "transformers"},
    "worker/painters/remote.py": {"boto3"},
    "memoaized/doctor.py": {"torch"},
}
LAZY = {"memo/judge/cross_encoder.py", "memo/embed.py", "memoaized/doctor.py"}  # torch inside functions only
REDIS_USERS = ("jobs/", "worker/app.py", "training/app.py", "memoaized/up.py")  # may import Redis and Celery
ENTRIES = {"web/main.py", "worker/main.py", "training/main.py", "memoaized/cli.py", "index_server/app.py"}
MAX_MODULES = 16  # in one folder
LARGEST_ROOM = 0.25  # of all lines that are not tests
SAME_NAME = {  # module names that mean the same thing in every folder
    *("__init__", "config", "errors", "app", "main", "port", "factory", "routes", "generation_request"),
}
NOT_MODULES = {"jobs.html", "memo.policy", "memoaized.paint", "memoaized.train"}  # a template, a field, Celery tasks
JUNK = {"utils", "util", "helpers", "common", "misc", "base", "core", "manager", "service", "constants"}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def module_of(file: Path) -> str:
    return name(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def folder_of(module: str) -> str:
    """Return the folder that holds a module; a package is its own folder."""
    return module if (ROOT / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


def unit_of(module: str) -> str:
    """Return the folder inside a room that holds the module; a module directly in a room counts by itself."""
    folder = folder_of(module)
    return folder if "." in folder else module


def may_import(folder: str, other: str) -> bool:
    """Whether a folder inside a room may import from another folder; another room is allowed as a whole."""
    room, other_room = folder.split(".")[0], other.split(".")[0]
    allowed = FOLDER_MAY_IMPORT[folder]
    return other == folder or other in allowed or (other_room != room and other_room in allowed)


@pytest.fixture(scope="module")
def graph():
    """Every import between the project's modules: lazy, relative and conditional ones included."""
    return grimp.build_graph(*ROOMS, cache_dir=None)


def imported(file: Path, *, top_only: bool = False) -> set[str]:
    """Return the top-level names of all modules that a file imports, including those inside functions."""
    tree = ast.parse(file.read_text())
    names = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def find_cycle(edges: dict[str, set[str]]) -> str:
    """Return an import cycle as "a -> b -> a", or "" if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def test_modules_form_no_import_cycle(graph):
    edges = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert not find_cycle(edges)


def test_folders_form_no_import_cycle(graph):
    """Each folder inside a room counts as one module: what `worker.engine` imports must not import it back."""
    edges: dict[str, set[str]] = {}
    for module in graph.modules:
        part, others = unit_of(module), graph.find_modules_directly_imported_by(module)
        edges.setdefault(part, set()).update({unit_of(other) for other in others} - {part})
    assert not find_cycle(edges)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may_import(graph, room):
    modules = {room, *graph.find_descendants(room)}
    imports = {other.split(".")[0] for module in modules for other in graph.find_modules_directly_imported_by(module)}
    assert imports - {room} <= MAY_IMPORT[room]


@pytest.mark.parametrize("folder", FOLDER_MAY_IMPORT)
def test_a_folder_imports_only_the_folders_that_it_may_import(graph, folder):
    modules = {module for module in graph.modules if folder_of(module) == folder}
    imports = {other for module in modules for other in graph.find_modules_directly_imported_by(module)}
    assert not sorted(other for other in imports if not may_import(folder, folder_of(other)))


def test_every_folder_inside_a_room_has_its_wall():
    folders = {folder_of(module_of(file)) for file in FILES}
    assert {folder for folder in folders if "." in folder} | {"training"} == set(FOLDER_MAY_IMPORT)


def test_modules_are_imported_by_name_only_where_training_runs_are_loaded():
    """The import graph does not show such imports, so no wall would stop them."""
    users = {name(file) for file in FILES if re.search(r"import_module|__import__|runpy", file.read_text())}
    assert users == {"training/runs.py"}


def test_strings_name_only_modules_that_exist():
    """Command lines, Celery apps and container files name modules in strings, which no import checks."""
    rooms = "|".join(ROOMS)
    pattern = re.compile(rf"\b(?:{rooms})(?:\.\w+)+(?=:(?:app|create)\b)|(?<=-m )(?:{rooms})(?:\.\w+)+")
    places = [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "deploy").rglob("*.*"), ROOT / "docker-compose.yml"]
    modules = {word for place in places if place.is_file() for word in pattern.findall(place.read_text())}
    modules |= {word for file in FILES for word in module_strings(file)}
    assert not {module for module in modules - NOT_MODULES if not is_module(module)}


def module_strings(file: Path) -> set[str]:
    """Return the string literals of a file that have the form of one of our modules' names."""
    nodes = ast.walk(ast.parse(file.read_text()))
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {word for word in words if re.fullmatch(rf"(?:{'|'.join(ROOMS)})(?:\.[a-z]\w*)+", word)}


def is_module(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_no_module_beside_a_script_is_named_like_one_of_the_standard_library():
    """die_with_parent.py runs as a script, so its folder is searched first: a `queue.py` there would break Python."""
    stems = {file.stem for file in (ROOT / "index_server").glob("*.py")}
    assert not stems & set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_imports_no_package_that_is_barred_from_its_room(file):
    barred = BARRED[name(file).split("/")[0]] - ADAPTERS.get(name(file), set())
    assert not barred & imported(file)


@pytest.mark.parametrize("file", sorted(LAZY))
def test_torch_is_imported_lazily_where_it_is_optional(file):
    assert not {"torch", "transformers"} & imported(ROOT / file, top_only=True)


def test_no_process_with_threads_changes_the_filters_of_warnings():
    """The filters belong to the whole process, so a change by one thread can outlive its `with` block."""
    rooms = ("disk", "memo", "jobs", "worker", "web", "index_server", "memoaized")
    files = [file for file in FILES if file.relative_to(ROOT).parts[0] in rooms]
    assert not [file for file in files if re.search(r"catch_warnings|simplefilter|filterwarnings", file.read_text())]


def test_only_the_queue_and_the_command_import_redis_and_celery():
    users = {name(file) for file in FILES if {"redis", "celery", "kombu"} & imported(file)}
    assert not {file for file in users if not file.startswith(REDIS_USERS)}


def test_no_module_has_a_name_that_says_nothing():
    assert not [name(file) for file in FILES if file.stem in JUNK]


def test_no_two_modules_share_a_name():
    stems = Counter(file.stem for file in FILES if file.stem not in SAME_NAME)
    assert not [stem for stem, count in stems.items() if count > 1]


def test_no_two_public_classes_share_a_name():
    """The exception is `Knobs`, which every training run has."""
    trees = [ast.parse(file.read_text()) for file in FILES]
    classes = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert not [class_name for class_name, count in classes.items() if count > 1 and class_name != "Knobs"]


def test_a_folder_holds_few_modules():
    tests = (ROOT / "tests").rglob("*.py")
    folders = Counter(name(file.parent) for file in (*FILES, *tests))
    assert not {folder: count for folder, count in folders.items() if count > MAX_MODULES}


def test_the_largest_room_holds_a_quarter_of_the_code_at_most():
    lines: Counter[str] = Counter()
    for file in FILES:
        lines[name(file).split("/")[0]] += len(file.read_text().splitlines())
    room, most = lines.most_common(1)[0]
    assert most <= LARGEST_ROOM * lines.total(), room


def test_folders_are_one_level_deep():
    assert not [name(file) for file in FILES if len(file.relative_to(ROOT).parts) > 3]


def test_only_entry_files_read_the_environment():
    readers = {name(file) for file in FILES if "os.environ" in file.read_text() or "getenv" in file.read_text()}
    setters = {"memo/onnx_embedder.py", "training/quantize.py"}  # switch telemetry off and import ONNX Runtime then
    assert readers <= ENTRIES | setters


@pytest.mark.parametrize("room", ["memo", "web", "web.main", "jobs.queue", "worker.main", "memoaized.cli"])
def test_importing_a_room_does_not_import_torch(room):
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
