"""Calibrate and pack trained judges: `python -m training.judge.judge_packing --runs var/judge/one var/judge/two`.

Writes one ONNX file for each network, and `judge.json` with their digests, the calibration and the operating point.
Both are fitted on pairs that no network was trained on (`--chosen-by`).
"""

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from disk.durable_files import write_durably
from memo.judge.evaluation import figures, threshold
from memo.judge.labelled_pairs import read_pairs
from memo.judge.learned import CARD, Card, LearnedJudge, open_learned
from memo.minilm import DIMENSION, STATE_LAYERS
from memo.onnx_embedder import open_onnx
from training.knobs import from_arguments
from training.quantize import quantize

from .token_states import TokenStateReader
from .train_judge import CONFIG, WEIGHTS, build_network

log = logging.getLogger(__name__)

Numbers = npt.NDArray[np.floating]

WIDE_FALSE_HITS = 0.05  # false hits at the wide operating point; pairs refused there need no further network
UNREACHABLE = 1e9  # a mean logit that no pair has
MAX_LOST = 0.005  # share of the pairs accepted at the wide point that each network may refuse early


@dataclass(frozen=True)
class Knobs:
    """Which runs to pack, and the pairs that set the operating point."""

    runs: tuple[str, ...] = ("var/judge/one",)
    chosen_by: Path = Path("data/reuse/dev.jsonl")
    false_hits: float = 0.01  # share of the near misses in that file that may pass
    text: Path = Path("var/text")  # the exported text model
    out: Path = Path("memo/judge/weights")


def export_onnx(model: nn.Module, path: Path) -> None:
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
            output_names=["logit"],
            dynamic_axes={"states": texts, "real": texts, "a": pairs, "b": pairs, "logit": pairs},
        )


def pack_judge(knobs: Knobs) -> dict[str, Any]:
    """Export, calibrate and choose the operating point; returns the figures on the pairs of `knobs.chosen_by`."""
    knobs.out.mkdir(parents=True, exist_ok=True)
    files, reader = {}, TokenStateReader()
    for number, run in enumerate(knobs.runs, 1):
        config = json.loads((Path(run) / CONFIG).read_text())
        model = build_network(config["network"], config["width"], reader)
        model.load_state_dict(torch.load(Path(run) / WEIGHTS, weights_only=True))
        path = knobs.out / f"judge-{number}.onnx"
        export_onnx(model, path)
        quantize(path)
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lower, upper = [-UNREACHABLE] * (len(files) - 1), [UNREACHABLE] * (len(files) - 1)
    write_card(knobs.out, Card(files, 1.0, 0.0, 0.5, knobs.false_hits, lower, upper))
    pairs = read_pairs(knobs.chosen_by)
    texts = [(pair.a, pair.b) for pair in pairs]
    labels = [pair.y for pair in pairs]
    judge = open_learned(knobs.out, open_onnx(knobs.text))
    means = running_means(judge, texts)
    slope, offset = calibrate(means[-1], labels)
    calibrated = replace(judge.card, slope=slope, offset=offset)
    scores = LearnedJudge(judge.networks, judge.text, calibrated).scores(texts)
    point = float(threshold(np.array(scores), np.array(labels), knobs.false_hits))
    undecided = [row for row, (old, new) in enumerate(texts) if judge.decide_by_rules(old, new) is None]
    wide = threshold(means[-1], np.array(labels), WIDE_FALSE_HITS)
    hopeless, certain = decision_bounds(means[:, undecided], wide, (math.log(point / (1 - point)) - offset) / slope)
    card = replace(calibrated, threshold=point, hopeless=hopeless, certain=certain)
    write_card(knobs.out, card)
    scores = LearnedJudge(judge.networks, judge.text, card).scores(texts)
    return figures(scores, [score >= point for score in scores], pairs)


def running_means(judge: LearnedJudge, texts: Sequence[tuple[str, str]]) -> Numbers:
    """Mean logits of the first network, the first two, … and all networks: (networks, pairs)."""
    unbounded = replace(judge.card, hopeless=(), certain=())
    each = [LearnedJudge([network], judge.text, unbounded).batch_logits(texts) for network in judge.networks]
    return np.asarray(np.cumsum(each, axis=0) / np.arange(1, len(each) + 1)[:, None])


def decision_bounds(means: Numbers, wide: float, point: float) -> tuple[list[float], list[float]]:
    """(lower, upper): the next network runs only if the mean logit of the networks so far lies between these.

    A share of MAX_LOST of the pairs accepted at the wide point lies below; no pair refused at `point` lies above.
    """
    accepted, refused = means[-1] >= wide, means[-1] < point
    return (
        [float(np.quantile(mean[accepted], MAX_LOST)) for mean in means[:-1]],
        [float(mean[refused].max()) for mean in means[:-1]],
    )


def calibrate(logits: Sequence[float] | Numbers, labels: Sequence[int]) -> tuple[float, float]:
    """(slope, offset) by Platt scaling (Platt 1999): logistic regression of labels on logits, by Newton's method."""
    x, y = np.column_stack([logits, np.ones(len(logits))]), np.asarray(labels, float)
    coefficients = np.array([0.5, 0.0])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-x @ coefficients))
        gradient = x.T @ (y - probability) - 1e-3 * coefficients
        hessian = (x * (probability * (1 - probability))[:, None]).T @ x + 1e-3 * np.eye(2)
        coefficients = coefficients + np.linalg.solve(hessian, gradient)
    return float(coefficients[0]), float(coefficients[1])


def write_card(folder: Path, card: Card) -> None:
    """Write `judge.json`."""
    write_durably(folder / CARD, json.dumps(asdict(card), indent=2) + "\n", mode=0o644)


if __name__ == "__main__":
    print(json.dumps(pack_judge(from_arguments(Knobs, __doc__)), indent=1))
