"""Train a judge: `python -m training.judge.train_judge --out var/judge/one`.

A frozen MiniLM reads every text once; the network only learns to compare. The run keeps the weights averaged over
its last steps (Polyak & Juditsky 1992) instead of the best of many evaluations: an evaluation on a few hundred near
misses is noisy, and its best value is luck.
"""

import copy
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import nn

from disk.durable_files import write_durably
from memo.errors import BadSetup
from memo.judge.evaluation import figures
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.minilm import STATE_LAYERS as LAYERS
from memo.onnx_embedder import open_onnx
from training.checkpoint import update_average
from training.knobs import from_arguments, to_json

from .aligning_network import RELATED, AligningNetwork
from .crossing_network import JOINED, CrossingNetwork
from .pair_pool import make_pool, neighbour_pairs, read_prompts, split_groups
from .renaming import rename_groups
from .token_states import TokenStateReader, TokenStateStore, open_token_states

log = logging.getLogger(__name__)
WEIGHTS, CONFIG = "judge.pt", "config.json"
MINED_REPEATS = 2  # how often mined pairs are seen while other pairs made by rule are seen once
LOGGED_FIGURES = ("true_hit_at_1pct", "true_hit_at_5pct", "auc")


@dataclass(frozen=True)
class Knobs:
    """Which pairs to train on, which network, and how."""

    pairs: Path = Path("data/reuse/train.jsonl")
    labels: tuple[str, ...] = ()  # more files of pairs, for example the answer of GET /api/v1/labels
    avoid: Path = Path("data/reuse/dev.jsonl")  # pairs of the final evaluation: none of their prompts is used
    prompts: Path = Path("data/prompts")
    sources: tuple[str, ...] = ("compbench", "tifa", "imagereward")  # files of prompts
    out: Path = Path("var/judge/one")
    cache: Path = Path("var/judge/states.bin")
    grammar: int = 24_000  # pairs from the grammar
    rules: int = 24_000  # pairs from edited prompts
    crossed: int = 12_000  # pairs from edited checked texts
    unlike: int = 2_000  # pairs of two random prompts
    neighbours: Path = Path("data/prompts/imagereward.txt")  # its first half is searched for nearest neighbours
    mined: int = 0  # pairs of nearest neighbours
    begin: str = ""  # folder of a run whose weights to start from
    text: Path = Path("var/text")  # the exported text model, which finds the neighbours
    checked: int = 4  # how often checked pairs are seen while pairs made by rule are seen once
    renamed: int = 0  # checked groups to repeat about other things
    kept_back: int = 10  # every n-th group is held out to evaluate with; 0 trains on all groups
    steps: int = 3000
    batch: int = 48
    network: str = "align"  # or "cross"
    width: int = 160  # hidden size of an aligning network
    dropout: float = 0.3
    learning_rate: float = 1e-3
    order: float = 0.5  # weight of the loss that ranks a true pair above the near misses of its group
    longest_average: float = 0.998  # decay of the averaged weights
    bf16: bool = True  # use bfloat16 where that is safe
    pool_seed: int = 1
    seed: int = 1
    threads: int = 1
    judge_every: int = 500  # steps between evaluations


def train(knobs: Knobs) -> Path:
    """Train a network; returns the run folder, with the averaged weights in `judge.pt`."""
    torch.set_num_threads(knobs.threads)
    torch.manual_seed(knobs.seed)
    knobs.out.mkdir(parents=True, exist_ok=True)
    knobs.cache.parent.mkdir(parents=True, exist_ok=True)
    checked, held_out, by_rule = load_pairs(knobs)
    reader = TokenStateReader()
    texts = [text for pair in (*checked, *held_out, *by_rule) for text in (pair.a, pair.b)]
    cache = open_token_states(knobs.cache, texts, reader)
    model = build_network(knobs.network, knobs.width, reader, knobs.dropout)
    if knobs.begin:
        model.load_state_dict(torch.load(Path(knobs.begin) / WEIGHTS, weights_only=True))
    averaged = copy.deepcopy(model).requires_grad_(False)
    write_durably(knobs.out / CONFIG, json.dumps(to_json(knobs), indent=2))
    weights = sum(parameter.numel() for parameter in model.parameters())
    log.info(
        "%d checked pairs, %d by rule, %d held out; %d weights", len(checked), len(by_rule), len(held_out), weights
    )
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, knobs.learning_rate, total_steps=knobs.steps, pct_start=0.1)
    random, losses, started = Random(knobs.seed), [], time.monotonic()
    groups, batches = [*group_pairs(checked) * knobs.checked, *group_pairs(by_rule)], list[list[Pair]]()
    for step in range(1, knobs.steps + 1):
        if not batches:
            batches = make_batches(groups, cache, knobs.batch, random)
        losses.append(train_step(model, optimizer, batches.pop(), cache, knobs))
        rate.step()
        update_average(averaged, model, step=step, max_decay=knobs.longest_average)
        if step % knobs.judge_every == 0 or step == knobs.steps:
            torch.save(averaged.state_dict(), knobs.out / WEIGHTS)
            log.info("step %d loss %.4f %.0f s", step, np.mean(losses), time.monotonic() - started)
            losses = []
            if held_out:
                measured = evaluate(averaged, held_out, cache)
                log.info("1%% %.3f  5%% %.3f  auc %.4f", *(measured[name] for name in LOGGED_FIGURES))
    return knobs.out


def load_pairs(knobs: Knobs) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Checked pairs to train on, checked pairs held out to evaluate with, and pairs made by rule."""
    checked, held_out = split_groups(read_pairs(knobs.pairs), knobs.kept_back)
    checked += [pair for path in knobs.labels for pair in read_pairs(Path(path))]
    sizes = (knobs.grammar, knobs.rules, knobs.crossed, knobs.unlike)
    prompts = read_prompts(knobs.prompts, knobs.sources, knobs.avoid)
    by_rule = make_pool(checked, prompts, knobs.pool_seed, sizes)
    by_rule += mine_neighbours(knobs) * MINED_REPEATS
    renamed = islice(rename_groups(Random(knobs.seed), group_pairs(checked)), knobs.renamed)
    return checked, held_out, by_rule + [pair for group in renamed for pair in group]


def mine_neighbours(knobs: Knobs) -> list[Pair]:
    """A random sample of pairs of real users' prompts and their nearest neighbours, all labelled near misses."""
    if not knobs.mined:
        return []
    lines = list(dict.fromkeys(line.strip() for line in knobs.neighbours.read_text().splitlines()))
    prompts = sorted((line for line in lines[: len(lines) // 2] if 2 < len(line) < 600), key=len)
    embed = open_onnx(knobs.text)
    vectors = np.concatenate([embed(prompts[start : start + 32]) for start in range(0, len(prompts), 32)])
    pairs = neighbour_pairs(prompts, vectors)
    return Random(knobs.pool_seed).sample(pairs, min(knobs.mined, len(pairs)))


def build_network(network: str, width: int, reader: TokenStateReader, dropout: float = 0.1) -> nn.Module:
    """A network that starts from weights of MiniLM; raises BadSetup for an unknown kind of network."""
    if network == "align":
        return AligningNetwork(width, relation_weights(reader), dropout)
    if network == "cross":
        layers = copy.deepcopy(reader.bert.encoder.layer[LAYERS[JOINED] :]).requires_grad_(True)
        return CrossingNetwork(layers, dropout)
    raise BadSetup(f"network {network!r} is unknown; use align or cross")


def relation_weights(reader: TokenStateReader) -> list[dict[str, torch.Tensor]]:
    """Query and key weights of the MiniLM layers after the states in RELATED, from which the relations start."""
    layers = [reader.bert.encoder.layer[LAYERS[row]].attention.self for row in RELATED]
    return [
        {
            f"{name}.{part}": getattr(getattr(layer, name), part).detach().clone()
            for name in ("query", "key")
            for part in ("weight", "bias")
        }
        for layer in layers
    ]


def group_pairs(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs by their group; a pair without a group forms its own."""
    groups: dict[object, list[Pair]] = {}
    for number, pair in enumerate(pairs):
        groups.setdefault(pair.group or number, []).append(pair)
    return list(groups.values())


def make_batches(
    groups: Sequence[Sequence[Pair]], cache: TokenStateStore, size: int, random: Random
) -> list[list[Pair]]:
    """All groups, unsplit, in shuffled batches of about `size` pairs of similar length."""
    batches: list[list[Pair]] = []
    shuffled = random.sample(groups, len(groups))
    for start in range(0, len(shuffled), size * 30):
        by_length = sorted(
            shuffled[start : start + size * 30], key=lambda group: max(map(cache.longer_length, group))
        )
        batches.append([])
        for group in by_length:
            if len(batches[-1]) >= size:
                batches.append([])
            batches[-1].extend(group)
    random.shuffle(batches)
    return batches


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Sequence[Pair], cache: TokenStateStore, knobs: Knobs
) -> float:
    """Train on one batch and return its loss; labels are smoothed because some of them are wrong."""
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=knobs.bf16):
        logits = model(*cache.batch(batch)).float()
    labels = torch.tensor([0.02 + 0.96 * pair.y for pair in batch])
    loss: Any = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    rows = ranking_rows(batch)
    if knobs.order and len(rows):
        better, worse = logits[rows].unbind(1)
        loss = loss + knobs.order * nn.functional.softplus(worse - better).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    value: float = loss.item()
    return value


def ranking_rows(batch: Sequence[Pair]) -> torch.Tensor:
    """Rows (n, 2) of a true pair and a near miss of the same group."""
    true = [row for row, pair in enumerate(batch) if pair.y and pair.group]
    near_misses = [row for row, pair in enumerate(batch) if not pair.y]
    rows = [(i, j) for i in true for j in near_misses if batch[i].group == batch[j].group]
    return torch.tensor(rows, dtype=torch.long).reshape(-1, 2)


@torch.inference_mode()
def compute_logits(model: nn.Module, pairs: Sequence[Pair], cache: TokenStateStore, size: int = 128) -> list[float]:
    """The logit of each pair."""
    model.eval()
    order = sorted(range(len(pairs)), key=lambda row: cache.length(pairs[row].a) + cache.length(pairs[row].b))
    scores = [0.0] * len(pairs)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        logits = model(*cache.batch([pairs[row] for row in rows]))
        for row, value in zip(rows, logits.tolist(), strict=True):
            scores[row] = value
    return scores


def evaluate(model: nn.Module, pairs: Sequence[Pair], cache: TokenStateStore) -> dict[str, float]:
    """The figures of `memo.judge.evaluation` for the network, which accepts pairs with a logit above 0."""
    scores = compute_logits(model, pairs, cache)
    return figures(scores, [score > 0 for score in scores], pairs)


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
