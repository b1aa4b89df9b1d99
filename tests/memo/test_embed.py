"""The text model on ONNX Runtime gives nearly the same vectors as sentence-transformers."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from memo import BadSetup
from memo.embed import open_embedder
from memo.minilm import minilm_folder
from memo.onnx_embedder import ONNX_NAME
from tests.real import ROOT

TEXTS = ["a red fox in the snow", "", "three cats " * 200, "naïve café 狐", "left of\tright of"]


def test_eight_bit_weights_give_nearly_the_same_vectors_as_sentence_transformers(embedder):
    reference = open_embedder(f"st:{minilm_folder()}", ROOT)
    ours, theirs = embedder(TEXTS), reference(TEXTS)
    assert ours.shape == theirs.shape == (len(TEXTS), embedder.dimension) == (len(TEXTS), reference.dimension)
    assert (ours * theirs).sum(1).min() > 0.998  # eight bits against float32


def test_a_text_has_the_same_vector_alone_and_in_a_batch(embedder):
    together = embedder(TEXTS)
    alone = np.concatenate([embedder([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6


def test_vectors_have_length_one_and_an_empty_batch_gives_no_vectors(embedder):
    assert np.allclose(np.linalg.norm(embedder(TEXTS), axis=1), 1, atol=1e-5)
    assert embedder([]).shape == (0, embedder.dimension)


def test_a_damaged_model_is_refused_with_the_remedy(tmp_path):
    for file in (ROOT / "var" / "text").glob("minilm-*"):
        shutil.copy(file, tmp_path)
    with (tmp_path / ONNX_NAME).open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    with pytest.raises(BadSetup, match="memoaized prepare"):
        open_embedder("minilm", tmp_path)


def test_a_missing_model_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(BadSetup, match="memoaized prepare"):
        open_embedder("minilm", tmp_path)


def test_a_manifest_for_other_weights_is_refused(tmp_path):
    for file in (ROOT / "var" / "text").glob("minilm-*"):
        shutil.copy(file, tmp_path)
    manifest = (tmp_path / ONNX_NAME).with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "weights": "0" * 64}))
    with pytest.raises(BadSetup):
        open_embedder("minilm", tmp_path)


def test_unofficial_weights_are_refused(monkeypatch):
    minilm_folder.cache_clear()
    monkeypatch.setattr("memo.minilm.SHA256", "0" * 64)
    with pytest.raises(BadSetup, match="not the official ones"):
        minilm_folder()
    minilm_folder.cache_clear()


def test_an_unknown_embedder_and_an_unknown_hub_model_are_refused(tmp_path, monkeypatch):
    with pytest.raises(BadSetup, match="minilm"):
        open_embedder("word2vec", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadSetup, match="no-such"):
        open_embedder(f"st:{tmp_path}/no-such", tmp_path)


def test_encoding_a_prompt_loads_no_torch():
    code = (
        "import sys; from pathlib import Path; from memo.embed import open_embedder;"
        "open_embedder('minilm', Path('var/text'))(['fox']); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("module", ["memo.onnx_embedder", "memo.judge.learned", "training.quantize"])
def test_onnx_runtime_leaves_no_trace_at_home(tmp_path, module):
    """Its telemetry is silent where CI is set."""
    silent = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in silent} | {"HOME": str(tmp_path)}
    command = f"import {module}, onnxruntime"
    subprocess.run([sys.executable, "-c", command], env=environment, cwd=ROOT, check=True, timeout=120)
    assert not (tmp_path / ".cache" / "Microsoft").exists()


def test_every_module_that_imports_onnx_runtime_has_switched_its_telemetry_off():
    files = [file for room in ("memo", "worker", "training", "web") for file in (ROOT / room).rglob("*.py")]
    parts = [re.split(r"^ *(?:import|from) onnxruntime", file.read_text(), flags=re.M) for file in files]
    before_imports = [part[0] for part in parts if len(part) > 1]
    assert len(before_imports) == 3
    for text in before_imports:
        assert re.search(r'^os.environ\["ORT_DISABLE_TELEMETRY"\]|^from memo.onnx_embedder import', text, re.M)
