"""Child processes of `memoaized up`: started tied to us, their logs passed on line by line, ended in time."""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

from index_server.die_with_parent import tie_to_parent


@dataclass(slots=True)
class Part:
    """One process of the product. `replaceable` parts are started again when they die; the others end all."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    grace: float  # seconds between SIGTERM and SIGKILL
    replaceable: bool = False
    process: subprocess.Popen[str] | None = None
    deaths: list[float] = field(default_factory=list)

    def start(self, log: Callable[[str, str], None]) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only us; call from the main thread."""
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
        threading.Thread(target=pass_on, args=(self.name, self.process, log), daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process and self.alive:
            self.process.terminate()

    def end(self) -> None:
        """Wait for its end; after the grace period it is killed."""
        if self.process is None:
            return
        try:
            self.process.wait(self.grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def pass_on(name: str, process: subprocess.Popen[str], log: Callable[[str, str], None]) -> None:
    """Hand every line of the process to the log."""
    assert process.stdout is not None
    for line in process.stdout:
        log(name, line.rstrip())


def started_at(pid: int) -> float | None:
    """When a process was started, which with its pid names it for ever; None when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def end_leftovers(processes: Mapping[str, tuple[int, float]], *, grace: float = 10.0) -> list[str]:
    """End the processes of an earlier run that outlived it; the names of those that did."""
    left = {name: psutil.Process(pid) for name, (pid, since) in processes.items() if started_at(pid) == since}
    for process in left.values():
        process.terminate()
    _, stubborn = psutil.wait_procs(left.values(), timeout=grace)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=grace)
    return list(left)


def wait_until(ready: Callable[[], bool], *, seconds: float, interval: float, meanwhile: Callable[[], None]) -> bool:
    """Poll until ready; `meanwhile` may raise to give up."""
    deadline = time.monotonic() + seconds
    while not ready():
        meanwhile()
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
