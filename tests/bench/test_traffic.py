"""The bench of recorded traffic: what it counts, with a real Redis and index; only painters are simulated."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from flask import Flask

import web
from bench.traffic import ANOTHER, MODEL, MODEL_NAME, Answer, Request, Tally, Traffic, read_trace, summarize
from jobs.models import Catalogue
from jobs.queue import Queue
from memo import Memory
from memo.judge.port import Verdict
from tests.real import SharingJudge
from web.config import WebConfig

FOX, BLUE = "a red fox in the snow", "a blue fox in the snow"


@pytest.fixture
def traffic(memory: Memory, queue: Queue, tmp_path: Path) -> Callable[..., Traffic]:
    """Return a function that creates a replay; its argument is the server's memory policy."""
    folder = tmp_path / "models" / MODEL_NAME
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(MODEL))

    def make(policy: str = "auto") -> Traffic:
        config = WebConfig(keys="off", policy=policy, rate="")
        app: Flask = web.create_app(memory, queue, Catalogue(folder.parent), config)
        return Traffic(app, memory, queue.job_store, seconds=1.5, painters=1)

    return make


def replay(traffic: Traffic, *lines: tuple[str, str]) -> Tally:
    for _ in traffic.run([Request(*line) for line in lines]):
        pass
    return traffic.tally


def pauses(count: int) -> Sequence[tuple[str, str]]:
    """Requests that are refused for their length; paintings end meanwhile."""
    return [("nobody", "x" * 2001)] * count


def test_a_repeated_request_gets_another_picture_until_the_pool_is_empty(traffic: Callable[..., Traffic]) -> None:
    """Ada gets two pictures, and Bob both of them; Ada's third one is painted again."""
    ada, bob = ("ada", FOX), ("bob", FOX)
    tally = replay(traffic(), ada, *pauses(2), ada, *pauses(2), bob, bob, *pauses(2), ada)
    assert tally.requests == {"painted": 3, "same words": 1, ANOTHER: 1, "refused": 6}
    assert tally.given_twice == 0 and (tally.steps, tally.saved.total()) == (250, 100)


def test_a_request_that_comes_before_the_picture_joins_its_painting(traffic: Callable[..., Traffic]) -> None:
    tally = replay(traffic(), ("ada", FOX), ("ada", FOX), *pauses(2), ("ada", FOX))
    assert (
        tally.requests == {"painted": 2, "joined": 1, "refused": 2}
        and tally.saved["joined"] == tally.saved.total() == 50
    )


def test_a_near_start_saves_steps_and_time(traffic: Callable[..., Traffic], memory: Memory) -> None:
    """At the share of SharingJudge, two fifths of the steps are skipped: the painting takes 0.9 s instead of 1.5."""
    memory.judge = SharingJudge()
    near = traffic("near")
    tally = replay(near, ("ada", FOX), *pauses(2), ("bob", BLUE))
    assert tally.requests == {"painted": 1, "near": 1, "refused": 2} and tally.saved["near"] == 20
    assert near.busy[0][0] - near.clock == pytest.approx(0.9)


class Credulous:
    """A judge that accepts every pair."""

    name = "credulous"

    def __call__(self, wanted: str, remembered: Sequence[str], scope: str) -> list[Verdict]:
        return [Verdict(True, "why not", 1.0) for _ in remembered]


def test_an_answer_in_other_words_is_noted_for_reading(traffic: Callable[..., Traffic], memory: Memory) -> None:
    memory.judge = Credulous()
    replayed = traffic()
    replay(replayed, ("ada", FOX), *pauses(2), ("bob", BLUE), ("eve", FOX.upper()))
    assert replayed.answers == [Answer(BLUE, FOX, "same meaning")]


def test_a_picture_that_is_given_twice_is_counted(traffic: Callable[..., Traffic]) -> None:
    replayed = traffic()
    replay(replayed, ("ada", FOX), *pauses(2), ("bob", FOX))
    job = replayed.job_store.jobs.recent(1)[0]
    assert job.origin == "memory" and replayed.tally.given_twice == 0
    replayed.deliver(job)
    assert replayed.tally.given_twice == 1


def test_a_trace_is_read_in_order_without_invalid_prompts(tmp_path: Path) -> None:
    lines = ["n\tcaller\tprompt\tsettings", '0\tada\ta "red  fox\t-n 6', "1\tbob\t\t", "2\teve\tan owl\t"]
    path = tmp_path / "trace.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert list(read_trace(path)) == [Request("ada", 'a "red fox'), Request("eve", "an owl")]


def test_the_figures_of_several_traces_are_put_together() -> None:
    def figures(policy: str, saved: float, twice: int, speed: float) -> dict[str, object]:
        return {"policy": policy, "steps_saved": saved, "given_twice": twice, "requests_per_second": speed}

    results = [figures("auto", 0.1, 0, 70.0), figures("near", 0.2, 1, 60.0), figures("auto", 0.3, 0, 80.0)]
    assert summarize(results) == {
        "steps_saved_auto": 0.2,
        "steps_saved_near": 0.2,
        "given_twice": 1,
        "requests_per_second": 60.0,
    }
    first, second = Tally(steps=50, given_twice=1), Tally(steps=100, decision_seconds=2.0)
    assert first + second == Tally(steps=150, given_twice=1, decision_seconds=2.0)
