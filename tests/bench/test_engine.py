"""The bench of the step loop for accelerators, at toy size: it runs in one command, and its figures are measured."""

import json
import os
import subprocess
import sys

from tests.real import ROOT


def test_it_runs_anywhere_in_one_command():
    command = [sys.executable, "bench/gpu/engine.py", "--models", "toy", "toy-xl", "--widths", "1", "4", "--json"]
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
