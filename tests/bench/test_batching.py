"""The bench of batching: its clock, its traces and its rivals are fair."""

import pytest
import torch

from bench.batching import (
    Clock,
    Wish,
    alike,
    bits,
    by_scheduler,
    fidelity,
    micro,
    one_by_one,
    static,
    stepwise,
    trace,
)


@pytest.fixture(scope="module")
def network():
    return micro()


def test_a_clock_counts_work_and_leaps_over_idle_times_only_forwards():
    clock = Clock()
    clock.leap(5.0)
    clock.leap(1.0)
    assert 5.0 <= clock() < 6.0


def test_a_trace_comes_at_its_rate_and_is_the_same_again():
    assert trace(50, 10.0, 1) == trace(50, 10.0, 1) != trace(50, 10.0, 2)
    assert 2.5 < trace(50, 10.0, 1)[-1].arrives < 10 and {wish.steps for wish in trace(50, 1.0, 1)} == {4, 20, 30, 50}


def test_a_static_batch_is_of_one_kind_and_who_is_not_there_cannot_be_in_it():
    one, two, other, late = (
        Wish(0, 0.0, 20, "euler", 5.0),
        Wish(1, 0.1, 20, "euler", 5.0),
        Wish(2, 0.1, 30, "euler", 5.0),
        Wish(3, 9.0, 20, "euler", 5.0),
    )
    assert alike([one, two, other, late], 1.0) == [one, two]


def test_a_batch_by_the_scheduler_is_what_each_is_alone(one_thread, network):
    wishes = [Wish(number, 0.0, 4, "euler-a", 5.0) for number in range(3)]
    together = by_scheduler(network, wishes)
    for number, wish in enumerate(wishes):
        assert torch.allclose(together[number], by_scheduler(network, [wish])[0], atol=1e-4)


@pytest.mark.parametrize("run", [one_by_one, static, stepwise])
def test_every_painting_of_a_trace_is_timed_from_its_coming(one_thread, network, run):
    wishes = [Wish(0, 100.0, 4, "euler", 5.0), Wish(1, 100.0, 4, "ddim", 5.0), Wish(2, 300.0, 4, "euler", 5.0)]
    took = run(network, wishes)
    assert len(took) == 3 and all(0 < seconds < 50 for seconds in took)


def test_what_it_says_of_differences_and_bits(one_thread, network):
    assert 0 < fidelity(network)["max_relative_difference"] <= 1e-5
    assert bits(network, 2)["bit_identical"] == 1.0
