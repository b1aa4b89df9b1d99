"""A few hundred cases of each fuzzer, and the fuzzer itself."""

import pytest

from bench.fuzz.loop import Part, Reader, fuzz
from bench.fuzz.pictures import open_part
from bench.fuzz.texts import open_part as open_texts


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of some damages of TIFF files
def test_no_damaged_picture_gets_past_its_readers():
    report = fuzz(open_part(), 200, seed=1)
    assert not report.failures, report
    assert all(report.accepted.values())


def test_no_mutated_text_gets_past_its_readers():
    report = fuzz(open_texts(), 100, seed=1)
    assert not report.failures, report


def test_an_unexpected_error_is_reported_with_the_case_that_repeats_it():
    part = Part(lambda random: random.random(), [Reader("division", lambda number: 1 / (number > 0.5), (KeyError,))])
    failure = next(iter(fuzz(part, 20, seed=3).failures))
    number = int(failure.split(",")[0].removeprefix("case "))
    assert fuzz(part, 1, seed=3, first=number).failures == [failure]


def test_an_expected_error_is_no_failure():
    part = Part(lambda random: {}, [Reader("nothing", lambda case: case["a"], (KeyError,))])
    report = fuzz(part, 5, seed=1)
    assert not report.failures and report.cases == 5 and not report.accepted
