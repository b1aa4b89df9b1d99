"""Child processes of `memoaized up`: they end when it dies, and their output is forwarded."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from index_server.die_with_parent import tie_to_parent

NICENESS = 10  # of processes in the background


@dataclass(slots=True)
class ChildProcess:
    """A process that `memoaized up` runs. A replaceable one is restarted when it dies; any other ends everything.

    One in the background has the CPU only while the others leave it.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    grace: float  # seconds between SIGTERM and SIGKILL
    replaceable: bool = False
    in_background: bool = False
    process: subprocess.Popen[str] | None = None
    deaths: list[float] = field(default_factory=list)  # times of recent deaths, by time.monotonic()

    def start(self, log: Callable[[str, str], None]) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only this process.

        Call it from the main thread, because the child ends with the thread that starts it.
        """
        self.process = subprocess.Popen(
            tie_to_parent(self.command),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        if self.in_background:
            lower_priority(self.process.pid)
        threading.Thread(target=forward_lines, args=(self.name, self.process, log), daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        """Send SIGTERM if it is running."""
        if self.process and self.is_running:
            self.process.terminate()

    def wait(self) -> None:
        """Wait until it ends; kill it after the grace period."""
        if self.process is None:
            return
        try:
            self.process.wait(self.grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def lower_priority(pid: int) -> None:
    """Lower the priority of a process and of its session, among which Linux shares the CPU first (sched(7))."""
    with contextlib.suppress(OSError):  # it has ended, or this system has no such priorities
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
        Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS))


def forward_lines(name: str, process: subprocess.Popen[str], log: Callable[[str, str], None]) -> None:
    """Pass every line that the process prints to `log`."""
    assert process.stdout is not None
    for line in process.stdout:
        log(name, line.rstrip())


def started_at(pid: int) -> float | None:
    """Return the time when a process started, which identifies it together with its pid; None if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def end_leftovers(processes: Mapping[str, tuple[int, float]], *, grace: float = 10.0) -> list[str]:
    """End those processes of an earlier run, given by pid and start time, that still run; return their names."""
    running = {name: psutil.Process(pid) for name, (pid, start) in processes.items() if started_at(pid) == start}
    for process in running.values():
        process.terminate()
    _, still_running = psutil.wait_procs(running.values(), timeout=grace)
    for process in still_running:
        process.kill()
    psutil.wait_procs(still_running, timeout=grace)
    return list(running)


def wait_until(ready: Callable[[], bool], *, seconds: float, interval: float, check: Callable[[], None]) -> bool:
    """Poll until `ready` is true; return False after `seconds`. `check` is called meanwhile and may raise."""
    deadline = time.monotonic() + seconds
    while not ready():
        check()
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
