"""Teach a judge: `python -m training.judge.train_judge --out var/judge/one`.

Texts are read once by a frozen MiniLM; what is learned is how to compare. What is kept are the weights averaged over
the last steps (Polyak & Juditsky 1992), not those that did best at one of many looks: a look at a few hundred near
misses is noisy, and its best is luck.
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

from memo.errors import BadSetup
from memo.judge.evaluation import figures
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.minilm import STATE_LAYERS as LAYERS
from memo.onnx_embedder import open_onnx
from training.checkpoint import average
from training.knobs import as_json, from_arguments

from .aligning_network import RELATED, Align
from .crossing_network import JOINED, Cross
from .pair_pool import make_pool, neighbours, read_prompts, split
from .renaming import renamed
from .token_states import Reader, TokenStateStore, open_token_states

log = logging.getLogger(__name__)
WEIGHTS, CONFIG = "judge.pt", "config.json"
MINED_OFTEN = 2
SHOWN = ("true_hit_at_1pct", "true_hit_at_5pct", "auc")


@dataclass(frozen=True)
class Knobs:
    """What to teach, and how."""

    pairs: Path = Path("data/reuse/train.jsonl")
    labels: tuple[str, ...] = ()  # more files of pairs, such as what GET /api/v1/labels gives
    avoid: Path = Path("data/reuse/dev.jsonl")  # pairs that it will be judged by: no prompt is taken from there
    prompts: Path = Path("data/prompts")
    sources: tuple[str, ...] = ("compbench", "tifa", "imagereward")  # files of prompts
    out: Path = Path("var/judge/one")
    cache: Path = Path("var/judge/states.bin")
    grammar: int = 24_000  # pairs
    rules: int = 24_000
    crossed: int = 12_000
    unlike: int = 2_000
    neighbours: Path = Path("data/prompts/imagereward.txt")  # its first half: prompts against their nearest others
    mined: int = 0  # so many of these pairs
    begin: str = ""  # a run whose weights to begin with
    text: Path = Path("var/text")  # the exported text model, for neighbours
    checked: int = 4  # how often a checked pair is seen for each of the others
    renamed: int = 0  # so many checked groups told of other things
    kept_back: int = 10  # one group of so many is not taught, to look at; 0 teaches all of them
    steps: int = 3000
    batch: int = 48
    network: str = "align"  # or "cross"
    width: int = 160  # of an aligning network
    dropout: float = 0.3
    learning_rate: float = 1e-3
    order: float = 0.5  # weight of the loss that puts a true pair over the near misses of its own group
    longest_average: float = 0.998  # decay of the averaged weights
    bf16: bool = True  # half the bits where that is safe
    pool_seed: int = 1
    seed: int = 1
    threads: int = 1
    judge_every: int = 500


def open_pool(knobs: Knobs) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Checked pairs to learn, checked pairs to choose by, and pairs by rule."""
    taught, kept = split(read_pairs(knobs.pairs), knobs.kept_back)
    taught += [pair for path in knobs.labels for pair in read_pairs(Path(path))]
    sizes = (knobs.grammar, knobs.rules, knobs.crossed, knobs.unlike)
    return (
        taught,
        kept,
        make_pool(taught, read_prompts(knobs.prompts, knobs.sources, knobs.avoid), knobs.pool_seed, sizes),
    )


def mined(knobs: Knobs) -> list[Pair]:
    """Some pairs of prompts of real users and their nearest others."""
    if not knobs.mined:
        return []
    lines = list(dict.fromkeys(line.strip() for line in knobs.neighbours.read_text().splitlines()))
    prompts = [line for line in lines[: len(lines) // 2] if 2 < len(line) < 600]
    embed = open_onnx(knobs.text)
    order = sorted(prompts, key=len)
    vectors = np.concatenate([embed(order[start : start + 32]) for start in range(0, len(order), 32)])
    found = neighbours(order, vectors)
    return Random(knobs.pool_seed).sample(found, min(knobs.mined, len(found)))


def build(network: str, width: int, reader: Reader, dropout: float = 0.1) -> nn.Module:
    """A network that begins with weights of MiniLM; raises BadSetup for a kind that there is not."""
    if network == "align":
        return Align(width, relation_weights(reader), dropout)
    if network == "cross":
        return Cross(copy.deepcopy(reader.bert.encoder.layer[LAYERS[JOINED] :]).requires_grad_(True), dropout)
    raise BadSetup(f"network {network!r} is unknown; there are align and cross")


def relation_weights(reader: Reader) -> list[dict[str, torch.Tensor]]:
    """MiniLM's own attention, to begin with: of the layers behind the chosen states."""
    layers = [reader.bert.encoder.layer[LAYERS[row]].attention.self for row in RELATED]
    return [
        {
            f"{name}.{part}": getattr(getattr(layer, name), part).detach().clone()
            for name in ("query", "key")
            for part in ("weight", "bias")
        }
        for layer in layers
    ]


def families(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs by group; those without one are alone."""
    found: dict[object, list[Pair]] = {}
    for number, one in enumerate(pairs):
        found.setdefault(one.group or number, []).append(one)
    return list(found.values())


def batches(pool: Sequence[Sequence[Pair]], cache: TokenStateStore, size: int, random: Random) -> list[list[Pair]]:
    """All families in batches of about so many pairs of about equal length, in an order by chance."""
    found: list[list[Pair]] = []
    mixed = random.sample(pool, len(pool))
    for start in range(0, len(mixed), size * 30):
        some = sorted(mixed[start : start + size * 30], key=lambda one: max(map(cache.longer, one)))
        found.append([])
        for family in some:
            if len(found[-1]) >= size:
                found.append([])
            found[-1].extend(family)
    random.shuffle(found)
    return found


def train(knobs: Knobs) -> Path:
    """Teach; returns the folder with `judge.pt`."""
    torch.set_num_threads(knobs.threads)
    torch.manual_seed(knobs.seed)
    knobs.out.mkdir(parents=True, exist_ok=True)
    knobs.cache.parent.mkdir(parents=True, exist_ok=True)
    taught, kept, rules = open_pool(knobs)
    rules += mined(knobs) * MINED_OFTEN
    told = islice(renamed(Random(knobs.seed), families(taught)), knobs.renamed)
    rules += [pair for group in told for pair in group]
    reader = Reader()
    cache = open_token_states(
        knobs.cache, [text for one in (*taught, *kept, *rules) for text in (one.a, one.b)], reader
    )
    model = build(knobs.network, knobs.width, reader, knobs.dropout)
    if knobs.begin:
        model.load_state_dict(torch.load(Path(knobs.begin) / WEIGHTS, weights_only=True))
    averaged = copy.deepcopy(model).requires_grad_(False)
    (knobs.out / CONFIG).write_text(json.dumps(as_json(knobs), indent=2))
    weights = sum(p.numel() for p in model.parameters())
    log.info("%d checked, %d by rule, %d kept back; %d weights", len(taught), len(rules), len(kept), weights)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, knobs.learning_rate, total_steps=knobs.steps, pct_start=0.1)
    random, losses, begun = Random(knobs.seed), [], time.monotonic()
    pool, queue = [*families(taught) * knobs.checked, *families(rules)], list[list[Pair]]()
    for step in range(1, knobs.steps + 1):
        if not queue:
            queue = batches(pool, cache, knobs.batch, random)
        losses.append(learn(model, optimizer, queue.pop(), cache, knobs))
        rate.step()
        average(averaged, model, step=step, longest=knobs.longest_average)
        if step % knobs.judge_every == 0 or step == knobs.steps:
            torch.save(averaged.state_dict(), knobs.out / WEIGHTS)
            log.info("step %d loss %.4f %.0f s", step, np.mean(losses), time.monotonic() - begun)
            losses = []
            if kept:
                found = judged(averaged, kept, cache)
                log.info("1%% %.3f  5%% %.3f  auc %.4f", *(found[name] for name in SHOWN))
    return knobs.out


def learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, some: Sequence[Pair], cache: TokenStateStore, knobs: Knobs
) -> float:
    """One step on a batch; labels are a little soft, for some are wrong."""
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=knobs.bf16):
        logits = model(*cache.batch(some)).float()
    wanted = torch.tensor([0.02 + 0.96 * one.y for one in some])
    loss: Any = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
    over = in_order(some)
    if knobs.order and len(over):
        better, worse = logits[over].unbind(1)
        loss = loss + knobs.order * nn.functional.softplus(worse - better).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    value: float = loss.item()
    return value


def in_order(some: Sequence[Pair]) -> torch.Tensor:
    """Rows (n, 2) of a true pair and a near miss of the same group."""
    true = [row for row, one in enumerate(some) if one.y and one.group]
    missed = [row for row, one in enumerate(some) if not one.y]
    found = [(i, j) for i in true for j in missed if some[i].group == some[j].group]
    return torch.tensor(found, dtype=torch.long).reshape(-1, 2)


@torch.inference_mode()
def scores_of(model: nn.Module, pairs: Sequence[Pair], cache: TokenStateStore, size: int = 128) -> list[float]:
    """Logits of all pairs."""
    model.eval()
    order = sorted(range(len(pairs)), key=lambda row: cache.length(pairs[row].a) + cache.length(pairs[row].b))
    found = [0.0] * len(pairs)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        logits = model(*cache.batch([pairs[row] for row in rows]))
        for row, value in zip(rows, logits.tolist(), strict=True):
            found[row] = value
    return found


def judged(model: nn.Module, pairs: Sequence[Pair], cache: TokenStateStore) -> dict[str, float]:
    """Figures on some pairs."""
    scores = scores_of(model, pairs, cache)
    return figures(scores, [score > 0 for score in scores], [one.y for one in pairs], [one.kind for one in pairs])


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
