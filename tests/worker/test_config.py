"""The worker's settings are checked when they are read."""

import pytest

from memo import BadSetup
from worker.config import WorkerConfig


@pytest.mark.parametrize(
    "values",
    [
        {"threads": "0"},
        {"slots": "0"},
        {"slots": "all"},
        {"threads": "auto"},
        {"threads": "many"},
        {"compile": "yes"},
    ],
)
def test_a_wrong_setting_is_refused(values):
    with pytest.raises(BadSetup, match="WORKER_"):
        WorkerConfig(**values)


def test_the_environment_is_read():
    assert WorkerConfig.from_env({"WORKER_THREADS": "3"}).threads == "3"


def test_painters_get_the_settings():
    options = WorkerConfig(threads="3", slots="2", compile="max", device="cpu", watts="12.5").painter_options()
    assert (options.threads, options.slots, options.compile) == (3, 2, "max")
    assert (options.device, options.watts) == ("cpu", 12.5)


@pytest.mark.parametrize(("device", "gpus", "slots"), [("auto", 1, 8), ("auto", 0, 1), ("cpu", 1, 1), ("cuda", 2, 8)])
def test_a_gpu_paints_several_pictures_at_once_by_default(monkeypatch, device, gpus, slots):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert WorkerConfig(device=device).painter_options().slots == slots


def test_a_missing_gpu_is_reported_before_slots_are_counted(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadSetup, match="no such GPU"):
        WorkerConfig(device="cuda").painter_options()
