"""The bench of the step loop for accelerators, at toy size: it runs in one command, and its figures are measured."""

import json
import os
import runpy
import subprocess
import sys

import pytest

from tests.real import ROOT


def test_it_runs_anywhere_in_one_command():
    command = [
        sys.executable,
        "bench/gpu/engine.py",
        "--models",
        "toy",
        "toy-xl",
        "--batch-sizes",
        "1",
        "4",
        "--json",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=True
    )
    [line] = ended.stdout.splitlines()
    told = json.loads(line)
    assert told["device"] == "cpu float32" and told["matmul_tflops"] > 0
    for model in ("toy", "toy-xl"):
        assert told[f"{model}_bit_identical"] == 1.0
        assert 0 < told[f"{model}_eager_4_mfu"] < 1 and told[f"{model}_eager_4_ms"] > 0
        assert told[f"{model}_full_vs_eager_one_by_one"] > 0 and told[f"{model}_mixed_pictures_per_second"] > 0


@pytest.mark.parametrize(("name", "tera"), [("sd15", 0.803), ("sdxl", 6.76)])
def test_operations_are_counted_as_published_for_the_real_architectures(name, tera):
    row_flops = runpy.run_path(str(ROOT / "bench" / "gpu" / "engine.py"))["row_flops"]
    assert row_flops(name) / 1e12 == pytest.approx(tera, rel=0.01)
