"""Run a command that ends when its parent does: `python die_with_parent.py PARENT_PID COMMAND …`. Linux; elsewhere just runs it.

To the kernel, the parent is the thread that starts it. A file of its own, run before the command is executed in its
place, because a hook between fork and exec is not safe in a process with threads. prctl(2), PR_SET_PDEATHSIG.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str]) -> list[str]:
    """The command, tied to the thread that starts it."""
    return [sys.executable, "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ask the kernel for SIGTERM on the parent's death, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
