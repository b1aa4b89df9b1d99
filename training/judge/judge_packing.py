"""Calibrate and pack trained judges: `python -m training.judge.judge_packing --runs var/judge/one,var/judge/two`.

Writes one ONNX file for each network, and `judge.json` with their digests and weights, the calibration and the
operating point, which are fitted on pairs that no network was trained on (`--chosen-by`).
"""

import hashlib
import json
import logging
import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from disk.durable_files import write_durably
from memo.judge.evaluation import figures, threshold
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.learned import CARD, RARE_WORD, Card, LearnedJudge, open_learned
from memo.judge.rules import HINTS, decide_by_rules
from memo.minilm import DIMENSION, STATE_LAYERS
from memo.onnx_embedder import open_onnx
from training.knobs import from_arguments
from training.quantize import quantize, quantize_per_run

from .calibration import Calibration, Measured, calibrate, cross_fit
from .token_states import TokenStateReader
from .train_judge import CONFIG, WEIGHTS, build_network
from .train_relations import build_relation_network, kind_of

log = logging.getLogger(__name__)

WIDE_FALSE_HITS = 0.05  # false hits at the wide operating point; pairs refused there need no further network
HINT_NAMES = (*HINTS, RARE_WORD)
PRECISE_KINDS = ("real",)  # kinds of pairs for which `precision` holds
MAX_LOST = 0.005  # share of the pairs accepted at the wide point that each network may refuse early


@dataclass(frozen=True)
class Knobs:
    """Which runs to pack, and the pairs that set weights and operating point."""

    runs: tuple[str, ...] = ("var/judge/one",)
    kept: tuple[str, ...] = ()  # networks in `out`, for example judge-1.onnx, that come before those of the runs
    chosen_by: tuple[str, ...] = ("data/reuse/dev.jsonl",)  # files of pairs
    most: int = 2000  # pairs of each kind to use
    false_hits: float = 0.01  # share of the near misses of each kind that may pass
    precision: float = 0.95  # least share of true pairs among the real pairs that pass
    text: Path = Path("var/text")  # the exported text model
    out: Path = Path("memo/judge/weights")


def export_onnx(model: nn.Module, path: Path, outputs: Sequence[str]) -> None:
    """Trace a network with dynamic numbers of texts, tokens and pairs, and write it to `path`."""
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel has no ONNX form
    states, lengths = torch.randn(3, 9, len(STATE_LAYERS), DIMENSION), torch.tensor([[7], [9], [6]])
    inputs = (states, torch.arange(9) < lengths, torch.tensor([0, 1]), torch.tensor([1, 2]))
    texts, pairs = {0: "texts", 1: "tokens"}, {0: "pairs"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the tracing exporter, and shapes that stay constant
        torch.onnx.export(
            model.eval(),
            inputs,
            str(path),
            dynamo=False,
            opset_version=18,
            input_names=["states", "real", "a", "b"],
            output_names=list(outputs),
            dynamic_axes={"states": texts, "real": texts, "a": pairs, "b": pairs, **dict.fromkeys(outputs, pairs)},
        )


def pack_judge(knobs: Knobs) -> dict[str, Any]:
    """Export, calibrate and choose the operating point.

    Returns the figures on the pairs of `chosen_by`: each half of them is measured with what was fitted on the other.
    """
    files = {name: digest(knobs.out / name) for name in knobs.kept} | export_networks(knobs)
    even = [1 / len(files)] * len(files)
    write_card(knobs.out, Card(files, 1.0, 0.0, 0.5, knobs.false_hits, weights=even))
    judge = open_learned(knobs.out, open_onnx(knobs.text))
    pairs = sample_kinds([pair for path in knobs.chosen_by for pair in read_pairs(Path(path))], knobs.most)
    measured = measure(judge, pairs)
    options = knobs.false_hits, knobs.precision, PRECISE_KINDS
    fitted = calibrate(measured, *options)
    lower, upper = decision_bounds(measured, fitted)
    card = Card(
        files,
        fitted.slope,
        fitted.offset,
        fitted.threshold,
        knobs.false_hits,
        lower,
        upper,
        [float(weight) for weight in fitted.weights],
        {name: float(weight) for name, weight in zip(HINT_NAMES, fitted.hints, strict=True)},
    )
    write_card(knobs.out, card)
    scores, fits = cross_fit(measured, *options)
    by_kind = [replace(pair, source=str(kind)) for pair, kind in zip(pairs, measured.kinds, strict=True)]
    return figures(list(scores), list(fits), by_kind)


def export_networks(knobs: Knobs) -> dict[str, str]:
    """Write the network of each run; returns the digest of each file."""
    knobs.out.mkdir(parents=True, exist_ok=True)
    files, reader = {}, TokenStateReader()
    for number, run in enumerate(knobs.runs, len(knobs.kept) + 1):
        config = json.loads((Path(run) / CONFIG).read_text())
        path = knobs.out / f"judge-{number}.onnx"
        weights = torch.load(Path(run) / WEIGHTS, weights_only=True)
        if "network" in config:
            model = build_network(config["network"], config["width"], reader)
            model.load_state_dict(weights)
            export_onnx(model, path, ["logit"])
            quantize(path)
        else:
            model = build_relation_network(reader)
            model.load_state_dict(weights)
            export_onnx(model, path, ["logit", "relation", "share"])
            quantize_per_run(path)
        files[path.name] = digest(path)
    return files


def digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sample_kinds(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Up to `most` pairs of each kind, always the same ones."""
    kinds: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(f"{pair.a}|{pair.b}".encode()).digest()):
        if len(kinds[kind_of(pair.source)]) < most:
            kinds[kind_of(pair.source)].append(pair)
    return [pair for kind in sorted(kinds) for pair in kinds[kind]]


def measure(judge: LearnedJudge, pairs: Sequence[Pair]) -> Measured:
    """What each network and the rules say of these pairs."""
    texts = [judge.correct(pair.a, pair.b) for pair in pairs]
    verdicts = [decide_by_rules(old, new) for old, new in texts]
    hints = [judge.find_hints(old, new).hints for old, new in texts]
    alone = replace(judge.card, hopeless=(), certain=(), weights=(1.0,), hints=dict.fromkeys(HINT_NAMES, 0.0))
    logits = [LearnedJudge([network], judge.text, alone).batch_logits(texts) for network in judge.networks]
    return Measured(
        np.array(logits),
        np.array([[name in found for found in hints] for name in HINT_NAMES]),
        np.array([pair.y for pair in pairs]),
        np.array([kind_of(pair.source) for pair in pairs]),
        np.array([pair.group for pair in pairs]),
        np.array([verdict is not None and not verdict.fits for verdict in verdicts]),
        np.array([verdict is not None and verdict.fits for verdict in verdicts]),
    )


def decision_bounds(measured: Measured, fitted: Calibration) -> tuple[list[float], list[float]]:
    """(lower, upper): the next network runs only if the mean logit of the networks so far lies between these.

    A share of MAX_LOST of the pairs accepted at the wide point lies below; no pair refused at the point lies above.
    """
    undecided = measured.part(~(measured.vetoed | measured.accepted))
    hinted = fitted.hints @ undecided.hints
    sums = np.cumsum(fitted.weights[:, None] * undecided.logits, axis=0)
    means = sums / np.cumsum(fitted.weights)[:, None] + hinted
    wide = threshold(means[-1], undecided.labels, WIDE_FALSE_HITS)
    point = (math.log(fitted.threshold / (1 - fitted.threshold)) - fitted.offset) / fitted.slope
    accepted, refused = means[-1] >= wide, means[-1] < point
    return (
        [
            float(np.quantile(mean[accepted], MAX_LOST)) if accepted.any() else float(mean.min())
            for mean in means[:-1]
        ],
        [float(mean[refused].max(initial=mean.min())) for mean in means[:-1]],
    )


def write_card(folder: Path, card: Card) -> None:
    """Write `judge.json`."""
    write_durably(folder / CARD, json.dumps(asdict(card), indent=2) + "\n", mode=0o644)


if __name__ == "__main__":
    print(json.dumps(pack_judge(from_arguments(Knobs, __doc__)), indent=1))
