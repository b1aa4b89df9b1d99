"""Other users of the machine can read nothing of the data folder, which holds secrets and private pictures."""

import os
import socket
import stat
import subprocess

import httpx
import pytest

from memo import BadSetup
from memoaized.private_folder import close_folder, close_new_files
from memoaized.up import UpOptions, run_in
from tests.real import ROOT, wait_for


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_data_folder_is_closed_to_other_users(tmp_path):
    assert close_folder(tmp_path / "new" / "data") == "" and mode(tmp_path / "new" / "data") == 0o700


@pytest.mark.parametrize("open_mode", [0o755, 0o770, 0o701, 0o777])
def test_an_existing_data_folder_is_closed_and_the_log_says_so(tmp_path, open_mode):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(open_mode)
    assert str(data) in (note := close_folder(data)) and "closed" in note
    assert mode(data) == 0o700 and close_folder(data) == ""


def test_a_folder_of_all_users_stays_as_it_is_and_the_log_says_so(tmp_path):
    tmp_path.chmod(0o1777)
    assert "--data" in close_folder(tmp_path) and mode(tmp_path) == 0o1777


def test_a_start_closes_an_existing_data_folder_before_it_does_anything_else(tmp_path, capsys):
    (data := tmp_path / "data").mkdir()
    data.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BadSetup):
        run_in(data, UpOptions(data, taken.getsockname()[1], 1, tmp_path), {})
    assert mode(data) == 0o700 and f"{data}" in capsys.readouterr().out


def test_everything_that_runs_writes_files_that_only_its_user_can_read(live_stack):
    job = httpx.post(f"{live_stack.url}/api/v1/jobs", json={"prompt": "a red fox", "width": 64, "height": 64}).json()
    wait_for(lambda: httpx.get(f"{live_stack.url}/api/v1/jobs/{job['id']}").json()["picture"])
    copied = live_stack.data / "text"  # by the fixture
    paths = [live_stack.data, *live_stack.data.rglob("*")]
    open_paths = [path for path in paths if copied not in (path, *path.parents) and path.lstat().st_mode & 0o077]
    assert [path for path in open_paths if not path.is_socket() and not path.is_symlink()] == []
    assert {".aof", ".png", ".mdb"} <= {path.suffix for path in paths}


def test_commands_write_files_that_only_their_user_can_read(tmp_path):
    """Except for models: they are no secret, and containers read them as another user."""
    modes = {}
    for command in ("key", "model"):
        umask = os.umask(0o022)
        try:
            close_new_files(command)
            (tmp_path / command).touch()
        finally:
            os.umask(umask)
        modes[command] = mode(tmp_path / command)
    assert modes == {"key": 0o600, "model": 0o644}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_enter_the_data_folder(live_stack):
    command = ["ls", str(live_stack.data)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert subprocess.run(command, capture_output=True, user=65534, group=65534, extra_groups=[]).returncode != 0


def test_a_backup_as_documented_is_closed_to_other_users():
    """It holds the same secrets as the data folder."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    assert text.count("umask 077") == text.count("tar -czf backup.tar.gz") + text.count("mkdir -p backup") == 2
