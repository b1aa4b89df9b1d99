"""The batching bench: its clock, its traces, and the ways of painting that it compares."""

import pytest
import torch

from bench.batching import (
    Arrival,
    WorkClock,
    compare_bits,
    compare_with_diffusers,
    make_network,
    make_trace,
    next_batch,
    paint_by_scheduler,
    run_one_by_one,
    run_static_batches,
    run_step_loop,
)


@pytest.fixture(scope="module")
def network():
    return make_network()


def test_the_clock_counts_work_and_never_skips_backwards():
    clock = WorkClock()
    clock.skip_to(5.0)
    clock.skip_to(1.0)
    assert 5.0 <= clock() < 6.0


def test_a_trace_has_the_given_rate_and_is_repeatable():
    assert make_trace(50, 10.0, 1) == make_trace(50, 10.0, 1) != make_trace(50, 10.0, 2)
    assert 2.5 < make_trace(50, 10.0, 1)[-1].arrives_at < 10
    assert {arrival.steps for arrival in make_trace(50, 1.0, 1)} == {4, 20, 30, 50}


def test_a_static_batch_holds_paintings_of_equal_settings_that_have_arrived():
    first, second, longer, late = (
        Arrival(0, 0.0, 20, "euler", 5.0),
        Arrival(1, 0.1, 20, "euler", 5.0),
        Arrival(2, 0.1, 30, "euler", 5.0),
        Arrival(3, 9.0, 20, "euler", 5.0),
    )
    assert next_batch([first, second, longer, late], 1.0) == [first, second]


def test_the_scheduler_paints_the_same_in_a_batch_and_alone(one_thread, network):
    arrivals = [Arrival(number, 0.0, 4, "euler-a", 5.0) for number in range(3)]
    together = paint_by_scheduler(network, arrivals)
    for number, arrival in enumerate(arrivals):
        assert torch.allclose(together[number], paint_by_scheduler(network, [arrival])[0], atol=1e-4)


@pytest.mark.parametrize("run", [run_one_by_one, run_static_batches, run_step_loop])
def test_every_painting_of_a_trace_is_timed_from_its_arrival(one_thread, network, run):
    arrivals = [
        Arrival(0, 100.0, 4, "euler", 5.0),
        Arrival(1, 100.0, 4, "ddim", 5.0),
        Arrival(2, 300.0, 4, "euler", 5.0),
    ]
    times = run(network, arrivals)
    assert len(times) == 3 and all(0 < seconds < 50 for seconds in times)


def test_paintings_match_diffusers_and_reproducible_ones_keep_their_bits(one_thread, network):
    assert 0 < compare_with_diffusers(network)["max_relative_difference"] <= 1e-5
    assert compare_bits(network, 2)["bit_identical"] == 1.0
