"""What the doctor says of painting: where, how fast, whether it fits, and what is to be done."""

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
from memoaized.doctor import painting, room, seconds, speed_ups
from memoaized.hub_presets import PRESETS
from memoaized.model_commands import write
from tests.hub_stub import COMMIT
from tests.real import painted
from worker.config import WorkerConfig
from worker.engine.device import Device

CPU, GPU = Device("cpu", torch.float32), Device("cuda:0", torch.bfloat16)


@pytest.fixture
def examined(tmp_path, tiny_models):
    """What is found of painting with some settings, by name."""

    def examine(**environment):
        return {finding.name: finding for finding in painting(tmp_path, tiny_models, environment)}

    return examine


def test_on_a_cpu_every_speed_up_is_named_with_its_reason(examined, monkeypatch):
    monkeypatch.setattr(doctor, "gpus_of_driver", lambda: "")
    found = examined(WORKER_DEVICE="auto")
    assert "cpu float32" in found["painting on"].text and "no GPU is there" in found["painting on"].text
    states = {name: finding.state for name, finding in found.items() if finding.state in ("on", "off")}
    assert [name for name, state in states.items() if state == "on"] == ["attention"] and len(states) == 7
    assert not any(finding.fault for finding in found.values())
    assert found["CUDA graphs"].line().startswith("off ") and "thread" in found["CUDA graphs"].text


def test_on_a_gpu_they_are_on():
    found = {finding.name: finding for finding in speed_ups(GPU, WorkerConfig())}
    assert {found[name].state for name in ("bfloat16", "channels last", "attention")} == {"on"}
    assert found["fused QKV"].state == "off"
    compiled = {finding.name: finding.state for finding in speed_ups(GPU, WorkerConfig(compile="1"))}
    assert compiled["fused QKV"] == "on"
    assert "memory-efficient" in found["attention"].text
    half = replace(GPU, kind=torch.float16)
    assert {finding.name: finding.state for finding in speed_ups(half, WorkerConfig())}["bfloat16"] == "off"


def test_a_gpu_that_is_asked_for_and_missing_is_a_fault(tmp_path, tiny_models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["doctor", "--data", str(tmp_path), "--models", str(tiny_models)]
    answer = CliRunner().invoke(main, arguments, env={"WORKER_DEVICE": "cuda"})
    (line,) = [line for line in answer.output.splitlines() if line.startswith("MISSING")]
    assert answer.exit_code == 1 and "WORKER_DEVICE=cuda" in line and "WORKER_DEVICE=cpu paints on the CPU" in line
    assert "channels last" not in answer.output


def test_a_gpu_that_torch_cannot_use_is_no_silent_cpu(examined, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "gpus_of_driver", lambda: "NVIDIA H200")
    (finding,) = examined().values()
    assert finding.fault and "NVIDIA H200" in finding.text and "install torch for a CUDA" in finding.text
    assert "cpu float32" in examined(WORKER_DEVICE="cpu")["painting on"].text


def test_wrong_settings_are_a_fault(examined):
    (finding,) = examined(WORKER_DTYPE="int4").values()
    assert finding.fault and "WORKER_DTYPE=int4" in finding.text


def test_compiling_without_a_compiler_is_a_fault_only_when_it_is_asked_for(examined, monkeypatch):
    assert examined(WORKER_COMPILE="0")["torch.compile"].state == "off"
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert not examined(WORKER_COMPILE="0")["torch.compile"].fault
    finding = examined(WORKER_COMPILE="1")["torch.compile"]
    assert finding.fault and finding.text == "WORKER_COMPILE=1 wants a compiler: apt-get install g++"
    assert "triton" in doctor.compiling(GPU, WorkerConfig(compile="max")).text  # which only torch for CUDA brings


def test_weights_are_counted_in_the_numbers_they_will_be(tiny_models, monkeypatch):
    model = Catalogue(tiny_models).model("slow")
    files = sorted(model.folder.rglob("*.safetensors"))
    whole = sum(file.stat().st_size for file in files)
    assert 0.97 * whole < 4 * sum(map(doctor.numbers, files)) < whole  # but for the headers
    monkeypatch.setattr(doctor, "ROOM", 0.0)
    monkeypatch.setattr(doctor, "memory", lambda device: (0.0, whole / 2**30))
    assert room(model, CPU).state == "tight"
    monkeypatch.setattr(doctor, "memory", lambda device: (0.0, whole / 2**31))
    assert room(model, CPU).fault and not room(model, replace(CPU, kind=torch.bfloat16)).fault


def test_a_model_that_is_not_fetched_yet_is_judged_by_its_preset(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    write(PRESETS["flux-schnell"].about("flux-schnell", COMMIT), tmp_path)
    write(PRESETS["hf-sdxl"].about("hf-sdxl", None), tmp_path)
    (model,) = doctor.local_models(tmp_path)
    monkeypatch.setattr(doctor, "memory", lambda device: (80.0, 80.0))
    assert "not here yet, it may want 34 GiB" in room(model, GPU).text
    monkeypatch.setattr(doctor, "memory", lambda device: (24.0, 24.0))
    assert room(model, GPU).fault and '"without"' in room(model, GPU).text


def test_torn_weights_are_named(tmp_path):
    write(PRESETS["sd15"].about("sd15", COMMIT), tmp_path)
    file = tmp_path / "sd15" / "model.json"
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "source"})
    )
    (tmp_path / "sd15" / "unet.safetensors").write_bytes(b"torn")
    finding = room(Catalogue(tmp_path).model("sd15"), CPU)
    assert finding.fault and "cannot be read" in finding.text


def test_seconds_a_picture_are_those_of_the_newest_kept_ones(tmp_path, tiny_models, recipe):
    assert "has not painted here yet" in seconds(tmp_path / "pictures", tiny_models)
    store = FolderStore(tmp_path / "pictures")
    for seed in (1, 2, 3):
        picture, png = painted(recipe, seed=seed)
        store.put(object_name(picture.key), png)
    (tmp_path / "pictures" / "torn.png").write_bytes(b"")
    assert f"stickers took {picture.seconds:.1f} s a picture" in seconds(tmp_path / "pictures", tiny_models)
    assert "newest 3" in seconds(tmp_path / "pictures", tiny_models)
