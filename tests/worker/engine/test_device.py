"""Devices: a GPU that is configured and missing is never silently replaced by the CPU."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from memo import BadSetup
from worker.engine.device import Device, check_memory, count_weights, free_main_memory, open_device


def test_without_a_gpu_auto_means_the_cpu_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(open_device()) == "cpu float32"
    assert str(open_device("cpu", "bfloat16")) == "cpu bfloat16"


def test_with_gpus_auto_means_the_first_gpu_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(open_device()) == str(open_device("cuda")) == "cuda:0 bfloat16"
    assert str(open_device("cuda:1", "float16")) == "cuda:1 float16"
    with pytest.raises(BadSetup, match="there are 2"):
        open_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("cuda", "auto", "torch sees none.*WORKER_DEVICE=cpu"),
        ("cuda:first", "auto", "cuda:N"),
        ("tpu", "auto", "WORKER_DEVICE=tpu: it must be auto"),
        ("cpu", "int4", "WORKER_DTYPE=int4: it must be auto or one of float32"),
    ],
)
def test_a_device_that_cannot_be_used_is_named_with_the_fix(monkeypatch, device, dtype, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSetup, match=message):
        open_device(device, dtype)


def test_weights_that_do_not_fit_are_refused_and_the_error_says_how_much_memory_is_missing():
    device = Device("cpu", torch.float32)
    with pytest.raises(BadSetup, match=r"huge needs 3725\d\.\d GiB on cpu float32 .* GiB too few: stop other"):
        check_memory("huge", 10**13, device)
    check_memory("small", 1000, device)


def test_weights_are_counted_once_and_without_adapters(tmp_path):
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "adapters").mkdir()
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2)}, folder / "unet" / "model.safetensors")
    save_file({"a": torch.zeros(3, 5).half()}, folder / "unet" / "model.fp16.safetensors")
    save_file({"a": torch.zeros(100)}, folder / "adapters" / "ink.safetensors")
    assert count_weights(folder) == 17


@pytest.mark.parametrize(("limit", "free"), [("1048576", 1048576 - 700_000 + 200_000), ("max", None), (None, None)])
def test_free_main_memory_is_what_the_containers_limit_leaves(tmp_path, monkeypatch, limit, free):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**40))
    for name, text in {"memory.current": "700000\n", "memory.stat": "anon 500000\ninactive_file 200000\n"}.items():
        (tmp_path / name).write_text(text)
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert free_main_memory(tmp_path) == (free or 2**40)
