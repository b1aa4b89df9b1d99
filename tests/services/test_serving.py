"""A worker serves the models of its queues, and new ones without a restart."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.real import ROOT, running_stack
from tests.services.test_killed import finish, submit
from tests.tiny_model import write_tiny_model


@pytest.mark.timeout(120)
def test_a_model_added_later_is_served_without_a_restart(tmp_path, tiny_models):
    models = tmp_path / "models"
    shutil.copytree(tiny_models / "stickers", models / "stickers")
    with running_stack(tmp_path / "data", models) as stack:
        worker_lines = [line for line in stack.lines if line.startswith("worker-1")]
        assert "loading the model stickers" in worker_lines[0]  # as its first line: nothing slow may come before it
        assert re.match(r"worker-1 +\| \d{4}-\d\d-\d\dT[\d:]{8}[+-]\d{4} INFO worker\.app: ", worker_lines[0])
        write_tiny_model(tmp_path, name="new", seed=1)
        (tmp_path / "new").rename(models / "new")
        done = finish(stack, submit(stack, "a red fox", model="new", steps=2))
        assert (done["state"], done["picture"]["model"]) == ("done", "new")


def test_a_worker_for_an_unknown_model_ends_and_names_it(tiny_models, redis_url):
    command = [
        sys.executable,
        "-m",
        "celery",
        "--app",
        "worker.main:app",
        "--quiet",
        "worker",
        "--queues",
        "paint.none",
    ]
    environment = {"PATH": "/usr/bin:/bin", "JOBS_REDIS": redis_url, "JOBS_MODELS": str(tiny_models)}
    completed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert completed.returncode != 0
    assert "there is no model 'none'" in completed.stderr and "stickers, slow" in completed.stderr


def test_a_worker_whose_start_fails_unexpectedly_ends_with_the_reason(redis_url, tmp_path):
    """Otherwise it would live on and take messages, with nothing to answer them."""
    command = [sys.executable, "-m", "celery", "--app", "bench.fleet.sleeper:app", "--quiet", "worker"]
    settings = {"BENCH_STEP_SECONDS": "soon", "WORKER_SLOTS": "1", "MEMO_STORE": f"file:{tmp_path}"}
    environment = {"PATH": "/usr/bin:/bin", "JOBS_REDIS": redis_url, "JOBS_MODELS": str(ROOT / "models"), **settings}
    completed = subprocess.run(
        [*command, "--pool", "threads"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert completed.returncode not in (0, None)
    assert "this worker cannot start: ValueError: could not convert string to float: 'soon'" in completed.stderr
