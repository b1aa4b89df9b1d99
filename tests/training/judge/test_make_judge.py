"""One command makes a judge from the data, and continues where it was stopped."""

import json
from dataclasses import replace

import pytest

from memo.errors import BadSetup
from memo.judge.learned import open_learned
from memo.onnx_embedder import open_onnx
from tests.real import ROOT
from training.judge import make_judge, train_relations
from training.judge.make_judge import FIGURES, KEPT, Knobs

TEXT = ROOT / "var" / "text"


@pytest.fixture
def knobs(one_thread, judge_data, tmp_path):
    return Knobs(judge_data, out=tmp_path / "judge", text=TEXT, steps=2, precision=0.0, threads=1)


def test_the_data_become_a_judge_and_finished_steps_are_not_run_again(knobs, monkeypatch):
    folder = make_judge.make_judge(knobs)
    judge = open_learned(folder, open_onnx(TEXT))
    assert list(judge.card.files) == ["judge-1.onnx", *KEPT]
    assert sum(judge.card.weights) == pytest.approx(1) and len(judge.card.weights) == len(KEPT) + 1
    [verdict] = judge("a fox that is red", ["a red fox"])
    assert 0 < verdict.confidence <= 1
    figures = json.loads((folder / FIGURES).read_text())
    assert set(figures["sources"]) == {"natural", "real", "captions"}

    monkeypatch.setattr(make_judge.splits, "split", None)
    monkeypatch.setattr(train_relations, "train_step", None)
    monkeypatch.setattr(make_judge.judge_packing, "pack_judge", lambda knobs: {"runs": knobs.runs})
    make_judge.make_judge(knobs)
    assert json.loads((folder / FIGURES).read_text()) == {"runs": [str(knobs.out / "relations")]}
    with pytest.raises(BadSetup, match="steps 2 → 3"):
        make_judge.make_judge(replace(knobs, steps=3))
