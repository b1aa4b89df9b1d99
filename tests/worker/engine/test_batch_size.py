"""How many paintings a step holds, given how long steps take."""

import pytest

from worker.engine.batch_size import BatchSizes, measure_batch_sizes


def batch_sizes(constant: float, each: float, max_size: int = 16) -> BatchSizes:
    """Batch sizes measured with steps of n paintings that took `constant + each * n` seconds."""
    return BatchSizes({size: constant + each * size for size in (1, 2, 4, 8, 16)}, max_size)


@pytest.mark.parametrize(
    ("constant", "each", "knee"), [(0.0, 1.0, 1), (2.5, 0.7, 9), (10.0, 0.01, 14), (1.0, 5.0, 2)]
)
def test_the_knee_is_where_a_larger_batch_saves_little(constant, each, knee):
    assert batch_sizes(constant, each).knee == knee


def test_beyond_the_knee_a_painting_must_have_waited_for_half_of_its_own_time():
    slow = batch_sizes(0.0, 0.1)
    assert slow.can_admit(0, 0.0, 20) and not slow.can_admit(1, 0.9, 20) and slow.can_admit(1, 1.1, 20)
    assert not slow.can_admit(16, 1e9, 20)


def test_step_times_are_interpolated_between_measured_sizes_and_proportional_beyond():
    sizes = BatchSizes({1: 1.0, 4: 2.5}, 16)
    assert sizes.step_seconds(2) == pytest.approx(1.5) and sizes.step_seconds(8) == pytest.approx(5.0)
    assert BatchSizes({}, 8).step_seconds(3) == 0.0


def test_without_measurements_every_painting_is_admitted_up_to_the_limit():
    assert all(BatchSizes({}, 8).can_admit(active, 0.0, 30) for active in range(8))


def test_step_times_of_measured_sizes_are_updated_and_others_ignored():
    sizes = batch_sizes(0.0, 1.0)
    for _ in range(100):
        sizes.record_step(1, 3.0)
    assert sizes.step_seconds(1) == pytest.approx(3.0, rel=0.01)
    sizes.record_step(3, 100.0)
    assert sizes.step_seconds(3) < 4


def test_a_limit_can_only_be_lowered_and_always_leaves_one_painting():
    sizes = batch_sizes(0.0, 1.0)
    sizes.lower_limit(4)
    sizes.lower_limit(8)
    assert not sizes.can_admit(4, 1e9, 1) and sizes.knee <= 4
    sizes.lower_limit(0)
    assert sizes.can_admit(0, 0.0, 1)


def test_larger_pictures_count_for_more_and_smaller_ones_for_less():
    sizes = batch_sizes(2.5, 0.7)  # the knee is at 9
    assert sizes.can_admit(8, 0.0, 20) and not sizes.can_admit(8, 0.0, 20, size=4)
    assert sizes.can_admit(5, 0.0, 20, size=4)
    assert sizes.can_admit(8.8, 0.0, 20, size=0.2) and not sizes.can_admit(9, 0.0, 20)
    half = 53  # seconds: half the time of 20 steps of 5.3 s
    assert not sizes.can_admit(8, half - 3, 20, size=4) and sizes.can_admit(8, half + 1, 20, size=4)
    assert not sizes.can_admit(13, 1e9, 20, size=4) and sizes.can_admit(0, 0.0, 20, size=40)


def test_paintings_of_another_shape_cost_time_but_no_memory_in_this_batch():
    sizes = BatchSizes({1: 1.0, 8: 8.0}, 8)
    sizes.lower_limit(4)
    assert not sizes.can_admit(4, 1e9, 20) and sizes.can_admit(4, 1e9, 20, same_batch=3)
    assert sizes.can_admit(8, 1e9, 20, same_batch=0)
    assert not sizes.can_admit(4, 0.0, 20, same_batch=3)  # beyond the knee, whatever the shape


def test_measuring_takes_the_median_time_of_each_size_up_to_the_largest():
    measured = []

    def time_steps(size):
        measured.append(size)
        return [9.0 * size, 1.0 * size, 2.0 * size]

    assert measure_batch_sizes(time_steps, 5).seconds == {size: 2.0 * size for size in range(1, 6)}
    assert measured == [1, 2, 3, 4, 5]
    assert list(measure_batch_sizes(time_steps, 7).seconds) == [1, 2, 3, 4, 6, 7]


def test_sizes_that_do_not_fit_into_memory_are_never_used():
    batch_sizes = measure_batch_sizes(lambda size: [1.0] if size <= 3 else [], 8)
    assert list(batch_sizes.seconds) == [1, 2, 3] and batch_sizes.limit == batch_sizes.knee == 3
    assert measure_batch_sizes(lambda size: [], 8).seconds == {}
