"""The data of Redis on disk: a folder for each version, copied for a newer server, and mended after a power cut.

The append-only file is synced every second, but a picture's own sync may commit its new size earlier. After a power
cut, its last bytes are then zeros, or a command is cut off, and Redis refuses to start.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from disk.disk_errors import explain
from disk.durable_files import move_durably, sync
from memo import BadSetup

PrintLine = Callable[[str], None]
FOLDER = re.compile(r"(redis|valkey)-(\d+)\.(\d+)")
COPYING = ".copying-"  # prefix of a folder that is being copied for a newer server
COMMAND = re.compile(rb"\*(\d{1,7})\r\n")
ARGUMENT = re.compile(rb"\$(\d{1,9})\r\n")
MULTI = b"*1\r\n$5\r\nMULTI\r\n"  # begins a transaction
LONGEST_COMMENT = 1024  # bytes; Redis writes lines such as "#TS:1700000000" between commands


def open_data_folder(folder: Path, print_line: PrintLine) -> Path:
    """Create the folder of this server's data unless it exists, and return it.

    Data of an older version are copied. Raises BadSetup as `find_older_data` does, and if the copy fails.
    """
    if older := find_older_data(folder):
        copy_data(older, folder)
        print_line(f"{folder.name} starts on a copy of the data of {older.name}, which is kept in {older}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_older_data(folder: Path) -> Path | None:
    """Return the newest data of older versions if the folder of this server holds none.

    Raises BadSetup if there are data of a newer version or of another make, which this server may not read.
    """
    data = folder.parent
    others = [path for path in data_folders(data) if path != folder]
    if unreadable := [path for path in others if not is_older(path, folder)]:
        name = unreadable[-1].name
        raise BadSetup(
            f"{data} holds data of {name}, which {folder.name}, the server of this machine, may not read: install"
            f" {name} and name it in REDIS_SERVER, or remove {unreadable[-1]} if its jobs and keys are not needed"
        )
    return others[-1] if others and not holds_data(folder) else None


def data_folders(data: Path) -> list[Path]:
    """Return the folders that hold data of Redis or Valkey, the oldest version of each make first."""
    folders = (path for path in data.glob("*-*") if FOLDER.fullmatch(path.name) and holds_data(path))
    return sorted(folders, key=version_of)


def holds_data(folder: Path) -> bool:
    """Whether a server has written to the folder."""
    return folder.is_dir() and any(folder.iterdir())


def version_of(folder: Path) -> tuple[str, int, int]:
    """Return make, major and minor version in the name of a folder."""
    name = FOLDER.fullmatch(folder.name)
    assert name, f"{folder} is not named after a version of Redis"
    make, major, minor = name.groups()
    return make, int(major), int(minor)


def is_older(folder: Path, other: Path) -> bool:
    """Whether a folder is of the same make as another one and of an older version."""
    return version_of(folder)[0] == version_of(other)[0] and version_of(folder) < version_of(other)


def copy_data(source: Path, target: Path) -> None:
    """Copy a folder, all of it or nothing. Raises BadSetup if the disk is full or files may not be read."""
    copy = target.with_name(f"{COPYING}{target.name}")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(source, copy)
        if target.exists():
            target.rmdir()  # empty, or it would not be replaced
        move_durably(copy, target)
    except OSError as error:  # shutil.Error is a subclass
        shutil.rmtree(copy, ignore_errors=True)
        raise BadSetup(f"cannot copy {source} for {target.name}: {explain(error, target)}") from error


def mend_tail(folder: Path, server: str, print_line: PrintLine) -> None:
    """Cut the damaged end off the last append-only file, keep a copy of the file, and say how much was cut.

    Raises BadSetup if intact commands follow the damage, because cutting would lose them.
    """
    file = last_append_only_file(folder)
    if file is None or not file.stat().st_size:
        return
    checker = find_checker(server)
    intact, size = count_intact_bytes(file, checker), file.stat().st_size
    if intact is None or intact >= size:
        return
    if has_command_after(file, intact):
        fix = f"{checker or 'redis-check-aof'} --fix {file}"
        raise BadSetup(
            f"{file} is damaged at byte {intact} of {size}, with intact commands behind it: make a copy of it,"
            f" then run `{fix}`, which removes everything from there on"
        )
    copy = cut(file, intact)
    print_line(f"cut {size - intact} damaged bytes off the end of {file}, as a power cut leaves them; copy: {copy}")


def last_append_only_file(folder: Path) -> Path | None:
    """Return the file to which Redis appended last; None if there is none. Redis before 7 has only one."""
    found = sorted(folder.glob("appendonlydir/*.manifest"))
    manifests = [path for path in found if not path.name.startswith("temp-")]  # which Redis renames when it is whole
    if not manifests:
        single = folder / "appendonly.aof"
        return single if single.is_file() else None
    lines = (line.split() for line in manifests[-1].read_text().splitlines())
    names = [line[1] for line in lines if len(line) >= 6 and line[0] == "file" and line[5] == "i"]
    file = folder / "appendonlydir" / names[-1] if names else None
    return file if file and file.is_file() else None


def find_checker(server: str) -> str | None:
    """Return the path of the checker that comes with a server; None if there is none."""
    for folder in (Path(server).parent, Path(server).resolve().parent):
        for name in ("redis-check-aof", "valkey-check-aof"):
            if os.access(folder / name, os.X_OK):
                return str(folder / name)
    return None


def count_intact_bytes(file: Path, checker: str | None) -> int | None:
    """Return how many bytes at the start of a file are whole commands; None if that cannot be told."""
    if checker:
        checked = subprocess.run([checker, str(file)], capture_output=True, text=True, errors="replace")
        if checked.returncode == 0:
            return file.stat().st_size
        if found := re.search(r"ok_up_to=(\d+)", checked.stdout + checked.stderr):
            return int(found[1])
    data = file.read_bytes()
    return None if data.startswith(b"REDIS") else end_of_commands(data, 0)


def end_of_commands(data: bytes, start: int) -> int:
    """Return where the whole commands that begin at `start` end."""
    while (end := end_of_command(data, start)) is not None:
        start = end
    return start


def end_of_command(data: bytes, start: int) -> int | None:
    """Return where the command or comment at `start` ends; None if none is there, or not all of it.

    Commands are arrays of strings: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    if data[start : start + 1] == b"#":
        end = data.find(b"\r\n", start, start + LONGEST_COMMENT)
        return end + 2 if end >= 0 else None
    if not (command := COMMAND.match(data, start)):
        return None
    place = command.end()
    for _ in range(int(command[1])):
        if not (argument := ARGUMENT.match(data, place)):
            return None
        place = argument.end() + int(argument[1]) + 2
        if data[place - 2 : place] != b"\r\n":
            return None
    return place


def has_command_after(file: Path, intact: int) -> bool:
    """Whether the damage is followed by a complete command.

    If the file ends within a transaction, `intact` is where the transaction begins, and its commands do not count.
    """
    data = file.read_bytes()
    damage = end_of_commands(data, intact) if data.startswith(MULTI, intact) else intact
    places = (found.start() for found in COMMAND.finditer(data, damage + 1))
    return any(end_of_command(data, place) is not None for place in places)


def cut(file: Path, size: int) -> Path:
    """Shorten a file to this size, after copying it beside; return the copy's path. Raises BadSetup."""
    copy = file.with_name(f"{file.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
    try:
        shutil.copy2(file, copy)
        sync(copy)
        os.truncate(file, size)
        sync(file)
        sync(file.parent)
    except OSError as error:
        raise BadSetup(f"cannot mend {file}: {explain(error, file)}") from error
    return copy
