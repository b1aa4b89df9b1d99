"""The shipped judge: few errors on adversarial pairs, and the same result alone, in a batch and in either order."""

from dataclasses import replace

import numpy as np
import pytest

from memo.judge.evaluation import score_pairs
from memo.judge.factory import open_judge
from memo.judge.labelled_pairs import read_pairs
from memo.judge.learned import LearnedJudge
from tests.real import ROOT

TEXT = ROOT / "var" / "text"
RED_TEAM = read_pairs(ROOT / "tests" / "memo" / "judge" / "red_team.jsonl")


@pytest.fixture(scope="module")
def judge():
    return open_judge("learned", TEXT)


def test_a_pair_is_judged_the_same_alone_and_in_a_batch(judge):
    texts = [(pair.a, pair.b) for pair in RED_TEAM[:40]]
    together = score_pairs(judge, texts)
    alone = [judge(wanted, [old])[0] for old, wanted in texts]
    assert [verdict.confidence for verdict in alone if verdict.confidence] == pytest.approx(
        [score for (score, _), verdict in zip(together, alone, strict=True) if verdict.confidence], abs=1e-4
    )
    assert [fits for _, fits in together] == [verdict.fits for verdict in alone]


def logits_of(judge, texts):
    return judge.batch_logits([judge.apply_rules(*pair) for pair in texts])


def test_the_decision_is_nearly_always_the_same_in_the_other_order(judge):
    forward = score_pairs(judge, [(pair.a, pair.b) for pair in RED_TEAM])
    backward = score_pairs(judge, [(pair.b, pair.a) for pair in RED_TEAM])
    assert np.mean([one == other for (_, one), (_, other) in zip(forward, backward, strict=True)]) > 0.95


def test_the_rules_decide_without_a_network(judge):
    without_networks = LearnedJudge([], judge.text, judge.card)
    with pytest.raises(IndexError):
        without_networks("a wolf in snow", ["a fox in snow"])
    same, other = without_networks("please draw the red fox", ["A red fox.", "a blue fox"])
    assert same.fits and same.confidence == 1.0 and "nearly the same words" in same.reason
    assert not other.fits and other.confidence == 0.0 and "says 'blue', not 'red'" in other.reason


def test_few_adversarial_near_misses_pass(judge):
    """When these weights were shipped, 1 near miss and 37 true pairs passed: that must not get worse."""
    fits = [fits for _, fits in score_pairs(judge, [(pair.a, pair.b) for pair in RED_TEAM])]
    passed = [(pair.a, pair.b) for pair, fit in zip(RED_TEAM, fits, strict=True) if fit and not pair.y]
    assert len(RED_TEAM) >= 150 and len(passed) <= 1, passed
    assert sum(fit for pair, fit in zip(RED_TEAM, fits, strict=True) if pair.y) >= 37


def test_the_next_network_runs_only_while_it_can_change_the_decision(judge):
    texts = [(pair.a, pair.b) for pair in RED_TEAM[:24]]

    def logits(networks, hopeless, certain):
        card = replace(judge.card, hopeless=hopeless, certain=certain, weights=())
        return np.array(logits_of(LearnedJudge(networks, judge.text, card), texts))

    each = np.array([logits([network], [], []) for network in judge.networks])
    means = np.cumsum(each, axis=0) / np.arange(1, len(each) + 1)[:, None]
    low, high, rest = -1e9, 1e9, len(each) - 2
    assert logits(judge.networks, [low] * (rest + 1), [high] * (rest + 1)) == pytest.approx(means[-1], abs=1e-3)
    assert logits(judge.networks, [high] * (rest + 1), [high] * (rest + 1)) == pytest.approx(means[0], abs=1e-3)
    assert logits(judge.networks, [low] * (rest + 1), [low] * (rest + 1)) == pytest.approx(means[0], abs=1e-3)
    assert logits(judge.networks, [low, *[high] * rest], [high] * (rest + 1)) == pytest.approx(means[1], abs=1e-3)
    between = float(np.median(means[0]))
    for below, above, continued in (
        ([between, *[low] * rest], [high] * (rest + 1), means[0] >= between),
        ([low] * (rest + 1), [between, *[high] * rest], means[0] <= between),
    ):
        expected = np.where(continued, means[-1], means[0])
        assert logits(judge.networks, below, above) == pytest.approx(expected, abs=1e-3)
    assert np.abs(means[-1] - means[0]).max() > 0.1


def test_networks_count_by_their_weights(judge):
    texts = [(pair.a, pair.b) for pair in RED_TEAM[:8]]
    weights = [0.5, 0.2, 0.3]
    all_run = replace(judge.card, weights=weights, hopeless=[-1e9] * 2, certain=[1e9] * 2)
    alone = replace(all_run, hopeless=[], certain=[])
    each = [logits_of(LearnedJudge([network], judge.text, alone), texts) for network in judge.networks]
    logits = logits_of(LearnedJudge(judge.networks, judge.text, all_run), texts)
    assert logits == pytest.approx(np.average(each, axis=0, weights=weights), abs=1e-3)


def test_a_hint_lowers_the_logit_by_its_weight(judge):
    texts = [("a bride", "a bride dressed in white")]
    card = replace(judge.card, hopeless=[-1e9] * 2)
    [unhinted], [hinted] = (
        logits_of(LearnedJudge(judge.networks, judge.text, replace(card, hints={"missing colour": weight})), texts)
        for weight in (0.0, -1.5)
    )
    assert hinted == pytest.approx(unhinted - 1.5, abs=1e-4)


def test_a_hint_that_the_card_does_not_weigh_is_a_veto(judge):
    without_networks = LearnedJudge([], judge.text, replace(judge.card, hints={}))
    [verdict] = without_networks("a bride dressed in white", ["a bride"])
    assert (verdict.fits, verdict.confidence) == (False, 0.0) and "does not mention 'white'" in verdict.reason


def test_several_remembered_prompts_are_judged_in_one_call(judge):
    verdicts = judge(
        "a fox sleeping in the snow", ["in the snow, a sleeping fox", "a wolf sleeping in the snow", "a fox"]
    )
    assert len(verdicts) == 3
    assert verdicts[0].confidence > max(verdict.confidence for verdict in verdicts[1:])
    assert [verdict.fits for verdict in verdicts] == [True, False, False]


def test_farther_prompts_are_judged_only_if_none_of_the_nearest_fits(judge):
    wanted, same = "a fox sleeping in the snow", "in the snow, a sleeping fox"
    near = judge(wanted, ["a wolf sleeping in the snow", same, "asleep in the snow, a fox"])
    assert [verdict.fits for verdict in near] == [False, True, False] and "not judged" in near[2].reason
    far = judge(wanted, ["a wolf sleeping in the snow", "a fox running in the snow", same])
    assert [verdict.fits for verdict in far] == [False, False, True]
    assert not any("not judged" in verdict.reason for verdict in far)


def test_without_remembered_prompts_there_are_no_verdicts(judge):
    assert judge("a fox", []) == []
