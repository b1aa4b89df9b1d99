"""Joules: measured by the device, or estimated and marked so."""

import sys
from types import SimpleNamespace

import pytest

from worker.engine.energy import CPU_WATTS, GPU_WATTS, Meter, open_meter


@pytest.fixture(autouse=True)
def fresh_meters():
    open_meter.cache_clear()
    yield
    open_meter.cache_clear()


def test_energy_of_the_cpu_is_estimated_from_processor_time():
    meter = open_meter("cpu")
    begun = meter.joules()
    sum(number * number for number in range(2_000_000))
    spent = meter.joules() - begun
    assert not meter.measured and 0.1 < spent < 100
    assert open_meter("cpu", 2 * CPU_WATTS).joules() == pytest.approx(2 * meter.joules(), rel=0.05)


def test_uses_at_the_same_time_share_the_energy():
    now = [100.0]
    meter = Meter(lambda: now[0], measured=True)

    def use(joules):
        now[0] += joules

    use(7)  # before any use
    with meter.measure() as one:
        use(10)
        with meter.measure() as two:
            use(20)
            assert (one(), two()) == (20, 10)
            use(2)
        use(5)
        assert one() == 26
    use(9)
    with meter.measure() as three:
        assert three() == 0
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


def test_energy_of_a_gpu_without_a_counter_is_estimated_and_the_log_says_why(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = open_meter("cuda:0", 100.0)
    first = meter.joules()
    assert not meter.measured and meter.joules() >= first > 0
    assert "estimated" in caplog.text and GPU_WATTS > CPU_WATTS


def test_without_a_driver_the_real_nvml_fails_and_energy_is_estimated(caplog):
    """On a machine with a GPU, its counter is measured instead."""
    pytest.importorskip("pynvml")
    meter = open_meter("cuda:0")
    assert meter.joules() > 0 and (meter.measured or "NVML" in caplog.text)
