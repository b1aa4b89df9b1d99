"""The cross-encoder judge, with tiny models of the real classes and random weights."""

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from memo import BadSetup
from memo.judge.cross_encoder import THRESHOLD, CrossEncoderJudge, open_cross_encoder
from memo.minilm import minilm_folder

pytestmark = pytest.mark.usefixtures("one_thread")
NLI = ("contradiction", "Entailment", "neutral")
WANTED, OLD = "a young cat", ["a kitten", "a puppy sleeps", "the cat of a neighbour", "a lion cub in the grass"]


def write_model(folder, labels):
    """A saved model that gives a different score to every pair and direction."""
    torch.manual_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=1.0,
        id2label=dict(enumerate(labels)),
        label2id={label: row for row, label in enumerate(labels)},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def score_model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("one"), ["score"])


@pytest.fixture(scope="module")
def nli_model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("three"), NLI)


def logits(folder, pairs):
    return CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Identity()).predict(pairs).astype(np.float64)


def test_a_single_score_becomes_a_probability_and_the_lower_direction_counts(score_model):
    confidences = open_cross_encoder(score_model).confidences(WANTED, OLD)
    forward, backward = (
        1 / (1 + np.exp(-logits(score_model, pairs)))
        for pairs in ([(old, WANTED) for old in OLD], [(WANTED, old) for old in OLD])
    )
    assert np.allclose(confidences, np.minimum(forward, backward), atol=1e-6)
    assert (forward < backward).any() and (forward > backward).any()
    assert all(0 < value < 1 for value in confidences)


def test_a_score_does_not_depend_on_the_other_prompts(score_model):
    judge = open_cross_encoder(score_model)
    assert np.allclose(
        judge.confidences(WANTED, OLD), [judge.confidences(WANTED, [old])[0] for old in OLD], atol=1e-6
    )


def test_with_three_labels_the_lower_entailment_counts(nli_model):
    confidences = open_cross_encoder(nli_model).confidences(WANTED, OLD)
    forward, backward = (
        logits(nli_model, pairs) for pairs in ([(old, WANTED) for old in OLD], [(WANTED, old) for old in OLD])
    )
    both = [np.exp(rows)[:, NLI.index("Entailment")] / np.exp(rows).sum(1) for rows in (forward, backward)]
    assert np.allclose(confidences, np.minimum(*both), atol=1e-6) and not np.allclose(*both)


def test_a_models_own_activation_is_ignored(score_model, tmp_path):
    CrossEncoder(score_model, device="cpu", activation_fn=torch.nn.Tanh()).save_pretrained(str(tmp_path))
    assert open_cross_encoder(str(tmp_path)).confidences(WANTED, OLD) == open_cross_encoder(score_model).confidences(
        WANTED, OLD
    )


def test_rules_decide_before_the_model(score_model):
    verdicts = open_cross_encoder(score_model)("a red fox", ["Red fox, please", "a blue fox"])
    assert [(verdict.fits, verdict.confidence) for verdict in verdicts] == [(True, 1.0), (False, 0.0)]
    assert "says 'blue', not 'red'" in verdicts[1].reason


def test_a_pair_fits_at_the_threshold(score_model):
    judge = open_cross_encoder(score_model)
    for confidence, fits in ((THRESHOLD, True), (THRESHOLD - 0.001, False), (float("nan"), False)):
        verdict = judge.verdict(WANTED, "a kitten", confidence)
        assert verdict.fits == fits and judge.name in verdict.reason and "90% is needed" in verdict.reason


def test_each_remembered_prompt_gets_its_own_verdict(score_model):
    judge = open_cross_encoder(score_model)
    assert [verdict.confidence for verdict in judge(WANTED, OLD)] == judge.confidences(WANTED, OLD)
    assert [old in verdict.reason for old, verdict in zip(OLD, judge(WANTED, OLD), strict=True)] == [True] * 4
    assert judge(WANTED, []) == []


def test_a_model_without_an_entailment_label_is_refused(tmp_path):
    folder = write_model(tmp_path, ["negative", "positive"])
    with pytest.raises(BadSetup, match=f"cross-encoder:{folder} has the labels negative, positive; it needs"):
        open_cross_encoder(folder)


def test_a_missing_or_empty_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (f"{tmp_path}/no-such", str(tmp_path)):
        with pytest.raises(BadSetup, match=f"{name}' cannot be loaded"):
            open_cross_encoder(name)


def test_the_judges_name_includes_the_models(score_model):
    assert CrossEncoderJudge(None, "a/b").name == "cross-encoder:a/b"
    assert open_cross_encoder(score_model).name == f"cross-encoder:{score_model}"
