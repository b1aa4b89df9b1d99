"""All processes log in one format."""

import re
import subprocess
import sys

import index_server.app
from jobs import log_lines
from tests.real import ROOT


def test_a_line_has_time_level_and_logger():
    code = "import logging; from jobs.log_lines import log_to_stderr; log_to_stderr();"
    code += "logging.getLogger('worker.app').info('worker ready'); logging.getLogger('httpx').info('GET')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} INFO worker\.app: worker ready\n", done.stderr)


def test_the_index_server_which_imports_no_other_room_has_the_same_format():
    ours = index_server.app.LOG_FORMAT, index_server.app.LOG_TIME_FORMAT
    assert ours == (log_lines.FORMAT, log_lines.TIME_FORMAT)


def test_no_other_file_configures_logging():
    rooms = ("disk", "memo", "jobs", "worker", "training", "web", "index_server", "memoaized")
    files = {file for room in rooms for file in (ROOT / room).rglob("*.py") if "basicConfig(" in file.read_text()}
    assert files == {ROOT / "jobs/log_lines.py", ROOT / "index_server/app.py"}
