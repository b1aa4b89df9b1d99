"""Where networks calculate: a GPU that is asked for and missing is never replaced in silence."""

import pytest
import torch
from safetensors.torch import save_file

from memo import BadSetup
from worker.engine.device import Device, check_memory, open_device, weights_in


def test_without_a_gpu_automatic_is_the_cpu_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(open_device()) == "cpu float32"
    assert str(open_device("cpu", "bfloat16")) == "cpu bfloat16"


def test_with_gpus_automatic_is_the_first_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(open_device()) == str(open_device("cuda")) == "cuda:0 bfloat16"
    assert str(open_device("cuda:1", "float16")) == "cuda:1 float16"
    with pytest.raises(BadSetup, match="there are 2"):
        open_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "kind", "said"),
    [
        ("cuda", "auto", "torch sees none.*WORKER_DEVICE=cpu"),
        ("cuda:first", "auto", "cuda:N"),
        ("tpu", "auto", "WORKER_DEVICE=tpu: it must be auto"),
        ("cpu", "int4", "WORKER_DTYPE=int4: it must be auto or one of float32"),
    ],
)
def test_what_cannot_be_had_is_named_with_the_remedy(monkeypatch, device, kind, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSetup, match=said):
        open_device(device, kind)


def test_weights_that_do_not_fit_are_refused_with_what_is_missing():
    device = Device("cpu", torch.float32)
    with pytest.raises(BadSetup, match=r"huge wants 3725\d\.\d GiB on cpu float32 .* GiB too few: end what else"):
        check_memory("huge", 10**13, device)
    check_memory("small", 1000, device)


def test_weights_are_counted_once_and_without_adapters(tmp_path):
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "adapters").mkdir()
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2)}, folder / "unet" / "model.safetensors")
    save_file({"a": torch.zeros(3, 5).half()}, folder / "unet" / "model.fp16.safetensors")
    save_file({"a": torch.zeros(100)}, folder / "adapters" / "ink.safetensors")
    assert weights_in(folder) == 17
