"""Energy in joules: measured by the device, or estimated and marked as estimated."""

import sys
from types import SimpleNamespace

import pytest

from worker.engine.energy import CPU_WATTS, GPU_WATTS, Meter, open_meter


@pytest.fixture(autouse=True)
def fresh_meters():
    open_meter.cache_clear()
    yield
    open_meter.cache_clear()


def test_the_energy_of_the_cpu_is_estimated_from_processor_time():
    meter = open_meter("cpu")
    before = meter.joules()
    sum(number * number for number in range(2_000_000))
    spent = meter.joules() - before
    assert not meter.measured and 0.1 < spent < 100
    assert open_meter("cpu", 2 * CPU_WATTS).joules() == pytest.approx(2 * meter.joules(), rel=0.05)


def test_measurements_at_the_same_time_share_the_energy():
    now = [100.0]
    meter = Meter(lambda: now[0], measured=True)

    def consume(joules):
        now[0] += joules

    consume(7)  # before any measurement
    with meter.measure() as first:
        consume(10)
        with meter.measure() as second:
            consume(20)
            assert (first(), second()) == (20, 10)
            consume(2)
        consume(5)
        assert first() == 26
    consume(9)
    with meter.measure() as third:
        assert third() == 0
    assert open_meter("cpu") is open_meter("cpu")


def test_a_gpus_own_counter_is_converted_to_joules(monkeypatch):
    counter = SimpleNamespace(
        NVMLError=Exception,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1_234_500 + handle,
    )
    monkeypatch.setitem(sys.modules, "pynvml", counter)
    meter = open_meter("cuda:1")
    assert meter.measured and meter.joules() == pytest.approx(1234.501)


def test_the_energy_of_a_gpu_without_a_counter_is_estimated_and_the_log_says_why(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = open_meter("cuda:0", 100.0)
    first = meter.joules()
    assert not meter.measured and meter.joules() >= first > 0
    assert "estimated" in caplog.text and GPU_WATTS > CPU_WATTS


def test_without_a_driver_nvml_itself_fails_and_energy_is_estimated(caplog):
    """On a machine with a GPU the same calls read its counter."""
    pytest.importorskip("pynvml")
    meter = open_meter("cuda:0")
    assert meter.joules() > 0 and (meter.measured or "NVML" in caplog.text)
