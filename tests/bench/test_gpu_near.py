"""The GPU bench of near starts, with a toy model and a toy CLIP on the CPU: its figures and its table."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from tests.real import ROOT
from tests.stock_models import TOKENS, tokenizer, write_stable_diffusion

NEAR = runpy.run_path(str(ROOT / "bench" / "gpu" / "near.py"))
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}


def write_toy_clip(folder: Path) -> Path:
    """Write an untrained CLIP model with its processor; returns its folder."""
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**SIZES, **ends, "vocab_size": 100, "max_position_embeddings": TOKENS}
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("with_clip", [True, False])
def test_one_command_measures_a_model(tmp_path: Path, with_clip: bool) -> None:
    write_stable_diffusion(tmp_path / "models")
    command = [sys.executable, "bench/gpu/near.py", "--models", str(tmp_path / "models"), "--model", "sd"]
    command += ["--pairs", "8", "--steps", "10", "--device", "cpu", "--grid", str(tmp_path / "grid.png")]
    if with_clip:
        command += ["--clip", str(write_toy_clip(tmp_path / "clip"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert completed.returncode == 0, completed.stderr
    figures = json.loads(completed.stdout.splitlines()[-1])
    assert sum(group["pairs"] for group in figures["groups"].values()) == 8
    for group in figures["groups"].values():
        assert group["1.0"].get("change") == (0 if with_clip else None)
        assert 0 < group["0.5"]["seconds"]
    assert (figures["near"] is None) != with_clip
    assert (tmp_path / "grid.png").stat().st_size > 1000


def row(**scores: float) -> dict[float, tuple[float, float]]:
    """A row whose score at these strengths differs from that of noise, 30."""
    changed = {float(name.removeprefix("s")) / 10: change for name, change in scores.items()}
    return {strength: (30.0 + changed.get(strength, 0.0), 1.0) for strength in (1.0, *NEAR["STRENGTHS"])}


def test_the_table_names_the_lowest_strength_that_loses_little() -> None:
    groups = {
        2.75: [row(s5=-0.2), row(s5=-0.3)],
        2.5: [row(s5=-2.0, s6=-0.05, s7=-0.9)],
        2.25: [row(s5=-1.0, s6=-1.0, s7=-1.0, s8=-1.0, s9=-1.0)],
        2.0: [row()],
        0.0: [row()],
    }
    assert NEAR["choose_strengths"](groups, 0.3) == [[2.75, 0.5], [2.5, 0.6]]
    assert NEAR["choose_strengths"](groups, 0.1) == [[2.75, 0.6], [2.5, 0.6]]
    assert NEAR["choose_strengths"]({2.75: [row(s5=-1.0)], 2.5: [row()]}, 0.3) == [[2.75, 0.6], [2.5, 0.6]]
    assert NEAR["choose_strengths"]({2.75: [], 0.0: [row()]}, 0.3) == []
