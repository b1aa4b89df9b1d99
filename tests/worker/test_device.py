"""Where networks calculate: a GPU that is asked for and missing is never replaced in silence."""

import pytest
import torch

from memo import BadSetup
from worker.device import open_device


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
