"""`memoaized judge` reads a file of pairs and prints figures, the last line as JSON."""

import json

import pytest
from click.testing import CliRunner

from memoaized.cli import main
from tests.real import ROOT

PAIRS = [
    {"a": "a red fox", "b": "please draw a red fox", "y": 1, "kind": "politeness", "source": "written"},
    {"a": "a red fox", "b": "a blue fox", "y": 0, "kind": "colour", "source": "written"},
    {"a": "two dogs", "b": "three dogs", "y": 0, "kind": "count"},
]


@pytest.fixture
def run_judge(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, PAIRS)))

    def run(*arguments, code=0):
        options = ["--text-folder", str(ROOT / "var" / "text"), *arguments]
        result = CliRunner().invoke(main, ["judge", str(file), *options])
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.mark.parametrize("judge", ["rules", "learned"])
def test_the_last_line_is_json_with_the_figures(run_judge, judge):
    *kinds, last = run_judge("--judge", judge).strip().splitlines()
    figures = json.loads(last)
    assert (figures["pairs"], figures["true_hit"], figures["false_hit"], figures["auc"]) == (3, 1.0, 0.0, 1.0)
    assert (figures["true_hit_at_1pct"], figures["true_hit_at_5pct"]) == (1.0, 1.0)
    assert figures["kinds"]["colour"]["false_hit"] == 0.0 and figures["pairs_per_second"] > 0
    assert figures["judge"].startswith(judge)
    assert figures["precision_at_point"] == 1.0 and figures["sources"]["written"]["pairs"] == 2
    assert [line.split()[0] for line in kinds] == ["colour", "count", "politeness", "written"]


def test_scores_are_written_with_the_pairs(run_judge, tmp_path):
    run_judge("--judge", "rules", "--scores", str(tmp_path / "scores.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [(row["a"], row["b"], row["y"]) for row in rows] == [(pair["a"], pair["b"], pair["y"]) for pair in PAIRS]
    assert [(row["score"], row["fits"]) for row in rows] == [(1.0, True), (0.0, False), (0.0, False)]


def test_an_unreadable_file_or_unknown_judge_is_reported_in_one_line(run_judge, tmp_path):
    assert "the judge 'oracle' is unknown" in run_judge("--judge", "oracle", code=1)
    (tmp_path / "pairs.jsonl").write_text('{"a": "x"}')
    output = run_judge("--judge", "rules", code=1)
    assert "line 1" in output and "Traceback" not in output


def test_the_subcommand_train_offers_its_options():
    result = CliRunner().invoke(main, ["judge", "train", "--help"])
    assert "--data" in result.output and "--labels" in result.output and "--steps" in result.output


def test_train_without_its_data_names_the_missing_option():
    result = CliRunner().invoke(main, ["judge", "train"])
    assert result.exit_code == 2 and "Missing option '--data'" in result.output
