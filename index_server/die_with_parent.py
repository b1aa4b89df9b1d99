"""Run a command that ends when its parent dies: `python die_with_parent.py PARENT_PID COMMAND …`.

Works on Linux; elsewhere it just runs the command. To the kernel, the parent is the thread that starts the command.
This is a script that replaces itself with the command, because a hook between fork and exec is not safe in a process
with threads. See PR_SET_PDEATHSIG in prctl(2).

As a script it puts its own folder first on `sys.path`: no module beside it may have the name of a standard library
module.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tie_to_parent(command: Sequence[str]) -> list[str]:
    """Return a command line that runs `command` and ends it when the calling thread ends."""
    return [sys.executable, "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ask the kernel for SIGTERM when the parent dies, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent died before we asked the kernel
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
