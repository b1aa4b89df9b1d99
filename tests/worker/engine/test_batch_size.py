"""How many paintings a step holds, from how long steps take."""

import pytest

from worker.engine.batch_size import BatchSizes, measured


def widths(fixed: float, each: float, most: int = 16) -> BatchSizes:
    return BatchSizes({width: fixed + each * width for width in (1, 2, 4, 8, 16)}, most)


@pytest.mark.parametrize(("fixed", "each", "knee"), [(0.0, 1.0, 1), (2.5, 0.7, 9), (10.0, 0.01, 14), (1.0, 5.0, 2)])
def test_company_is_welcome_until_it_makes_little_cheaper(fixed, each, knee):
    assert widths(fixed, each).knee == knee


def test_beyond_the_knee_comes_in_who_waited_for_half_of_its_own_time():
    slow = widths(0.0, 0.1)
    assert slow.room(0, 0.0, 20) and not slow.room(1, 0.9, 20) and slow.room(1, 1.1, 20)
    assert not slow.room(16, 1e9, 20)


def test_between_measured_widths_time_is_on_a_line_and_beyond_in_proportion():
    known = BatchSizes({1: 1.0, 4: 2.5}, 16)
    assert known.step_seconds(2) == pytest.approx(1.5) and known.step_seconds(8) == pytest.approx(5.0)
    assert BatchSizes({}, 8).step_seconds(3) == 0.0


def test_without_any_measurement_all_may_come_in():
    assert all(BatchSizes({}, 8).room(active, 0.0, 30) for active in range(8))


def test_what_steps_take_is_learned_and_a_limit_stays():
    known = widths(0.0, 1.0)
    for _ in range(100):
        known.took(1, 3.0)
    assert known.step_seconds(1) == pytest.approx(3.0, rel=0.01)
    known.took(3, 100.0)
    assert known.step_seconds(3) < 4
    known.limit(4)
    known.limit(8)
    assert not known.room(4, 1e9, 1) and known.knee <= 4
    known.limit(0)
    assert known.room(0, 0.0, 1)


def test_larger_pictures_take_more_room_and_smaller_ones_less():
    known = widths(2.5, 0.7)  # with a knee of 9
    assert known.room(8, 0.0, 20) and not known.room(8, 0.0, 20, size=4) and known.room(5, 0.0, 20, size=4)
    assert known.room(8.8, 0.0, 20, size=0.2) and not known.room(9, 0.0, 20)
    assert not known.room(8, 50.0, 20, size=4) and known.room(8, 54.0, 20, size=4)  # half of 20 steps of 5.3 s
    assert not known.room(13, 1e9, 20, size=4) and known.room(0, 0.0, 20, size=40)


def test_those_of_another_shape_cost_time_but_no_memory_at_once():
    known = BatchSizes({1: 1.0, 8: 8.0}, 8)
    known.limit(4)
    assert not known.room(4, 1e9, 20) and known.room(4, 1e9, 20, beside=3) and known.room(8, 1e9, 20, beside=0)
    assert not known.room(4, 0.0, 20, beside=3)  # beyond the knee, whatever its shape


def test_measuring_takes_the_middle_look_at_each_width_up_to_the_last():
    asked = []

    def looks(width):
        asked.append(width)
        return [9.0 * width, 1.0 * width, 2.0 * width]

    assert measured(looks, 5).seconds == {1: 2.0, 2: 4.0, 3: 6.0, 4: 8.0, 5: 10.0} and asked == [1, 2, 3, 4, 5]
    assert list(measured(looks, 7).seconds) == [1, 2, 3, 4, 6, 7]


def test_widths_that_do_not_fit_into_the_memory_are_never_tried_again():
    found = measured(lambda width: [1.0] if width <= 3 else [], 8)
    assert list(found.seconds) == [1, 2, 3] and found.limited == found.knee == 3
    assert measured(lambda width: [], 8).seconds == {}
