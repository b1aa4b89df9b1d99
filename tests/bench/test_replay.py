"""A replay counts what a memory answers, in a time of its own."""

from random import Random

import pytest

from bench.recall import wish
from bench.replay import MEANINGS, REQUESTS, Replay, lines, repeated
from memo.judge.port import Verdict


@pytest.fixture
def replay(memory):
    return Replay(memory, seconds=2.5, painters=1, pause=1.0)


def test_a_trace_is_painted_joined_and_remembered(replay):
    replay.run(
        [("a red fox", None), ("the red fox", None), ("a red fox", None), ("a red fox", None), ("a cat", None)]
    )
    told = replay.told(watts=360)
    assert (told["painted"], told["joined"], told["same words"]) == (2, 2, 1)
    assert told["hit_rate"] == 0.6 and told["seconds_saved"] == 7.5 and told["watt_hours_saved"] == 0.8
    assert told["of_another_meaning"] is None and told["in_other_words"] == 0


def test_painters_paint_one_after_the_other(replay):
    """The first is painted at 3.5 s, the second at 6 s: at 5 s it is still joined, at 7 s remembered."""
    trace = [("a cat", None), ("a dog", None), ("a hen", None), ("a pig", None), ("a dog", None), ("a dog", None)]
    replay.run([*trace, ("a dog", None)])
    assert (replay.counts["joined"], replay.counts["same words"]) == (1, 2)


class Credulous:
    """A judge to whom everything is the same."""

    name = "credulous"

    def __call__(self, wanted, remembered):
        return [Verdict(True, "why not", 1.0) for _ in remembered]


def test_answers_of_another_meaning_are_counted(replay):
    replay.memory.judge = Credulous()
    replay.run([("a red fox", "fox"), ("a blue fox", "blue"), ("a vixen that is red", "fox")])
    told = replay.told(watts=1)
    assert told["joined"] == 2 and told["in_other_words"] == 2 and told["of_another_meaning"] == 1
    assert [answer.right for answer in replay.answers] == [False, True]


def test_the_repeated_trace_is_the_same_for_a_seed_and_rewords_most(tmp_path):
    prompts = [f"a picture of {number} red foxes next to a big house" for number in range(MEANINGS)]
    trace = list(repeated(Random(1), prompts))
    assert trace == list(repeated(Random(1), prompts)) and len(trace) == REQUESTS
    often = max(sum(meaning == one for _, meaning in trace) for one in prompts[:50])
    assert len({meaning for _, meaning in trace}) < MEANINGS and often >= 1
    assert 0.6 < sum(prompt != meaning for prompt, meaning in trace) / REQUESTS <= 1


def test_prompts_that_no_request_may_have_are_left_out(tmp_path):
    (tmp_path / "prompts.txt").write_text("a fox\n\na  cat\n" + "x" * 2001 + "\na \u202e dog\n")
    assert lines(tmp_path / "prompts.txt") == ["a fox", "a cat"]
    assert wish("a fox").seed is None
