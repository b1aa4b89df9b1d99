"""Train the relation network: `python -m training.judge.train_relations --pairs FOLDER --out FOLDER`.

`training.pairs.splits` writes the pairs. If the run is stopped, it continues from its last checkpoint.
"""

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
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
from memo.judge.learned import batches_by_length
from training.checkpoint import load_state, open_run, save_state, update_average
from training.knobs import from_arguments
from training.pairs.pair_sources import kind_of
from training.pairs.relation_pair import RELATIONS, RelationPair
from training.pairs.sampling import draw_pass, read_measured_pairs, read_training_pairs

from .relation_network import SHARES, RelationNetwork, SharedDropout
from .token_states import TokenStateReader, TokenStateStore, open_token_states
from .train_judge import WEIGHTS

log = logging.getLogger(__name__)

TOKEN_STATES = "token_states.f16"  # in the run's folder; about 3 GB
LABELS = "labels"  # source of the pairs that users labelled
LOSS_WEIGHTS = {"real": 1.5, LABELS: 1.5, "captions": 1.0, "natural": 1.0, "authored": 1.0, "relaxed": 1.0}  # by kind
PUBLIC_LOSS_WEIGHT = 0.5  # of all other kinds
SHARE_LOSS_WEIGHT = 0.3
NEW_LAYER_FACTOR = 5  # the learning rate of new layers, relative to that of MiniLM's layers
WARM_UP_STEPS = 150
BATCHES_PER_POOL = 50  # pairs are sorted by length within a pool of this many batches
LOGGED_FIGURES = ("true_hit_at_1pct", "true_hit_at_5pct", "auc")
MAY_CHANGE = ("checkpoint_every", "measure_every", "measured_per_kind", "threads", "out")


@dataclass(frozen=True)
class Knobs:
    """Which pairs to train on, and how."""

    pairs: Path = Path("var/judge/pairs")  # written by training.pairs.splits
    labels: tuple[str, ...] = ()  # more files of pairs, for example the answer of GET /api/v1/labels
    out: Path = Path("var/judge/relations")
    steps: int = 3000
    batch: int = 32
    dropout: float = 0.1
    learning_rate: float = 1e-4
    longest_average: float = 0.998  # decay of the averaged weights
    measured_per_kind: int = 500  # dev pairs per kind to measure the network with
    measure_every: int = 500  # steps
    checkpoint_every: int = 100  # steps
    bfloat16: bool = False  # compute with 16-bit numbers; twice as fast on processors with AMX, slow on others
    threads: int = 2
    seed: int = 1


def train(knobs: Knobs) -> Path:
    """Train a network and return the run's folder. Its file `judge.pt` has the averaged weights. Raises BadSetup."""
    torch.set_num_threads(knobs.threads)
    torch.manual_seed(knobs.seed)
    folder = open_run(knobs, may_change=MAY_CHANGE)
    pairs = read_training_pairs(knobs.pairs / "train")
    pairs += [labelled_pair(pair) for path in knobs.labels for pair in read_pairs(Path(path))]
    measured_pairs = read_measured_pairs(knobs.pairs / "dev", knobs.measured_per_kind)
    reader = TokenStateReader()
    texts = [text for pair in pairs for text in (pair.a, pair.b)]
    texts += [text for pair in measured_pairs for text in (pair.a, pair.b)]
    store = open_token_states(folder / TOKEN_STATES, texts, reader)
    model = build_relation_network(reader, knobs.dropout)
    averaged = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(model, knobs.learning_rate), weight_decay=0.01, fused=True)
    done = load_state(folder, model=model, ema=averaged, optimizer=optimizer)
    losses, started = list[float](), time.monotonic()
    batches = draw_batches(pairs, reader.tokenizer, batch=knobs.batch, seed=knobs.seed)
    for step, batch in enumerate(islice(batches, done, knobs.steps), done + 1):
        torch.manual_seed(knobs.seed * 1_000_003 + step)  # makes a resumed run equal to an uninterrupted one
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, step / WARM_UP_STEPS) * (1 - (step - 1) / knobs.steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=knobs.bfloat16):
            relation, share = model.train()(*store.batch(batch))[1:]
        losses.append(train_step(model, optimizer, batch, relation.float(), share.float()))
        update_average(averaged, model, step=step, max_decay=knobs.longest_average)
        if step % knobs.checkpoint_every == 0 or step == knobs.steps:
            save_state(folder, step=step, model=model, ema=averaged, optimizer=optimizer)
            log.info("step %d loss %.4f %.0f s", step, np.mean(losses), time.monotonic() - started)
            losses = []
        if step % knobs.measure_every == 0 or step == knobs.steps:
            torch.save(averaged.state_dict(), folder / f"{WEIGHTS}.new")
            move_durably(folder / f"{WEIGHTS}.new", folder / WEIGHTS)
            log_figures(averaged, measured_pairs, store)
    return folder


def labelled_pair(pair: Pair) -> RelationPair:
    """Convert a user's label, which only says whether both prompts ask for the same picture."""
    return RelationPair(pair.a, pair.b, "S" if pair.y else "MLD", pair.kind, LABELS, pair.group)


def build_relation_network(reader: TokenStateReader, dropout: float = 0.1) -> RelationNetwork:
    """Build a network whose layers start with the weights of MiniLM."""
    layers = copy.deepcopy(reader.bert.encoder.layer).requires_grad_(True)
    for layer in layers:
        layer.attention.self.dropout = nn.Dropout(0.0)
        layer.attention.output.dropout = SharedDropout(dropout)
        layer.output.dropout = SharedDropout(dropout)
    return RelationNetwork(layers, dropout)


def parameter_groups(model: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Separate the parameters of MiniLM from new ones, which learn faster.

    `peak` is the highest learning rate of a group.
    """
    named = list(model.named_parameters())
    pretrained = [value for name, value in named if name.startswith("layers.")]
    new = [value for name, value in named if not name.startswith("layers.")]
    return [{"params": pretrained, "peak": rate}, {"params": new, "peak": NEW_LAYER_FACTOR * rate}]


def draw_batches(
    pairs: Sequence[RelationPair], tokenizer: Any, *, batch: int, seed: int
) -> Iterator[list[RelationPair]]:
    """Yield batches without end. The pairs in a batch have similar lengths. The same seed gives the same batches."""
    for number in count():
        random = Random(f"{seed}:{number}")
        drawn = draw_pass(pairs, random)
        lengths = count_tokens(drawn, tokenizer)
        batches = []
        pool_size = batch * BATCHES_PER_POOL
        for start in range(0, len(drawn), pool_size):
            for rows in batches_by_length(lengths[start : start + pool_size], batch):
                batches.append([drawn[start + row] for row in rows])
        random.shuffle(batches)
        yield from batches


def count_tokens(pairs: Sequence[RelationPair], tokenizer: Any) -> list[int]:
    """Return the number of tokens in the longer prompt of each pair."""
    longer = [max(pair.a, pair.b, key=len) for pair in pairs]
    return [len(ids) for ids in tokenizer(longer)["input_ids"]]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[RelationPair],
    relation: Tensor,
    share: Tensor,
) -> float:
    """Adjust the weights by what the model predicted for a batch, and return the loss.

    `relation` (pairs, 4) and `share` (pairs, 3) are logits.
    """
    losses = relation_losses(relation, batch) + SHARE_LOSS_WEIGHT * share_losses(share, batch)
    loss: Any = (loss_weights(batch) * losses).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())


def loss_weights(pairs: Sequence[RelationPair]) -> Tensor:
    """Return how much each pair counts in the loss."""
    return torch.tensor([LOSS_WEIGHTS.get(kind_of(pair.source), PUBLIC_LOSS_WEIGHT) for pair in pairs])


def relation_losses(logits: Tensor, pairs: Sequence[RelationPair]) -> Tensor:
    """Compute the loss of each pair: the negative log probability that the relation is one of the possible ones.

    `logits` has the shape (n, 4), the result (n).
    """
    possible = torch.tensor([[relation in pair.possible for relation in RELATIONS] for pair in pairs])
    return -logits.log_softmax(-1).masked_fill(~possible, float("-inf")).logsumexp(-1)


def share_losses(logits: Tensor, pairs: Sequence[RelationPair]) -> Tensor:
    """Compute how wrong the predicted shares are: the mean binary loss of "at least 1", "at least 2", "at least 3".

    `logits` has the shape (n, 3), the result (n). It is 0 for pairs whose share is unknown.
    """
    known = torch.tensor([float(pair.share is not None) for pair in pairs])
    reached = torch.tensor([pair.share or 0 for pair in pairs])[:, None] > torch.arange(SHARES)
    return known * F.binary_cross_entropy_with_logits(logits, reached.float(), reduction="none").mean(-1)


def log_figures(model: RelationNetwork, pairs: Sequence[Pair], store: TokenStateStore) -> None:
    """Log how well the network separates true pairs from near misses, for each kind of pairs."""
    for kind in sorted({kind_of(pair.source) for pair in pairs}):
        of_kind = [pair for pair in pairs if kind_of(pair.source) == kind]
        logits = compute_same_logits(model, of_kind, store)
        measured = figures(logits, [logit > 0 for logit in logits], of_kind)
        log.info("%s: 1%% %.3f  5%% %.3f  auc %.4f", kind, *(measured[name] for name in LOGGED_FIGURES))


@torch.inference_mode()
def compute_same_logits(
    model: RelationNetwork, pairs: Sequence[Pair], store: TokenStateStore, size: int = 64
) -> list[float]:
    """Compute for each pair the log-odds that both prompts ask for the same picture."""
    model.eval()
    logits = [0.0] * len(pairs)
    for rows in batches_by_length([max(len(pair.a), len(pair.b)) for pair in pairs], size):
        batch_logits, _, _ = model(*store.batch([pairs[row] for row in rows]))
        for row, value in zip(rows, batch_logits.tolist(), strict=True):
            logits[row] = value
    return logits


if __name__ == "__main__":
    train(from_arguments(Knobs, __doc__))
