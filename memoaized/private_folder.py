"""Keeps the data folder from other users of this machine: it holds secrets, prompts and private pictures."""

import os
import stat
from pathlib import Path

PUBLIC_COMMANDS = ("model", "prepare")  # write models, which are no secret, and which containers read as another user
OTHERS = stat.S_IRWXG | stat.S_IRWXO  # what the group and everybody else may do


def close_new_files(command: str | None) -> None:
    """Make new files and folders of this process, and of those that it starts, its user's alone."""
    if command not in PUBLIC_COMMANDS:
        os.umask(OTHERS)


def close_folder(folder: Path) -> str:
    """Create a folder that only this user may enter, or close an existing one; returns what happened, "" if nothing.

    A folder of another user, or one where all users may write, such as /tmp, stays as it is.
    """
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    state = folder.stat()
    if not state.st_mode & OTHERS:
        return ""
    if state.st_uid != os.geteuid() or state.st_mode & stat.S_ISVTX:
        return f"other users of this machine can read {folder}: give a folder of your own as --data"
    folder.chmod(stat.S_IMODE(state.st_mode) & ~OTHERS)
    return f"closed {folder} to other users of this machine, who could read it until now"
