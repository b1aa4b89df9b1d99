"""The disk's errors in words: a full disk is called a full disk, with the path and the fix."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM)
OTHERS = (errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)


def explain(error: Exception, path: Path | str) -> str:
    """Return what went wrong as a clause that names the path and the fix; other errors keep their own words.

    `error` may be an OSError, or an error of a library that quotes the system's words.
    """
    if is_one_of(error, FULL):
        return f"the disk of {path} is full: free some space there"
    if is_one_of(error, DENIED):
        return f"{path}: Permission denied for the user {os.geteuid()}: change its owner or its permissions"
    if is_one_of(error, (errno.EROFS,)):
        return f"the disk of {path} is mounted read-only: mount it for writing"
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def is_of_the_disk(error: Exception) -> bool:
    """Whether the disk or the system caused an error, rather than what is in the files."""
    return is_one_of(error, (*FULL, *DENIED, *OTHERS))


def is_one_of(error: Exception, numbers: Sequence[int]) -> bool:
    """Whether an error has one of these numbers of the system, or quotes the words for it."""
    text = str(error)
    return getattr(error, "errno", None) in numbers or any(os.strerror(number) in text for number in numbers)
