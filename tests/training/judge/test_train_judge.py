"""Training and packing a judge with the real text model: token states on disk, networks, batches, calibration."""

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from memo.errors import BadSetup
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.learned import CARD, open_learned
from memo.minilm import DIMENSION, STATE_LAYERS
from memo.onnx_embedder import open_onnx
from tests.real import ROOT
from training.judge import judge_packing, train_judge
from training.judge.aligning_network import RELATED, AligningNetwork, Relations
from training.judge.pair_pool import (
    crossed_pairs,
    make_pool,
    neighbour_pairs,
    read_prompts,
    split_groups,
    unlike_pairs,
)
from training.judge.token_states import TokenStateReader, open_token_states

PAIRS = [
    Pair("a red fox", "a fox that is red", 1, "message", "1"),
    Pair("a red fox", "a blue fox", 0, "colour", "1"),
    Pair("two dogs on a hill", "on a hill, two dogs", 1, "message", "2"),
    Pair("two dogs on a hill", "two cats on a hill", 0, "thing", "2"),
    Pair("a man bites a dog", "a dog is bitten by a man", 1, "message", "3"),
    Pair("a man bites a dog", "a dog bites a man", 0, "role", "3"),
]


@pytest.fixture(scope="module")
def reader():
    return TokenStateReader()


@pytest.fixture
def cache(reader, tmp_path):
    return open_token_states(tmp_path / "states.bin", [text for pair in PAIRS for text in (pair.a, pair.b)], reader)


@pytest.fixture
def files(tmp_path):
    """Files of pairs and prompts, as the commands read them."""
    rows = [
        {"a": p.a, "b": p.b, "y": p.y, "kind": p.kind, "group": f"{p.group}-{n}"} for n in range(8) for p in PAIRS
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "avoid.jsonl").write_text(json.dumps({"a": "A boat in the sea.", "b": "a boat", "y": 0}))
    (tmp_path / "some.txt").write_text("a boat in the sea\na green car next to a tree\ntwo birds in the sky\n")
    return tmp_path


@pytest.fixture
def knobs(files):
    return train_judge.Knobs(
        pairs=files / "pairs.jsonl",
        avoid=files / "avoid.jsonl",
        prompts=files,
        sources=("some",),
        out=files / "run",
        cache=files / "cache" / "states.bin",
        grammar=4,
        rules=4,
        crossed=4,
        unlike=2,
        steps=24,
        batch=8,
        width=16,
        judge_every=12,
    )


@pytest.mark.parametrize("network", ["align", "cross"])
def test_swapping_the_texts_does_not_change_the_score(one_thread, reader, cache, network):
    model = train_judge.build_network(network, 16, reader).eval()
    states, real, a, b = cache.batch(PAIRS)
    assert torch.allclose(model(states, real, a, b), model(states, real, b, a), atol=1e-6)


@pytest.mark.parametrize("network", ["align", "cross"])
def test_padding_does_not_change_the_score(one_thread, reader, cache, network):
    model = train_judge.build_network(network, 16, reader).eval()
    together = model(*cache.batch(PAIRS))
    alone = [model(*cache.batch([pair])) for pair in PAIRS]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_relations_start_as_the_attention_of_the_text_model(one_thread, reader):
    tokens = reader.tokenizer("a man bites a dog", return_tensors="pt")
    with torch.no_grad():
        expected = reader.bert(**tokens, output_hidden_states=True, output_attentions=True)
        for row, weights in zip(RELATED, train_judge.relation_weights(reader), strict=True):
            layer = STATE_LAYERS[row]
            relations = Relations(weights)(expected.hidden_states[layer], tokens["attention_mask"].bool())
            assert torch.allclose(relations, expected.attentions[layer], atol=1e-5)


def test_torch_and_the_exported_model_give_the_same_states(cache):
    """Networks train on states from torch and judge on states from ONNX Runtime."""
    for text, states in zip(
        ("a red fox", "two dogs on a hill"),
        open_onnx(ROOT / "var" / "text").states(["a red fox", "two dogs on a hill"]),
        strict=True,
    ):
        trained_on = np.asarray(cache.states_of(text), np.float32)
        lengths = np.linalg.norm(trained_on, axis=-1) * np.linalg.norm(states, axis=-1)
        assert ((trained_on * states).sum(-1) / lengths).min() > 0.999  # the exported weights have eight bits


def test_new_texts_are_appended_to_the_stored_ones(reader, tmp_path, cache):
    before = {text: np.array(cache.states_of(text)) for text in cache.spans}
    extended = open_token_states(tmp_path / "states.bin", ["a yellow submarine", *before], reader)
    assert extended.states_of("a yellow submarine").shape == (3, len(STATE_LAYERS), DIMENSION)
    assert all(np.array_equal(extended.states_of(text), states) for text, states in before.items())


def test_twenty_steps_on_six_pairs_lower_the_loss(one_thread, cache):
    torch.manual_seed(1)
    model = AligningNetwork(16, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = [train_judge.train_step(model, optimizer, PAIRS, cache, train_judge.Knobs()) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert train_judge.evaluate(model, PAIRS, cache)["auc"] == 1.0


def test_a_true_pair_is_ranked_against_near_misses_of_its_own_group_only():
    assert train_judge.ranking_rows(PAIRS).tolist() == [[0, 1], [2, 3], [4, 5]]
    alone = [replace(pair, group="") for pair in PAIRS]
    assert (
        train_judge.ranking_rows(alone).tolist() == []
        and train_judge.ranking_rows([PAIRS[0], PAIRS[3]]).tolist() == []
    )


def test_the_ranking_is_learned_where_labels_contradict_each_other(one_thread, cache):
    """The same texts with both labels cancel out; only the ranking loss, within the group, tells them apart."""
    torch.manual_seed(1)
    model = AligningNetwork(16, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    both = [*PAIRS[:2], replace(PAIRS[0], y=0, group=""), replace(PAIRS[1], y=1, group="")]
    for _ in range(20):
        train_judge.train_step(model, optimizer, both, cache, train_judge.Knobs(order=2.0))
    true, false = train_judge.compute_logits(model, PAIRS[:2], cache)
    assert true > false + 0.5


def test_batches_keep_groups_together_and_hold_every_pair(cache):
    pool = train_judge.group_pairs([*PAIRS, Pair("a red fox", "a blue fox", 0, "alone")])
    assert sorted(map(len, pool)) == [1, 2, 2, 2]
    batches = train_judge.make_batches(pool, cache, 2, Random(1))
    assert sorted(map(len, batches)) == [2, 2, 3] or sorted(map(len, batches)) == [1, 2, 2, 2]
    for pair in PAIRS:
        assert any({other.group for other in batch} >= {pair.group} and pair in batch for batch in batches)


def test_the_saved_weights_are_the_average_of_the_last_steps(one_thread, reader, knobs):
    """Without decay the average is the last weights; with decay, earlier weights count too."""
    out = train_judge.train(replace(knobs, longest_average=0.0))
    last = torch.load(out / "judge.pt", weights_only=True)
    out = train_judge.train(replace(knobs, longest_average=0.9))
    average = torch.load(out / "judge.pt", weights_only=True)
    assert any(not torch.equal(last[name], average[name]) for name in last)


def test_mined_neighbours_are_near_in_meaning_but_share_few_words():
    prompts = ["a red fox in snow", "a blue fox in snow", "a fox in a forest", "tax law", "a red fox in the snow"]
    vectors = open_onnx(ROOT / "var" / "text")(prompts)
    pairs = {frozenset((pair.a, pair.b)) for pair in neighbour_pairs(prompts, vectors, neighbours=2)}
    assert frozenset((prompts[2], prompts[1])) in pairs or frozenset((prompts[2], prompts[0])) in pairs
    assert frozenset((prompts[0], prompts[4])) not in pairs
    assert all(len(pair) == 2 for pair in pairs)


def test_a_run_can_start_from_an_earlier_run_and_add_mined_pairs(files, knobs):
    (files / "users.txt").write_text("a cat by the sea\ntwo dogs in a wood\na house\na hen on a roof\n")
    mined = {"mined": 5, "neighbours": files / "users.txt", "text": ROOT / "var" / "text"}
    first = train_judge.train(replace(knobs, steps=2))
    second = train_judge.train(
        replace(knobs, **mined, begin=str(first), out=files / "more", steps=1, learning_rate=0.0)
    )
    before, after = (torch.load(out / "judge.pt", weights_only=True) for out in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert (
        0 < len(train_judge.mine_neighbours(replace(knobs, **mined))) <= 5
        and train_judge.mine_neighbours(knobs) == []
    )


def test_the_labels_of_users_are_trained_on_and_not_held_out(files, knobs):
    (files / "labels.jsonl").write_text(json.dumps({"a": "a fox", "b": "a wolf", "y": 0, "kind": "user"}))
    checked, held_out, _ = train_judge.load_pairs(replace(knobs, labels=(str(files / "labels.jsonl"),)))
    assert checked[-1].b == "a wolf" and all(pair.kind != "user" for pair in held_out)


def test_with_zero_parts_no_group_is_held_out(files):
    everything = read_pairs(files / "pairs.jsonl")
    assert split_groups(everything, 0) == (everything, [])


@pytest.mark.parametrize("network", ["align", "cross"])
def test_a_packed_judge_scores_like_the_trained_network(one_thread, reader, knobs, network):
    out = train_judge.train(replace(knobs, network=network))
    measured = judge_packing.pack_judge(
        judge_packing.Knobs(
            runs=(str(out),), fitted_on=(str(knobs.pairs),), text=ROOT / "var" / "text", out=out / "packed"
        )
    )
    judge = open_learned(out / "packed", open_onnx(ROOT / "var" / "text"))
    texts = [(pair.a, pair.b) for pair in PAIRS]
    model = train_judge.build_network(network, 16, reader)
    model.load_state_dict(torch.load(out / "judge.pt", weights_only=True))
    cache = open_token_states(knobs.cache, [text for pair in texts for text in pair], reader)
    ruled = [judge.apply_rules(*pair) for pair in texts]
    assert judge.batch_logits(ruled) == pytest.approx(train_judge.compute_logits(model, PAIRS, cache), abs=0.3)
    assert measured["false_hit"] <= 0.01 and 0 < judge.card.probability(0.0) < 1


def test_an_altered_network_is_refused(one_thread, knobs):
    out = train_judge.train(replace(knobs, steps=1, judge_every=1))
    judge_packing.pack_judge(
        judge_packing.Knobs(runs=(str(out),), fitted_on=(str(knobs.pairs),), text=ROOT / "var" / "text", out=out)
    )
    with (out / "judge-1.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BadSetup, match="judge-1.onnx is not the network"):
        open_learned(out, open_onnx(ROOT / "var" / "text"))
    (out / CARD).write_text("{}")
    with pytest.raises(BadSetup, match="no judge in"):
        open_learned(out, open_onnx(ROOT / "var" / "text"))


def test_prompts_of_the_evaluation_are_not_trained_on(knobs):
    assert read_prompts(knobs.prompts, knobs.sources, knobs.avoid) == [
        "a green car next to a tree",
        "two birds in the sky",
    ]


def test_an_unknown_network_is_refused(reader):
    with pytest.raises(BadSetup, match="network 'bigger' is unknown"):
        train_judge.build_network("bigger", 16, reader)


def test_no_group_is_split_between_training_and_held_out_pairs(knobs):
    checked, held_out = split_groups(read_pairs(knobs.pairs))
    assert held_out and not {pair.group for pair in checked} & {pair.group for pair in held_out}


def test_the_pool_is_the_same_for_the_same_seed(knobs):
    prompts = ["a green car next to a tree", "two red birds in the sky"]
    sizes = (5, 5, 5, 5)
    first = make_pool(PAIRS, prompts, 1, sizes)
    assert len(first) == 20 and first == make_pool(PAIRS, prompts, 1, sizes) != make_pool(PAIRS, prompts, 2, sizes)
    assert next(unlike_pairs(Random(1), prompts)).y == 0
    assert next(crossed_pairs(Random(1), PAIRS)).a in {pair.a for pair in PAIRS if pair.y}
