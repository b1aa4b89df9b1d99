"""`memoaized up` while its processes are killed: no job is lost and no process is left running."""

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from memo import read_png
from memoaized.up import responds_ok
from tests.real import alive, running_stack, wait_for

SLOW = {"model": "slow", "width": 256, "height": 256}


def call(stack, method: str, path: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(stack.url + path, method=method)
    request.add_header("Content-Type", "application/json")
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(request, data, timeout=20) as answer:
        return json.loads(answer.read())


def ask(stack, prompt: str, **settings) -> dict:
    return call(stack, "POST", "/api/v1/jobs", {"prompt": prompt, "width": 64, "height": 64, **settings})


def state(stack, job: dict) -> dict:
    return call(stack, "GET", job["links"]["self"])


def finish(stack, job: dict, seconds: float = 90) -> dict:
    def final() -> dict | None:
        now = state(stack, job)
        return now if now["state"] in ("done", "failed", "cancelled") else None

    return wait_for(final, seconds)


def parts(stack) -> dict[str, int]:
    """Return the pid of each child, as `up` recorded it."""
    record = json.loads((stack.data / "run" / "processes.json").read_text())
    return {name: pid for name, (pid, _) in record.items()}


def family(stack) -> list[psutil.Process]:
    me = psutil.Process(stack.process.pid)
    return [me, *me.children(recursive=True)]


def none_left(processes: list[psutil.Process]) -> bool:
    return not any(alive(process.pid) for process in processes)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, tiny_models):
    """`memoaized up` with two workers."""
    with running_stack(tmp_path_factory.mktemp("pair"), tiny_models, workers=2) as stack:
        yield stack


def painters(stack) -> dict[str, str]:
    """Return the worker of each prompt, from the log."""
    lines = [line for line in stack.lines if "painting" in line and ", attempt " in line]
    return {line.split("'")[1]: line.split("|")[0].strip() for line in lines}


def test_two_workers_share_the_load(pair):
    wait_for(lambda: pair.lines and "workers" in call(pair, "GET", "/healthz")["services"])
    jobs = [ask(pair, f"load {number}", steps=20, **SLOW) for number in range(6)]
    assert [finish(pair, job)["state"] for job in jobs] == ["done"] * 6
    assert {painters(pair)[f"load {number}"] for number in range(6)} == {"worker-1", "worker-2"}


def test_a_job_whose_worker_is_killed_is_done_once_by_another(pair):
    job = ask(pair, "killed in the middle", steps=50, **SLOW)
    wait_for(lambda: state(pair, job)["step"] > 2)
    victim = painters(pair)["killed in the middle"]
    os.kill(parts(pair)[victim], signal.SIGKILL)
    done = finish(pair, job)
    assert done["state"] == "done" and done["picture"]["prompt"] == "killed in the middle"
    attempts = [line for line in pair.lines if "'killed in the middle', attempt" in line]
    assert [line.rsplit("attempt ", 1)[1] for line in attempts] == ["1", "2"]
    listed = call(pair, "GET", "/api/v1/pictures?limit=100")["pictures"]
    assert [picture["prompt"] for picture in listed].count("killed in the middle") == 1
    wait_for(lambda: any(f"{victim} ended with status -9; restarting it" in line for line in pair.lines))


def test_after_everything_is_killed_a_restart_finishes_all_jobs(tmp_path, tiny_models):
    with running_stack(tmp_path, tiny_models) as stack:
        done = finish(stack, ask(stack, "a red fox in the snow"))
        slow = ask(stack, "slow", steps=50, **SLOW)
        waiting = [ask(stack, f"waiting {number}", steps=5, **SLOW) for number in range(3)]
        wait_for(lambda: state(stack, slow)["step"] > 0)
        time.sleep(1.1)  # the append-only file is synced every second
        processes = family(stack)
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: none_left(processes), 30)

    with running_stack(tmp_path, tiny_models) as again:
        assert state(again, done) == done
        jobs = [finish(again, job) for job in (slow, *waiting)]
        assert [job["state"] for job in jobs] == ["done"] * 4
        alike = ask(again, "a red fox in snow")
        assert alike["origin"] == "memory" and alike["picture"]["key"] == done["picture"]["key"]
        url = again.url + done["picture"]["links"]["image"]
        with urllib.request.urlopen(url) as answer:
            assert read_png(answer.read()).key == done["picture"]["key"]
        processes = family(again)
        assert again.stop() == 0
        assert none_left(processes)
        assert "memoaized | stopped" in again.lines[-1]


@pytest.mark.parametrize("victim", ["redis", "index", "web"])
def test_the_death_of_redis_index_or_web_stops_everything_with_a_reason(tmp_path, tiny_models, victim):
    with running_stack(tmp_path, tiny_models) as stack:
        processes = family(stack)
        os.kill(parts(stack)[victim], signal.SIGKILL)
        assert stack.process.wait(60) == 1
        assert none_left(processes)
    assert any(f"{victim} ended with status -9" in line for line in stack.lines)


def test_the_data_folder_holds_only_the_expected_files(live_stack):
    assert responds_ok(live_stack.url + "/healthz")
    top = {path.name for path in Path(live_stack.data).iterdir()}
    kept = {name for name in top if not name.startswith("redis-")} - {"embeddings"}  # a cache, made when it is needed
    assert kept == {"index", "pictures", "run", "secrets", "text"}
    for name in ("redis", "index"):
        assert (live_stack.data / "secrets" / name).stat().st_mode & 0o077 == 0
