"""What `memoaized doctor` reports about painting: the device, its speed-ups, whether models fit, and fixes."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from jobs.models import Catalogue
from memo.memory import object_name
from memo.store import FolderStore
from memoaized import doctor
from memoaized.cli import main
from memoaized.doctor import check_memory, check_painting, check_speed_ups, painting_seconds
from memoaized.hub_presets import PRESETS
from memoaized.model_commands import write_model_json
from tests.hub_stub import COMMIT
from tests.real import painted
from worker.config import WorkerConfig
from worker.engine.device import Device

CPU, GPU = Device("cpu", torch.float32), Device("cuda:0", torch.bfloat16)


@pytest.fixture
def examine(tmp_path, tiny_models):
    """A function that returns the findings about painting with some settings, by name."""

    def check(**environment):
        return {finding.name: finding for finding in check_painting(tmp_path, tiny_models, environment)}

    return check


def test_on_a_cpu_every_speed_up_is_named_with_its_reason(examine, monkeypatch):
    monkeypatch.setattr(doctor, "find_nvidia_gpu", lambda: "")
    findings = examine(WORKER_DEVICE="auto")
    assert "cpu float32" in findings["device"].text and "without a GPU" in findings["device"].text
    states = {name: finding.state for name, finding in findings.items() if finding.state in ("on", "off")}
    assert [name for name, state in states.items() if state == "on"] == ["attention"] and len(states) == 7
    assert not any(finding.fault for finding in findings.values())
    assert findings["CUDA graphs"].line().startswith("off ") and "thread" in findings["CUDA graphs"].text


def test_on_a_gpu_the_speed_ups_are_on():
    findings = {finding.name: finding for finding in check_speed_ups(GPU, WorkerConfig())}
    assert {findings[name].state for name in ("bfloat16", "channels last", "attention")} == {"on"}
    assert findings["fused QKV"].state == "off"
    compiled = {finding.name: finding.state for finding in check_speed_ups(GPU, WorkerConfig(compile="1"))}
    assert compiled["fused QKV"] == "on"
    assert "memory-efficient" in findings["attention"].text
    half = replace(GPU, dtype=torch.float16)
    assert {finding.name: finding.state for finding in check_speed_ups(half, WorkerConfig())}["bfloat16"] == "off"


def test_a_missing_gpu_is_a_fault_if_the_settings_demand_one(tmp_path, tiny_models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["doctor", "--data", str(tmp_path), "--models", str(tiny_models)]
    result = CliRunner().invoke(main, arguments, env={"WORKER_DEVICE": "cuda"})
    (line,) = [line for line in result.output.splitlines() if line.startswith("MISSING")]
    assert result.exit_code == 1 and "WORKER_DEVICE=cuda" in line and "WORKER_DEVICE=cpu paints on the CPU" in line
    assert "channels last" not in result.output


def test_a_gpu_that_torch_cannot_use_is_a_fault(examine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "find_nvidia_gpu", lambda: "NVIDIA H200")
    (finding,) = examine().values()
    assert finding.fault and "NVIDIA H200" in finding.text and "install torch for a CUDA" in finding.text
    assert "cpu float32" in examine(WORKER_DEVICE="cpu")["device"].text


def test_wrong_settings_are_a_fault(examine):
    (finding,) = examine(WORKER_DTYPE="int4").values()
    assert finding.fault and "WORKER_DTYPE=int4" in finding.text


def test_a_missing_compiler_is_a_fault_only_if_compiling_is_on(examine, monkeypatch):
    assert examine(WORKER_COMPILE="0")["torch.compile"].state == "off"
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert not examine(WORKER_COMPILE="0")["torch.compile"].fault
    finding = examine(WORKER_COMPILE="1")["torch.compile"]
    assert finding.fault and finding.text == "WORKER_COMPILE=1 needs a compiler: apt-get install g++"
    assert "triton" in doctor.check_compiling(GPU, WorkerConfig(compile="max")).text  # which torch for CUDA brings


def test_the_size_of_weights_is_counted_in_the_dtype_of_the_device(tiny_models, monkeypatch):
    model = Catalogue(tiny_models).model("slow")
    files = sorted(model.folder.rglob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    assert 0.97 * size < 4 * sum(map(doctor.count_parameters, files)) < size  # the files also have headers
    monkeypatch.setattr(doctor, "WORKING_GIB", 0.0)
    monkeypatch.setattr(doctor, "device_memory", lambda device: (0.0, size / 2**30))
    assert check_memory(model, CPU).state == "tight"
    monkeypatch.setattr(doctor, "device_memory", lambda device: (0.0, size / 2**31))
    assert check_memory(model, CPU).fault and not check_memory(model, replace(CPU, dtype=torch.bfloat16)).fault


def test_a_model_not_yet_downloaded_needs_the_memory_that_its_preset_names(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    write_model_json(PRESETS["flux-schnell"].model_json("flux-schnell", COMMIT), tmp_path)
    write_model_json(PRESETS["hf-sdxl"].model_json("hf-sdxl", None), tmp_path)
    (model,) = doctor.local_models(tmp_path)
    monkeypatch.setattr(doctor, "device_memory", lambda device: (80.0, 80.0))
    assert "not downloaded yet; it may need 34 GiB" in check_memory(model, GPU).text
    monkeypatch.setattr(doctor, "device_memory", lambda device: (24.0, 24.0))
    assert check_memory(model, GPU).fault and '"without"' in check_memory(model, GPU).text


def test_unreadable_weights_are_reported(tmp_path):
    write_model_json(PRESETS["sd15"].model_json("sd15", COMMIT), tmp_path)
    file = tmp_path / "sd15" / "model.json"
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "source"})
    )
    (tmp_path / "sd15" / "unet.safetensors").write_bytes(b"torn")
    finding = check_memory(Catalogue(tmp_path).model("sd15"), CPU)
    assert finding.fault and "cannot be read" in finding.text


def test_seconds_per_picture_are_measured_on_the_newest_pictures(tmp_path, tiny_models, recipe):
    assert "has not painted here yet" in painting_seconds(tmp_path / "pictures", tiny_models)
    store = FolderStore(tmp_path / "pictures")
    for seed in (1, 2, 3):
        picture, png = painted(recipe, seed=seed)
        store.put(object_name(picture.key), png)
    (tmp_path / "pictures" / "torn.png").write_bytes(b"")
    assert f"stickers took {picture.seconds:.1f} s per picture" in painting_seconds(
        tmp_path / "pictures", tiny_models
    )
    assert "newest 3" in painting_seconds(tmp_path / "pictures", tiny_models)
