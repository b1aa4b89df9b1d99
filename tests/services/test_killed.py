"""`memoaized up` while its processes are killed: no job is lost and no process is left running."""

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from PIL import ImageChops

from jobs.models import Catalogue
from jobs.store.connection import open_connection
from memo import read_png
from memo.image_files import read_pixels
from memoaized.redis_server import read_redis_url
from memoaized.up import responds_ok
from tests.real import alive, running_stack, wait_for
from worker.painters.factory import open_painter
from worker.painters.port import PainterOptions

SLOW = {"model": "slow", "width": 256, "height": 256}


def call(stack, method: str, path: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(stack.url + path, method=method)
    request.add_header("Content-Type", "application/json")
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(request, data, timeout=20) as answer:
        return json.loads(answer.read())


def submit(stack, prompt: str, **settings) -> dict:
    return call(stack, "POST", "/api/v1/jobs", {"prompt": prompt, "width": 64, "height": 64, **settings})


def find_job(stack, job: dict) -> dict:
    return call(stack, "GET", job["links"]["self"])


def finish(stack, job: dict, seconds: float = 90) -> dict:
    def final() -> dict | None:
        snapshot = find_job(stack, job)
        return snapshot if snapshot["state"] in ("done", "failed", "cancelled") else None

    return wait_for(final, seconds)


def download(stack, picture: dict) -> bytes:
    with urllib.request.urlopen(stack.url + picture["links"]["image"], timeout=20) as answer:
        return answer.read()


def child_pids(stack) -> dict[str, int]:
    """Return the pid of each child, as `up` recorded it."""
    record = json.loads((stack.data / "run" / "processes.json").read_text())
    return {name: pid for name, (pid, _) in record.items()}


def process_tree(stack) -> list[psutil.Process]:
    supervisor = psutil.Process(stack.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def all_have_ended(processes: list[psutil.Process]) -> bool:
    return not any(alive(process.pid) for process in processes)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory, tiny_models):
    """`memoaized up` with two workers."""
    with running_stack(tmp_path_factory.mktemp("pair"), tiny_models, workers=2) as stack:
        yield stack


def attempts(stack, job: dict) -> list[tuple[str, str]]:
    """Return the worker and the number of each attempt at a job, by the log."""
    connection = open_connection(read_redis_url(stack.data / "run"))
    painting = connection.redis.hget(f"{connection.prefix}job:{job['id']}", "painting")
    connection.redis.close()
    lines = [line for line in stack.lines if f"painting {painting}" in line and ", attempt " in line]
    return [(line.split("|")[0].strip(), line.rsplit("attempt ", 1)[1]) for line in lines]


def test_two_workers_share_the_load(two_workers):
    wait_for(lambda: two_workers.lines and "workers" in call(two_workers, "GET", "/healthz")["services"])
    jobs = [submit(two_workers, f"load {number}", steps=20, **SLOW) for number in range(6)]
    assert [finish(two_workers, job)["state"] for job in jobs] == ["done"] * 6
    assert {attempts(two_workers, job)[0][0] for job in jobs} == {"worker-1", "worker-2"}


def test_a_job_whose_worker_is_killed_is_done_once_by_another(two_workers):
    job = submit(two_workers, "killed in the middle", steps=50, **SLOW)
    wait_for(lambda: find_job(two_workers, job)["step"] > 2)
    [(victim, _)] = attempts(two_workers, job)
    os.kill(child_pids(two_workers)[victim], signal.SIGKILL)
    done = finish(two_workers, job)
    assert done["state"] == "done" and done["picture"]["prompt"] == "killed in the middle"
    assert [number for _, number in attempts(two_workers, job)] == ["1", "2"]
    listed = call(two_workers, "GET", "/api/v1/pictures?limit=100")["pictures"]
    assert [picture["prompt"] for picture in listed].count("killed in the middle") == 1
    wait_for(lambda: any(f"{victim} ended with status -9; restarting it" in line for line in two_workers.lines))


def test_a_near_start_whose_worker_is_killed_gives_the_picture_of_its_recipe(two_workers, tiny_models):
    """Its recipe names the picture that it starts from, so the other worker starts from there, too."""
    source = finish(two_workers, submit(two_workers, "a red fox in the snow", steps=50, **SLOW))
    wait_for(lambda: call(two_workers, "GET", "/api/v1/pictures?near=fox&model=slow")["pictures"])
    job = submit(two_workers, "a red fox in the snow at night", steps=50, memo="near", **SLOW)
    saved = job["near"]["steps_saved"]
    assert job["near"]["picture"] == source["picture"]["key"] and saved >= 10
    wait_for(lambda: find_job(two_workers, job)["step"] > saved + 2)
    [(victim, _)] = attempts(two_workers, job)
    os.kill(child_pids(two_workers)[victim], signal.SIGKILL)
    done = finish(two_workers, job)
    assert [number for _, number in attempts(two_workers, job)] == ["1", "2"]
    png, source_png = (download(two_workers, document["picture"]) for document in (done, source))
    painter = open_painter(Catalogue(tiny_models).model("slow"), PainterOptions())
    expected = painter(read_png(png).recipe, lambda progress: None, read_pixels(source_png))
    assert ImageChops.difference(read_pixels(png), expected).getbbox() is None


def test_after_everything_is_killed_a_restart_finishes_all_jobs(tmp_path, tiny_models):
    with running_stack(tmp_path, tiny_models) as stack:
        done = finish(stack, submit(stack, "a red fox in the snow"))
        slow = submit(stack, "slow", steps=50, **SLOW)
        waiting = [submit(stack, f"waiting {number}", steps=5, **SLOW) for number in range(3)]
        wait_for(lambda: find_job(stack, slow)["step"] > 0)
        time.sleep(1.1)  # the append-only file is synced every second
        processes = process_tree(stack)
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: all_have_ended(processes), 30)

    with running_stack(tmp_path, tiny_models) as restarted:
        assert find_job(restarted, done) == done
        jobs = [finish(restarted, job) for job in (slow, *waiting)]
        assert [job["state"] for job in jobs] == ["done"] * 4
        reworded = submit(restarted, "a red fox in snow")
        assert reworded["origin"] == "memory" and reworded["picture"]["key"] == done["picture"]["key"]
        url = restarted.url + done["picture"]["links"]["image"]
        with urllib.request.urlopen(url) as answer:
            assert read_png(answer.read()).key == done["picture"]["key"]
        processes = process_tree(restarted)
        assert restarted.stop() == 0
        assert all_have_ended(processes)
        assert "memoaized | stopped" in restarted.lines[-1]


@pytest.mark.parametrize("victim", ["redis", "index", "web"])
def test_if_redis_the_index_or_web_dies_everything_stops_and_the_log_says_why(tmp_path, tiny_models, victim):
    with running_stack(tmp_path, tiny_models) as stack:
        processes = process_tree(stack)
        os.kill(child_pids(stack)[victim], signal.SIGKILL)
        assert stack.process.wait(60) == 1
        assert all_have_ended(processes)
    assert any(f"{victim} ended with status -9" in line for line in stack.lines)


def test_the_data_folder_holds_only_the_expected_files(live_stack):
    assert responds_ok(live_stack.url + "/healthz")
    names = {path.name for path in Path(live_stack.data).iterdir()} - {"embeddings"}  # a cache, created on first use
    assert {name for name in names if not name.startswith("redis-")} == {
        "index",
        "pictures",
        "run",
        "secrets",
        "text",
    }
    for name in ("redis", "index"):
        assert (live_stack.data / "secrets" / name).stat().st_mode & 0o077 == 0
