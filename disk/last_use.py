"""Says whether the last use of some files ended well, for all processes of a machine that use them together."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_USE, ENDED_WELL = b"in use", b"ended well"


class LastUse:
    """A lock file that all users of some files hold shared; its text says whether the last of them ended well.

    Neither a killed process nor a power cut can change the text to "ended well".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = -1
        self.ended_well = False
        self.failed = False  # set it if the files turn out to be damaged: then this use did not end well

    @contextmanager
    def begin(self) -> Iterator[bool]:
        """Hold the lock from now on; yields whether this is the only user, for whom others wait meanwhile.

        Raises OSError.
        """
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self.file, fcntl.LOCK_SH)
            yield False
            return
        self.ended_well = os.pread(self.file, 64, 0) == ENDED_WELL
        self.note(IN_USE)
        try:
            yield True
        finally:
            fcntl.flock(self.file, fcntl.LOCK_SH)

    def end(self) -> None:
        """Give the lock back. If nobody else holds it and nothing failed, note that this use ended well."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.failed:
                self.note(ENDED_WELL)
        except BlockingIOError:
            pass
        finally:
            os.close(self.file)

    def note(self, text: bytes) -> None:
        """Write the text of the file durably."""
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, text, 0)
        os.fsync(self.file)
