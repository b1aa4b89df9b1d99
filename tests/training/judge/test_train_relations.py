"""The network that names relations: its losses, what it reads of long prompts, resuming, and its exported form."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from memo.judge.labelled_pairs import Pair
from memo.judge.learned import RuledPair, network_inputs, open_learned
from memo.onnx_embedder import open_onnx
from memo.picture import SHARED
from tests.real import ROOT
from training.judge import judge_packing, train_relations
from training.judge.relation_network import MAX_READ, SharedDropout
from training.judge.token_states import TokenStateReader, open_token_states
from training.judge.train_relations import (
    build_relation_network,
    compute_same_logits,
    labelled_pair,
    relation_losses,
    share_losses,
    train,
)
from training.pairs.relation_pair import RelationPair
from training.pairs.sampling import MEASURED_FILES

SHORT = [Pair("a red fox", "a fox that is red", 1), Pair("two dogs", "three dogs on a very high hill", 0)]
LONG = [Pair("a tall house of stone with blue doors, " * 8, "a tall house of stone with green doors, " * 8, 0)]


@pytest.fixture(scope="module")
def reader():
    return TokenStateReader()


@pytest.fixture(scope="module")
def store(reader, tmp_path_factory):
    texts = [text for pair in [*SHORT, *LONG] for text in (pair.a, pair.b)]
    return open_token_states(tmp_path_factory.mktemp("states") / "states.f16", texts, reader)


@pytest.fixture
def network(one_thread, reader):
    torch.manual_seed(1)
    network = build_relation_network(reader).eval()
    torch.nn.init.normal_(network.told[-1].weight, std=0.02)  # as after some training
    return network


def relation_pair(possible, share=None, *, a="a red fox", b="a fox that is red", source="real", group="1"):
    return RelationPair(a, b, possible, "any", source, group, share)


@pytest.fixture
def knobs(tmp_path):
    texts = ["a red fox", "a blue fox", "two dogs on a hill", "a man bites a dog", "a green car", "the sea at night"]
    for split in ("train", "dev"):
        rows = [
            relation_pair("SMLD"[(x + y) % 4], 2, a=f"{a} {split}", b=f"{b} {split}", group=f"{x}").to_dict()
            for x, a in enumerate(texts)
            for y, b in enumerate(texts)
        ]
        (tmp_path / "pairs" / split).mkdir(parents=True)
        for name in MEASURED_FILES:
            (tmp_path / "pairs" / split / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return train_relations.Knobs(
        pairs=tmp_path / "pairs",
        out=tmp_path / "run",
        steps=6,
        batch=4,
        checkpoint_every=2,
        measure_every=3,
        threads=1,
    )


def test_the_loss_is_the_probability_of_all_possible_relations():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1]])).repeat(3, 1)
    losses = relation_losses(logits, [relation_pair("S"), relation_pair("MLD"), relation_pair("LD")])
    assert torch.allclose(losses, -torch.log(torch.tensor([0.5, 0.5, 0.3])))


def test_a_share_is_learned_in_steps_and_only_where_it_is_known():
    logits = torch.tensor([[9.0, 9.0, -9.0]]).repeat(3, 1)
    right, wrong, unknown = share_losses(logits, [relation_pair("M", 2), relation_pair("M", 0), relation_pair("M")])
    assert right < 0.01 and wrong > 5 and unknown == 0


def test_padding_does_not_change_the_outputs(store, network):
    together = network(*store.batch([*SHORT, *LONG]))
    for row, pair in enumerate([*SHORT, *LONG]):
        for output, alone in zip(together, network(*store.batch([pair])), strict=True):
            assert torch.allclose(output[row], alone[0], atol=1e-4)


def test_the_direction_of_a_pair_counts(store, network):
    states, real, a, b = store.batch(SHORT)
    assert not torch.allclose(network(states, real, a, b)[1], network(states, real, b, a)[1], atol=1e-3)


def test_of_a_long_prompt_the_tokens_that_the_other_one_lacks_are_read(reader, store, network):
    states, real, a, b = store.batch(LONG)
    matched = network.match_tokens((states[a], real[a]), (states[b], real[b]))
    numbers = torch.arange(states.shape[1], dtype=torch.float32).expand(1, -1)[..., None].expand(-1, -1, 384)
    kept, kept_real = network.select_tokens(numbers, real[a], matched)
    words = reader.tokenizer.convert_ids_to_tokens(reader.tokenizer(LONG[0].a)["input_ids"][1:-1])
    read = [words[int(row)] for row in kept[0, :, 0]]
    assert kept.shape[1] == MAX_READ < states.shape[1] and kept_real.all()
    assert read.count("blue") == words.count("blue") == 8


def test_log_odds_follow_from_the_relations(store, network):
    logit, relation, _ = network(*store.batch(SHORT))
    chance = relation.softmax(-1)[:, 0]
    assert torch.allclose(logit, torch.log(chance / (1 - chance)), atol=1e-5)


def test_a_stopped_run_continues_as_if_it_had_not_stopped(one_thread, knobs, monkeypatch):
    weights = torch.load(train(replace(knobs, out=knobs.out / "whole")) / "judge.pt", weights_only=True)

    class Stopped(Exception):
        """The run was stopped."""

    def save_and_stop(folder, **parts):
        save_state(folder, **parts)
        if parts["step"] == 4:
            raise Stopped

    save_state = train_relations.save_state
    monkeypatch.setattr(train_relations, "save_state", save_and_stop)
    with pytest.raises(Stopped):
        train(knobs)
    resumed = torch.load(train(knobs) / "judge.pt", weights_only=True)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_a_packed_network_scores_like_the_trained_one(one_thread, reader, store, knobs):
    run = train(replace(knobs, steps=2))
    text_folder, out = ROOT / "var" / "text", knobs.out / "packed"
    fitted_on = (str(knobs.pairs / "dev" / "real.jsonl"),)
    knobs = judge_packing.Knobs(runs=(str(run),), fitted_on=fitted_on, precision=0.0, text=text_folder, out=out)
    judge_packing.pack_judge(knobs)
    judge = open_learned(out, text := open_onnx(text_folder))
    network = build_relation_network(reader)
    network.load_state_dict(torch.load(run / "judge.pt", weights_only=True))
    pairs = [*SHORT, *LONG]
    texts = [(pair.a, pair.b) for pair in pairs]
    together = judge.run_network(judge.networks[0], [RuledPair(each, None, {}) for each in texts], SHARED)
    assert together == pytest.approx(compute_same_logits(network, pairs, store), abs=0.15)
    alone = [judge.networks[0].run(None, network_inputs([pair], text.states_of)) for pair in texts]
    assert np.array_equal(together, np.concatenate([logit for logit, _, _ in alone]))
    assert all(relation.shape == (1, 4) and share.shape == (1, 3) for _, relation, share in alone)


def test_a_label_of_a_user_says_the_same_or_not_the_same():
    same, different = (labelled_pair(replace(SHORT[0], y=y)) for y in (1, 0))
    assert (same.possible, different.possible, same.source) == ("S", "MLD", "labels")


def test_labels_of_users_are_trained_on(one_thread, knobs):
    labels = knobs.out.parent / "labels.jsonl"
    rows = [{"a": f"picture {n} of a dog", "b": f"a dog, number {n}", "y": 1, "group": f"{n}"} for n in range(40)]
    labels.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    without = torch.load(train(knobs) / "judge.pt", weights_only=True)
    labelled = replace(knobs, labels=(str(labels),), out=knobs.out.parent / "labelled")
    weights = torch.load(train(labelled) / "judge.pt", weights_only=True)
    assert not all(torch.equal(weights[name], without[name]) for name in weights)


def test_dropout_drops_the_same_features_of_all_tokens_in_training_only():
    torch.manual_seed(1)
    dropout, states = SharedDropout(0.5), torch.ones(2, 5, 64)
    dropped = dropout(states)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)) and set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0], dropped[1])
    assert torch.equal(dropout.eval()(states), states)
