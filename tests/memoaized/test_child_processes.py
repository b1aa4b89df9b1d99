"""Child processes end with their parent, their logs are forwarded, and they are stopped in time."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from memoaized.child_processes import ChildProcess, end_leftovers, started_at, wait_until
from tests.real import alive, wait_for


def python(code: str, **options) -> ChildProcess:
    return ChildProcess("part", [sys.executable, "-uc", code], dict(os.environ), **{"grace": 5.0, **options})


@pytest.fixture
def lines():
    return []


@pytest.fixture
def start(lines):
    started = []

    def go(part: ChildProcess) -> ChildProcess:
        part.start(lambda name, line: lines.append(line))
        started.append(part)
        return part

    yield go
    for part in started:
        part.terminate()
        part.wait()
        part.process.stdout.close()


def test_its_lines_are_forwarded(start, lines):
    start(python("print('one'); print('two')"))
    wait_for(lambda: lines == ["one", "two"])


def test_it_ends_on_sigterm(start, lines):
    part = start(python("import time; print('up'); time.sleep(60)"))
    wait_for(lambda: lines)
    part.terminate()
    part.wait()
    assert part.process.returncode == -signal.SIGTERM


def test_it_is_killed_after_the_grace_period(start, lines):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    part = start(python(stubborn, grace=0.2))
    wait_for(lambda: lines)
    part.terminate()
    part.wait()
    assert part.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_it_ends_when_its_parent_is_killed():
    code = (
        "import sys, os, time; sys.path.insert(0, os.getcwd()); from memoaized.child_processes import ChildProcess;"
        "part = ChildProcess('p', [sys.executable, '-c', 'import time; time.sleep(60)'], dict(os.environ), grace=1);"
        "part.start(lambda *_: None); print(part.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        wait_for(lambda: "sleep(60)" in " ".join(psutil.Process(child).cmdline()))
        time.sleep(0.1)
        parent.kill()
    wait_for(lambda: not alive(child))


def test_processes_of_an_earlier_run_are_ended_and_others_are_not(start):
    left, stranger = start(python("import time; time.sleep(60)")), start(python("import time; time.sleep(60)"))
    record = {
        "left": (left.process.pid, started_at(left.process.pid)),
        "stranger": (stranger.process.pid, 12345.0),
        "gone": (2**22 + 1, 1.0),
    }
    assert end_leftovers(record) == ["left"]
    assert not left.is_running and stranger.is_running


def test_waiting_ends_in_time():
    assert wait_until(lambda: True, seconds=1, interval=0.01, check=lambda: None)
    assert not wait_until(lambda: False, seconds=0.05, interval=0.01, check=lambda: None)
