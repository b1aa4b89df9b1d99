"""Train the network that names relations: `python -m training.judge.train_relations --pairs FOLDER --out FOLDER`.

The pairs come from `training.pairs.splits`. A run that was stopped continues where its last checkpoint was written.
"""

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disk.durable_files import move_durably
from memo.judge.evaluation import figures
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.learned import network_inputs
from training.checkpoint import load_state, open_run, save_state, update_average
from training.knobs import from_arguments
from training.pairs.pair_sources import CHECKED_CAPTIONS
from training.pairs.passes import draw_pass, read_split
from training.pairs.relation_pair import RELATIONS, RelationPair

from .relation_network import SHARES, RelationNetwork
from .token_states import TokenStateReader
from .train_judge import WEIGHTS

log = logging.getLogger(__name__)

WEIGHT_OF = {
    "real": 1.5,
    "labels": 1.5,
    "scpp": 1.0,
    "valse": 1.0,
    "relaxed": 1.0,
}  # of a pair in the loss, by source
AUTHORED_WEIGHT, PUBLIC_WEIGHT = 1.0, 0.5
SHARE_WEIGHT = 0.3  # of the loss of shares beside the loss of relations
HEAD_FACTOR = 5  # by which new layers learn faster than those of MiniLM
WARM_UP = 150  # steps
POOL = 50  # batches whose pairs are sorted by length
KINDS = ("authored", "natural", "real", "captions")  # kinds to measure
LOGGED_FIGURES = ("true_hit_at_1pct", "true_hit_at_5pct", "auc")


@dataclass(frozen=True)
class Knobs:
    """Which pairs to train on, and how."""

    pairs: Path = Path("var/judge/pairs")  # as training.pairs.splits writes them
    labels: tuple[str, ...] = ()  # more files of pairs, for example the answer of GET /api/v1/labels
    out: Path = Path("var/judge/relations")
    steps: int = 3000
    batch: int = 32
    dropout: float = 0.1
    learning_rate: float = 1e-4
    longest_average: float = 0.998  # decay of the averaged weights
    measured: int = 500  # pairs of dev of each kind to measure with
    judge_every: int = 500  # steps between measurements
    checkpoint_every: int = 100  # steps
    threads: int = 2
    seed: int = 1


def train(knobs: Knobs) -> Path:
    """Train a network; returns the run folder, with the averaged weights in `judge.pt`. Raises BadSetup."""
    torch.set_num_threads(knobs.threads)
    torch.manual_seed(knobs.seed)
    folder = open_run(knobs, may_change=("checkpoint_every", "judge_every", "measured", "threads", "out"))
    pairs, dev = read_split(knobs.pairs / "train"), sample_by_kind(read_split(knobs.pairs / "dev"), knobs.measured)
    pairs += [labelled_pair(pair) for path in knobs.labels for pair in read_pairs(Path(path))]
    reader = TokenStateReader()
    model = build_relation_network(reader, knobs.dropout)
    averaged = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(model, knobs.learning_rate), weight_decay=0.01, fused=True)
    done = load_state(folder, model=model, ema=averaged, optimizer=optimizer)
    batches = islice(draw_batches(pairs, reader, knobs), done, knobs.steps)
    losses, started = list[float](), time.monotonic()
    for step, batch in enumerate(batches, done + 1):
        torch.manual_seed(knobs.seed * 1_000_003 + step)  # so a run that was stopped drops out the same states
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, step / WARM_UP) * (1 - (step - 1) / knobs.steps)
        losses.append(train_step(model, optimizer, batch, reader))
        update_average(averaged, model, step=step, max_decay=knobs.longest_average)
        if step % knobs.checkpoint_every == 0 or step == knobs.steps:
            save_state(folder, step=step, model=model, ema=averaged, optimizer=optimizer)
            log.info("step %d loss %.4f %.0f s", step, np.mean(losses), time.monotonic() - started)
            losses = []
        if step % knobs.judge_every == 0 or step == knobs.steps:
            torch.save(averaged.state_dict(), folder / f"{WEIGHTS}.new")
            move_durably(folder / f"{WEIGHTS}.new", folder / WEIGHTS)
            log_figures(averaged, dev, reader)
    return folder


def labelled_pair(pair: Pair) -> RelationPair:
    """A pair whose label only says whether both prompts ask for the same picture."""
    return RelationPair(pair.a, pair.b, "S" if pair.y else "MLD", pair.kind, "labels", pair.group)


def build_relation_network(reader: TokenStateReader, dropout: float = 0.1) -> RelationNetwork:
    """A network that starts from all layers of MiniLM."""
    return RelationNetwork(copy.deepcopy(reader.bert.encoder.layer).requires_grad_(True), dropout)


def parameter_groups(model: nn.Module, rate: float) -> list[dict[str, Any]]:
    """The parameters of MiniLM and the new ones, which learn faster; `peak` is the highest learning rate."""
    named = list(model.named_parameters())
    old = [value for name, value in named if name.startswith("layers.")]
    new = [value for name, value in named if not name.startswith("layers.")]
    return [{"params": old, "peak": rate}, {"params": new, "peak": HEAD_FACTOR * rate}]


def draw_batches(
    pairs: Sequence[RelationPair], reader: TokenStateReader, knobs: Knobs
) -> Iterator[list[RelationPair]]:
    """Endless batches of pairs of similar length, always in the same order."""
    number = 0
    while True:
        random = Random(f"{knobs.seed}:{number}")
        drawn = draw_pass(pairs, random)
        lengths = dict(zip(map(id, drawn), count_tokens(drawn, reader), strict=True))
        batches = []
        for start in range(0, len(drawn), knobs.batch * POOL):
            pool = sorted(drawn[start : start + knobs.batch * POOL], key=lambda pair: lengths[id(pair)])
            batches += [pool[first : first + knobs.batch] for first in range(0, len(pool), knobs.batch)]
        random.shuffle(batches)
        yield from batches
        number += 1


def count_tokens(pairs: Sequence[RelationPair], reader: TokenStateReader) -> list[int]:
    """The number of tokens of the longer prompt of each pair."""
    longer = [max(pair.a, pair.b, key=len) for pair in pairs]
    return [len(ids) for ids in reader.tokenizer(longer)["input_ids"]]


def train_step(
    model: RelationNetwork, optimizer: torch.optim.Optimizer, batch: Sequence[RelationPair], reader: TokenStateReader
) -> float:
    """Train on one batch and return its loss."""
    model.train()
    _, relation, share = model(*read_batch(batch, reader))
    weights = torch.tensor([weight_of(pair.source) for pair in batch])
    loss = (weights * (relation_losses(relation, batch) + SHARE_WEIGHT * share_losses(share, batch))).mean()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())


def read_batch(pairs: Sequence[RelationPair] | Sequence[Pair], reader: TokenStateReader) -> list[Tensor]:
    """Inputs of a network for these pairs."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))
    states = dict(zip(texts, reader.read(texts), strict=True))
    inputs = network_inputs([(pair.a, pair.b) for pair in pairs], states.__getitem__)
    return [torch.from_numpy(part) for part in inputs.values()]


def weight_of(source: str) -> float:
    """The weight of a pair of this source in the loss."""
    return WEIGHT_OF.get(source, AUTHORED_WEIGHT if source.startswith("authored") else PUBLIC_WEIGHT)


def relation_losses(logits: Tensor, pairs: Sequence[RelationPair]) -> Tensor:
    """Minus the log of the total probability of the possible relations: (n)."""
    possible = torch.tensor([[relation in pair.possible for relation in RELATIONS] for pair in pairs])
    return -logits.log_softmax(-1).masked_fill(~possible, float("-inf")).logsumexp(-1)


def share_losses(logits: Tensor, pairs: Sequence[RelationPair]) -> Tensor:
    """The mean binary loss of "a share of at least 1, 2, 3", which keeps their order; 0 if it is unknown: (n)."""
    known = torch.tensor([float(pair.share is not None) for pair in pairs])
    reached = torch.tensor([pair.share or 0 for pair in pairs])[:, None] > torch.arange(SHARES)
    return known * F.binary_cross_entropy_with_logits(logits, reached.float(), reduction="none").mean(-1)


def sample_by_kind(pairs: Sequence[RelationPair], size: int) -> dict[str, list[Pair]]:
    """Up to `size` labelled pairs of each kind, always the same ones."""
    kinds: dict[str, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: Random(f"{pair.a}|{pair.b}").random()):
        kind = kind_of(pair.source)
        if kind in KINDS and pair.y is not None and len(kinds.setdefault(kind, [])) < size:
            kinds[kind].append(Pair(pair.a, pair.b, pair.y, pair.kind, pair.group, pair.source))
    return kinds


def kind_of(source: str) -> str:
    """The kind of pairs that are measured together."""
    if source in CHECKED_CAPTIONS:
        return "captions"
    if source.startswith("authored"):
        return "natural" if source == "authored-E" else "authored"
    return source


def log_figures(model: RelationNetwork, kinds: dict[str, list[Pair]], reader: TokenStateReader) -> None:
    """Log how well the network tells the true pairs of each kind from its near misses."""
    for kind, pairs in sorted(kinds.items()):
        logits = compute_same_logits(model, pairs, reader)
        measured = figures(logits, [logit > 0 for logit in logits], pairs)
        log.info("%s: 1%% %.3f  5%% %.3f  auc %.4f", kind, *(measured[name] for name in LOGGED_FIGURES))


@torch.inference_mode()
def compute_same_logits(
    model: RelationNetwork, pairs: Sequence[Pair], reader: TokenStateReader, size: int = 64
) -> list[float]:
    """The log-odds of each pair that both prompts ask for the same picture."""
    model.eval()
    order = sorted(range(len(pairs)), key=lambda row: max(len(pairs[row].a), len(pairs[row].b)))
    logits = [0.0] * len(pairs)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        for row, value in zip(
            rows, model(*read_batch([pairs[row] for row in rows], reader))[0].tolist(), strict=True
        ):
            logits[row] = value
    return logits


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
