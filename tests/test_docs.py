"""The documentation names no command, path, setting, route, field or metric that does not exist."""

import importlib
import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import click
import pytest
from werkzeug.exceptions import HTTPException

from jobs.config import JobsConfig
from memo import MemoConfig
from memoaized.cli import main
from tests.real import ROOT
from web.api.documents import JobBody, JobDocument
from web.config import WebConfig
from worker.config import WorkerConfig

FOLDERS = (
    "memo",
    "jobs",
    "worker",
    "training",
    "web",
    "index_server",
    "memoaized",
    "tests",
    "bench",
    "docs",
    "deploy",
)
CREATED = ("deploy/secrets", "deploy/memoaized-web")  # paths that commands create
CONFIGS = {"MEMO_": MemoConfig, "JOBS_": JobsConfig, "WORKER_": WorkerConfig, "WEB_": WebConfig}
PAGES = sorted(  # the changelog is left out: it lists former names
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    + [ROOT / "models" / "stickers" / "README.md", ROOT / "memo" / "judge" / "weights" / "README.md"]
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def code_of(page: Path) -> str:
    """The code spans and code blocks of a page, one per line."""
    text = page.read_text()
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.S | re.M)
    return "\n".join([*blocks, *re.findall(r"(?<!`)`([^`\n]+)`", text)])


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_paths_exist(page):
    paths = re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)(?=[/`\s:)]|$)", code_of(page), re.M)
    assert not [path for path in paths if not (ROOT / path).exists() and path not in CREATED]


@every_page
def test_modules_and_the_names_imported_from_them_exist(page):
    text, rooms = page.read_text(), "memo|jobs|worker|training|web|index_server|bench"
    for module in re.findall(rf"python -m ((?:{rooms})[\w.]*\w)", text):
        assert importlib.util.find_spec(module), module
    for module, names in re.findall(rf"^from ((?:{rooms})[\w.]*) import (.*)$", text, re.M):
        assert not [name for name in names.split(", ") if not hasattr(importlib.import_module(module), name)]


@every_page
def test_links_between_pages_lead_somewhere(page):
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text().replace("\n", " ")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@every_page
def test_commands_and_their_options_exist(page):
    for line in re.findall(r"(?:^|web |worker |-- |bin/)memoaized ([a-z].*)$", code_of(page), re.M):
        command: click.Command = main
        words = re.split(r"\s+#|\s\|", line)[0].split()
        for word in words:
            if not isinstance(command, click.Group) or not re.fullmatch("[a-z]+", word):
                break
            assert word in command.commands, f"memoaized {line}"
            command = command.commands[word]
        if isinstance(command, click.Group):  # `memoaized judge FILE` means `memoaized judge pairs FILE`
            command = command.commands.get("pairs", command)
        parameters = command.get_params(click.Context(command))
        known = {option for parameter in parameters for option in parameter.opts}
        assert {word.strip("[]") for word in words if word.strip("[").startswith("--")} <= known, f"memoaized {line}"


@every_page
def test_settings_exist(page):
    known = {prefix + field.name.upper() for prefix, config in CONFIGS.items() for field in fields(config)}
    elsewhere = (ROOT / "docker-compose.yml").read_text() + (ROOT / "index_server" / "app.py").read_text()
    named = set(re.findall(r"\b((?:MEMO|JOBS|WORKER|WEB|INDEX_SERVER)_[A-Z0-9_]*[A-Z0-9])\b", page.read_text()))
    assert not [name for name in named if name.removesuffix("_FILE") not in known and name not in elsewhere]


@every_page
def test_routes_exist(page, app):
    urls = app.url_map.bind("localhost")
    routes = re.findall(r"\b(GET|POST|DELETE) (/[\w/<>.-]+)(?![\w…])", page.read_text())
    for method, path in routes:
        try:
            urls.match(re.sub("<[a-z]+>", "x", path), method)
        except HTTPException:
            pytest.fail(f"{method} {path}")


def test_every_field_of_a_request_and_of_a_job_is_documented():
    text = (ROOT / "docs" / "api.md").read_text()
    for document in (JobBody, JobDocument):
        assert not [name for name in get_type_hints(document) if f"`{name}`" not in text]


def test_the_table_of_request_fields_names_no_other_field():
    table = (ROOT / "docs" / "api.md").read_text().partition("| field | type |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.M)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(get_type_hints(JobBody))


@every_page
def test_metrics_and_headers_exist(page):
    source = "".join(file.read_text() for room in ("web", "jobs") for file in (ROOT / room).rglob("*.py"))
    names = re.findall(r"\bmemoaized_(\w+?)(?:_total)?\b", page.read_text())
    names += re.findall(r"`(X-Memo-[\w-]+|webhook-(?:id|timestamp|signature))`", page.read_text())
    assert not [name for name in names if name not in source]
