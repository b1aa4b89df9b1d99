"""Child processes end with their parent, their logs are forwarded, and they are stopped in time."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from memoaized.child_processes import NICENESS, ChildProcess, end_leftovers, started_at, wait_until
from tests.real import alive, wait_for


def python_process(code: str, **options) -> ChildProcess:
    return ChildProcess("child", [sys.executable, "-uc", code], dict(os.environ), **{"grace": 5.0, **options})


@pytest.fixture
def lines():
    return []


@pytest.fixture
def start(lines):
    started = []

    def start_child(child: ChildProcess) -> ChildProcess:
        child.start(lambda name, line: lines.append(line))
        started.append(child)
        return child

    yield start_child
    for child in started:
        child.terminate()
        child.wait()
        child.process.stdout.close()


def test_the_output_of_a_child_is_forwarded_line_by_line(start, lines):
    start(python_process("print('one'); print('two')"))
    wait_for(lambda: lines == ["one", "two"])


def test_a_child_ends_on_sigterm(start, lines):
    child = start(python_process("import time; print('up'); time.sleep(60)"))
    wait_for(lambda: lines)
    child.terminate()
    child.wait()
    assert child.process.returncode == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_period(start, lines):
    ignore_sigterm = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    child = start(python_process(ignore_sigterm, grace=0.2))
    wait_for(lambda: lines)
    child.terminate()
    child.wait()
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_child_ends_when_its_parent_is_killed():
    code = (
        "import sys, os, time; sys.path.insert(0, os.getcwd()); from memoaized.child_processes import ChildProcess;"
        "child = ChildProcess('c', [sys.executable, '-c', 'import time; time.sleep(60)'], dict(os.environ), grace=1);"
        "child.start(lambda *_: None); print(child.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        wait_for(lambda: "sleep(60)" in " ".join(psutil.Process(pid).cmdline()))
        time.sleep(0.1)
        parent.kill()
    wait_for(lambda: not alive(pid))


def test_only_the_recorded_processes_of_an_earlier_run_are_ended(start):
    leftover, stranger = (start(python_process("import time; time.sleep(60)")) for _ in range(2))
    record = {
        "leftover": (leftover.process.pid, started_at(leftover.process.pid)),
        "stranger": (stranger.process.pid, 12345.0),
        "gone": (2**22 + 1, 1.0),
    }
    assert end_leftovers(record) == ["leftover"]
    assert not leftover.is_running and stranger.is_running


def test_waiting_ends_with_success_or_at_the_time_limit():
    assert wait_until(lambda: True, seconds=1, interval=0.01, check=lambda: None)
    assert not wait_until(lambda: False, seconds=0.05, interval=0.01, check=lambda: None)


def test_a_process_in_the_background_and_its_threads_have_a_low_priority(start, lines):
    code = "import os, threading; threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0))).start()"
    start(python_process(f"import time; time.sleep(0.3); {code}; time.sleep(30)", in_background=True))
    wait_for(lambda: lines)
    assert lines == [str(NICENESS)]
