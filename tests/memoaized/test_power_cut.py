"""`memoaized up` starts again after a power cut, whatever the cut left in the data folder."""

import json
import os
import subprocess
from dataclasses import replace

import pytest
import redis
from click.testing import CliRunner

from memo import BadSetup
from memoaized import up
from memoaized.cli import main
from memoaized.redis_data import last_append_only_file, mend_tail
from memoaized.redis_server import RedisBinary, find_redis, plan_redis
from memoaized.up import DataFolderLock, Supervisor, UpOptions, read_or_create_secret, read_processes
from tests.real import redis_server


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


def test_no_small_file_of_a_start_is_written_in_place(data, disk_steps):
    """A file that is opened for writing under its own name may be empty after a power cut."""
    supervisor = Supervisor(UpOptions(data, 8000, 1, data), data, {})
    child = supervisor.children[0]
    child.command = ["sleep", "30"]
    supervisor.start_child(child)
    child.terminate()
    child.wait()
    child.process.stdout.close()
    written = sorted(name for step, name in disk_steps if step == "rename")
    assert written == ["index", "processes.json", "redis", "redis.conf", "webhook-secret"]


# Redis: a damaged end of its append-only file


@pytest.fixture
def damaged(tmp_path):
    """A stopped Redis with 50 names in it, its append-only file, and where the last commands begin."""
    server = redis_server(tmp_path)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for number in range(50):
            client.set(f"name-{number}", "value" * 20)
    server.stop()
    [file] = server.plan.folder.glob("appendonlydir/*.incr.aof")
    return server, file


def zeros_at_the_end(data):
    return data + bytes(1480)


def cut_in_a_command(data):
    return data[:-30]


def zeros_in_the_last_command(data):
    return data[:-40] + bytes(631)


def cut_in_an_earlier_command(data):
    return data[: data.index(b"name-40") + 3]


def half_a_page_of_noise(data):
    return data + b"\xff*3\r\n$3\r\nSET\r\n$90"


def cut_in_a_transaction(data):
    begin, command = b"*1\r\n$5\r\nMULTI\r\n", b"*3\r\n$3\r\nSET\r\n$4\r\nlost\r\n$1\r\n1\r\n"
    return data + begin + 2 * command + command[:-5]


DAMAGED_ENDS = (
    *(zeros_at_the_end, cut_in_a_command, zeros_in_the_last_command, cut_in_an_earlier_command),
    *(half_a_page_of_noise, cut_in_a_transaction),
)


@pytest.mark.parametrize("with_checker", [True, False])
@pytest.mark.parametrize("damage", DAMAGED_ENDS)
def test_a_damaged_end_is_cut_and_redis_starts(damaged, damage, with_checker, monkeypatch, capsys):
    server, file = damaged
    before = damage(file.read_bytes())
    file.write_bytes(before)
    if not with_checker:
        monkeypatch.setattr("memoaized.redis_data.find_checker", lambda server: None)
    mend_tail(server.plan.folder, server.plan.command[0], print)
    line = capsys.readouterr().out
    assert f"cut {len(before) - file.stat().st_size} damaged bytes" in line and str(file) in line
    [copy] = file.parent.glob("*.damaged-*")
    assert copy.read_bytes() == before and str(copy) in line
    server.start()
    with redis.Redis.from_url(server.url) as client:
        kept = client.dbsize()
    server.stop()
    assert kept == {
        zeros_at_the_end: 50,
        cut_in_an_earlier_command: 40,
        half_a_page_of_noise: 50,
        cut_in_a_transaction: 50,
    }.get(damage, 49)
    mend_tail(server.plan.folder, server.plan.command[0], print)
    assert capsys.readouterr().out == ""


def test_what_is_cut_off_is_on_the_disk_as_a_copy_before(damaged, disk_steps):
    server, file = damaged
    file.write_bytes(zeros_at_the_end(file.read_bytes()))
    mend_tail(server.plan.folder, server.plan.command[0], print)
    [copy] = file.parent.glob("*.damaged-*")
    assert disk_steps == [("sync", copy.name), ("cut", file.name), ("sync", file.name), ("sync", file.parent.name)]


def test_the_single_file_of_an_older_redis_is_mended_too(damaged, tmp_path):
    server, file = damaged
    (older := tmp_path / "older").mkdir()
    single = older / "appendonly.aof"
    single.write_bytes(zeros_at_the_end(file.read_bytes()))
    mend_tail(older, server.plan.command[0], print)
    assert single.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("with_checker", [True, False])
def test_damage_before_intact_commands_stops_the_start_with_file_and_command(damaged, with_checker, monkeypatch):
    server, file = damaged
    data = bytearray(file.read_bytes())
    place = data.index(b"name-20")
    data[place - 20 : place + 200] = bytes(220)
    file.write_bytes(data)
    if not with_checker:
        monkeypatch.setattr("memoaized.redis_data.find_checker", lambda server: None)
    with pytest.raises(BadSetup, match=rf"{file} is damaged at byte \d+ of {len(data)}.*check-aof --fix {file}"):
        mend_tail(server.plan.folder, server.plan.command[0], print)
    assert file.read_bytes() == data


def test_the_command_in_the_error_mends_the_file(damaged):
    server, file = damaged
    data = bytearray(file.read_bytes())
    place = data.index(b"name-20")
    data[place : place + 100] = bytes(100)
    file.write_bytes(data)
    with pytest.raises(BadSetup) as stopped:
        mend_tail(server.plan.folder, server.plan.command[0], print)
    command = str(stopped.value).split("`")[1].split()
    subprocess.run(command, input=b"y\n", capture_output=True, check=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 20
    server.stop()


def test_a_start_mends_the_file_before_redis_reads_it(damaged, tmp_path):
    server, file = damaged
    file.write_bytes(file.read_bytes() + bytes(1000))
    lines = []
    binary = find_redis(dict(os.environ))
    plan_redis(binary, tmp_path, tmp_path / "run", password="test", free_port=0, print_line=lines.append)
    assert len(lines) == 1 and lines[0].startswith("cut 1000 damaged bytes")


# Redis: another version


def binary_of(make, version):
    return RedisBinary("/usr/bin/redis-server", version, "test", make)


def plan(data, make, version, lines):
    run = data / "run"
    return plan_redis(binary_of(make, version), data, run, password="x", free_port=0, print_line=lines.append)


def write_data(data, name, text="data"):
    (data / name / "appendonlydir").mkdir(parents=True)
    (data / name / "appendonlydir" / "x.rdb").write_text(text)


def test_a_newer_server_starts_on_a_copy_of_the_older_data_and_says_so(data):
    write_data(data, "redis-6.2", "older still")
    write_data(data, "redis-7.0", "mine")
    lines = []
    folder = plan(data, "redis", "8.0", lines).folder
    assert folder == data / "redis-8.0" and (folder / "appendonlydir" / "x.rdb").read_text() == "mine"
    assert len(lines) == 1 and "redis-8.0 starts on a copy of the data of redis-7.0" in lines[0]
    (folder / "appendonlydir" / "x.rdb").write_text("newer")
    assert plan(data, "redis", "8.0", lines).folder == folder and len(lines) == 1
    assert (folder / "appendonlydir" / "x.rdb").read_text() == "newer"
    assert (data / "redis-7.0" / "appendonlydir" / "x.rdb").read_text() == "mine"


@pytest.mark.parametrize(
    ("kept", "make", "version"),
    [("redis-8.0", "redis", "7.0"), ("redis-7.10", "redis", "7.2"), ("redis-7.2", "valkey", "8.0")],
)
def test_data_of_a_newer_version_or_another_make_are_refused_with_both_names(data, kept, make, version):
    write_data(data, kept)
    with pytest.raises(BadSetup, match=f"{kept}, which {make}-{version}.*REDIS_SERVER"):
        plan(data, make, version, [])
    assert not (data / f"{make}-{version}").exists()


def test_an_interrupted_copy_is_made_again(data):
    write_data(data, "redis-7.0", "mine")
    write_data(data, ".copying-redis-8.0", "half")
    (data / "redis-8.0").mkdir()  # created and never used
    folder = plan(data, "redis", "8.0", []).folder
    assert (folder / "appendonlydir" / "x.rdb").read_text() == "mine"
    assert not (data / ".copying-redis-8.0").exists()


def test_a_full_disk_stops_the_copy_and_leaves_the_older_data(data, monkeypatch):
    write_data(data, "redis-7.0", "mine")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memoaized.redis_data.shutil.copytree", full)
    with pytest.raises(BadSetup, match=r"cannot copy .*redis-7\.0 for redis-8\.0: the disk of .* is full"):
        plan(data, "redis", "8.0", [])
    assert not (data / "redis-8.0").exists() and (data / "redis-7.0" / "appendonlydir" / "x.rdb").exists()


def test_keys_of_users_are_known_to_a_newer_server(damaged, tmp_path):
    """The installed server reads the copy as if it were a newer one."""
    server, _ = damaged
    binary = replace(find_redis(dict(os.environ)), version="99.0")
    plan = plan_redis(binary, tmp_path, tmp_path / "run", password="test", free_port=0, print_line=lambda line: None)
    newer = replace(server, plan=plan)
    newer.start()
    with redis.Redis.from_url(newer.url) as client:
        assert client.dbsize() == 50
    newer.stop()


# A full disk, and files of somebody else


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "the disk of {data} is full: free some space there"),
        (PermissionError(13, "Permission denied", "{data}/run/lock"), "{data}/run/lock: Permission denied"),
        (OSError(30, "Read-only file system", "{data}/run"), "mounted read-only"),
    ],
)
def test_a_start_that_the_disk_refuses_names_it_and_the_path(tmp_path, monkeypatch, error, words):
    if error.filename:
        error.filename = error.filename.format(data=tmp_path)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(up, "prepare_text_model", refuse)
    result = CliRunner().invoke(main, ["up", "--port", str(up.free_port()), "--data", str(tmp_path)])
    assert result.exit_code == 1 and words.format(data=tmp_path) in result.output
    assert "Errno" not in result.output and "move" not in result.output


def test_a_child_that_the_disk_stops_is_named_with_the_reason(data):
    supervisor = Supervisor(UpOptions(data, 8000, 1, data), data, {})
    supervisor.log("redis", "1:M # Can't open the append-only file: No space left on device")
    assert supervisor.errors["redis"] == f"the disk of {data} is full: free some space there"


def test_a_manifest_that_redis_was_still_writing_is_not_read(tmp_path):
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    file = folder / "appendonly.aof.2.incr.aof"
    file.write_text("")
    (folder / "appendonly.aof.manifest").write_text(f"file {file.name} seq 2 type i\n")
    (folder / "temp-appendonly.aof.manifest").write_text("")
    assert last_append_only_file(tmp_path) == file
