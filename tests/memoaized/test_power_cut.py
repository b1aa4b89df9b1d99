"""What a power cut leaves in the data folder of `memoaized up`, and how the next start deals with it."""

import json

import pytest

from memoaized import up
from memoaized.up import DataFolderLock, Supervisor, UpOptions, read_or_create_secret, read_processes


@pytest.fixture
def data(tmp_path):
    for name in ("run", "secrets"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize("left", ["", "\n", "  "])
def test_an_empty_secret_is_drawn_anew(tmp_path, left):
    (tmp_path / "redis").write_text(left)
    secret = read_or_create_secret(tmp_path / "redis")
    assert len(secret) == 48 and read_or_create_secret(tmp_path / "redis") == secret
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o600


def test_no_setting_of_redis_is_empty_after_all_secrets_were_lost(data):
    for name in ("index", "redis", "webhook-secret"):
        (data / "secrets" / name).touch()
    supervisor = Supervisor(UpOptions(data, 8000, 1, data), data, {})
    environment = supervisor.children[1].environment
    assert environment["MEMO_INDEX_KEY"] and environment["JOBS_WEBHOOK_SECRET"]
    settings = (data / "run" / "redis.conf").read_text().splitlines()
    assert all(line.partition(" ")[2] for line in settings)


@pytest.mark.parametrize("left", ["", "{", "null", '{"web": 1}', "[1]", "\0" * 40, '{"web": ["a", "b"]}'])
def test_an_unreadable_list_of_processes_is_ignored_and_named(data, left, capsys):
    (data / "run" / "processes.json").write_text(left)
    with DataFolderLock(data):
        assert "processes.json" in capsys.readouterr().out
    assert not (data / "run" / "processes.json").exists()


def test_processes_of_an_earlier_run_are_read_back(data):
    record = data / "run" / "processes.json"
    assert read_processes(record) == {}
    record.write_text(json.dumps({"web": [7, 1.5], "gone": [8, None]}))
    assert read_processes(record) == {"web": (7, 1.5)}


def test_no_small_file_of_a_start_is_written_in_place(data, monkeypatch):
    """A file that is opened for writing under its own name may be empty after a power cut."""
    written = []
    write = up.write_durably
    monkeypatch.setattr(up, "write_durably", lambda path, *a, **b: (written.append(path.name), write(path, *a, **b)))
    supervisor = Supervisor(UpOptions(data, 8000, 1, data), data, {})
    child = supervisor.children[0]
    child.command = ["sleep", "30"]
    supervisor.start_child(child)
    child.terminate()
    child.wait()
    child.process.stdout.close()
    assert sorted(written) == ["index", "processes.json", "redis", "webhook-secret"]
