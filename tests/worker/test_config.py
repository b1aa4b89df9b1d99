"""The worker's few settings are checked when they are read."""

import pytest

from memo import BadSetup
from worker.config import WorkerConfig


def test_a_socket_is_named_in_kombus_words():
    config = WorkerConfig(redis="unix://:pw@/data/redis.sock?db=0")
    assert config.broker == "redis+socket://:pw@/data/redis.sock?virtual_host=0"
    assert WorkerConfig(redis="redis://:pw@host:6379/0").broker == "redis://:pw@host:6379/0"


def test_the_environment_and_secret_files_are_read(tmp_path):
    (tmp_path / "url").write_text("redis://:s3cret@host:6379/0\n")
    config = WorkerConfig.from_env({"JOBS_REDIS_FILE": str(tmp_path / "url"), "WORKER_THREADS": "3"})
    assert (config.redis, config.threads) == ("redis://:s3cret@host:6379/0", "3")


@pytest.mark.parametrize(
    "values",
    [
        {"threads": "0"},
        {"slots": "0"},
        {"slots": "all"},
        {"threads": "auto"},
        {"threads": "many"},
        {"redis": "amqp://host"},
        {"compile": "yes"},
    ],
)
def test_a_wrong_setting_is_refused(values):
    with pytest.raises(BadSetup, match="WORKER_"):
        WorkerConfig(**values)


def test_painters_may_use_what_is_set():
    options = WorkerConfig(threads="3", slots="2", compile="max", device="cpu", watts="12.5").painter_options()
    assert (options.threads, options.slots, options.compile, options.device, options.watts) == (
        3,
        2,
        "max",
        "cpu",
        12.5,
    )


@pytest.mark.parametrize(("asked", "gpus", "slots"), [("auto", 1, 8), ("auto", 0, 1), ("cpu", 1, 1), ("cuda", 2, 8)])
def test_unless_told_otherwise_a_gpu_paints_several_at_once(monkeypatch, asked, gpus, slots):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert WorkerConfig(device=asked).painter_options().slots == slots


def test_a_gpu_that_is_missing_is_told_before_slots_are_counted(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadSetup, match="no such GPU"):
        WorkerConfig(device="cuda").painter_options()
