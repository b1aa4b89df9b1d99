"""The GPU bench of the step loop, with toy models on the CPU: its figures, and how it counts operations."""

import json
import os
import runpy
import subprocess
import sys

import pytest

from tests.real import ROOT


def test_one_command_runs_the_bench_on_any_machine():
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
    completed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=True
    )
    [line] = completed.stdout.splitlines()
    figures = json.loads(line)
    assert figures["device"] == "cpu float32" and figures["matmul_tflops"] > 0
    for model in ("toy", "toy-xl"):
        assert figures[f"{model}_bit_identical"] == 1.0
        assert 0 < figures[f"{model}_eager_4_mfu"] < 1 and figures[f"{model}_eager_4_ms"] > 0
        assert figures[f"{model}_full_vs_eager_one_by_one"] > 0 and figures[f"{model}_mixed_pictures_per_second"] > 0


@pytest.mark.parametrize(("name", "teraflops"), [("sd15", 0.803), ("sdxl", 6.76)])
def test_the_operations_of_real_architectures_are_counted_as_published(name, teraflops):
    row_flops = runpy.run_path(str(ROOT / "bench" / "gpu" / "engine.py"))["row_flops"]
    assert row_flops(name) / 1e12 == pytest.approx(teraflops, rel=0.01)
