"""The replay bench counts how a memory answers a trace, in simulated time."""

from random import Random

import pytest

from bench.recall import make_recipe
from bench.replay import MEANINGS, REQUESTS, Replay, read_lines, repeat_prompts
from memo.judge.port import Verdict


@pytest.fixture
def replay(memory):
    return Replay(memory, seconds=2.5, painters=1, pause=1.0)


def test_requests_are_painted_joined_or_remembered(replay):
    replay.run(
        [("a red fox", None), ("the red fox", None), ("a red fox", None), ("a red fox", None), ("a cat", None)]
    )
    figures = replay.figures(watts=360)
    assert (figures["painted"], figures["joined"], figures["same words"]) == (2, 2, 1)
    assert figures["hit_rate"] == 0.6 and figures["seconds_saved"] == 7.5 and figures["watt_hours_saved"] == 0.8
    assert figures["of_another_meaning"] is None and figures["in_other_words"] == 0


def test_a_painter_paints_one_picture_after_another(replay):
    """The first is painted at 3.5 s, the second at 6 s: at 5 s it is still joined, at 7 s remembered."""
    trace = [("a cat", None), ("a dog", None), ("a hen", None), ("a pig", None), ("a dog", None), ("a dog", None)]
    replay.run([*trace, ("a dog", None)])
    assert (replay.counts["joined"], replay.counts["same words"]) == (1, 2)


class Credulous:
    """A judge that accepts every pair."""

    name = "credulous"

    def __call__(self, wanted, remembered, scope):
        return [Verdict(True, "why not", 1.0) for _ in remembered]


def test_answers_with_another_meaning_are_counted(replay):
    replay.memory.judge = Credulous()
    replay.run([("a red fox", "fox"), ("a blue fox", "blue"), ("the fox is red", "fox")])
    figures = replay.figures(watts=1)
    assert figures["joined"] == 2 and figures["in_other_words"] == 2 and figures["of_another_meaning"] == 1
    assert [answer.correct for answer in replay.answers] == [False, True]


def test_the_same_seed_repeats_the_trace_and_most_of_its_prompts_are_reworded(tmp_path):
    prompts = [f"a picture of {number} red foxes next to a big house" for number in range(MEANINGS)]
    trace = list(repeat_prompts(Random(1), prompts))
    assert trace == list(repeat_prompts(Random(1), prompts)) and len(trace) == REQUESTS
    most_repeats = max(sum(meaning == prompt for _, meaning in trace) for prompt in prompts[:50])
    assert len({meaning for _, meaning in trace}) < MEANINGS and most_repeats >= 1
    assert 0.6 < sum(prompt != meaning for prompt, meaning in trace) / REQUESTS <= 1


def test_prompts_that_a_request_must_not_have_are_left_out(tmp_path):
    (tmp_path / "prompts.txt").write_text("a fox\n\na  cat\n" + "x" * 2001 + "\na \u202e dog\n")
    assert read_lines(tmp_path / "prompts.txt") == ["a fox", "a cat"]
    assert make_recipe("a fox").seed is None
