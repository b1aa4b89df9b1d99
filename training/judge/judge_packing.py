"""Calibrate taught judges and pack them: `python -m training.judge.judge_packing --runs var/judge/one var/judge/two`.

Writes one ONNX file a network and `judge.json` with digests, calibration and operating point, both chosen on pairs
that no network was taught (`--chosen-by`).
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

from memo.judge.evaluation import figures, threshold
from memo.judge.labelled_pairs import read_pairs
from memo.judge.learned import CARD, Card, LearnedJudge, open_learned
from memo.minilm import DIMENSION, STATE_LAYERS
from memo.onnx_embedder import open_onnx
from training.knobs import from_arguments
from training.quantize import quantize

from .token_states import Reader
from .train_judge import CONFIG, WEIGHTS, build

log = logging.getLogger(__name__)

PainterOptions = npt.NDArray[np.floating]

WIDE = 0.05  # the share of near misses that passes a point beyond which no network need be asked
ALL = 1e9  # a mean that no pair reaches
LOST = 0.005  # the share of pairs taken there that each network may keep from the next


@dataclass(frozen=True)
class Knobs:
    """What to pack."""

    runs: tuple[str, ...] = ("var/judge/one",)
    chosen_by: Path = Path("data/reuse/dev.jsonl")
    false_hits: float = 0.01  # the share of near misses in that file that may pass
    text: Path = Path("var/text")  # the exported text model
    out: Path = Path("memo/judge/weights")


def export(model: nn.Module, path: Path) -> None:
    """Trace with any number of texts, of tokens and of pairs."""
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel has no ONNX form
    states, lengths = torch.randn(3, 9, len(STATE_LAYERS), DIMENSION), torch.tensor([[7], [9], [6]])
    given = (states, torch.arange(9) < lengths, torch.tensor([0, 1]), torch.tensor([1, 2]))
    texts, pairs = {0: "texts", 1: "tokens"}, {0: "pairs"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its tracing exporter old, and warns of shapes that stay fixed
        torch.onnx.export(
            model.eval(),
            given,
            str(path),
            dynamo=False,
            opset_version=18,
            input_names=["states", "real", "a", "b"],
            output_names=["logit"],
            dynamic_axes={"states": texts, "real": texts, "a": pairs, "b": pairs, "logit": pairs},
        )


def ship(knobs: Knobs) -> dict[str, Any]:
    """Export, calibrate, choose the point; returns the figures on the pairs that it was chosen by."""
    knobs.out.mkdir(parents=True, exist_ok=True)
    files, reader = {}, Reader()
    for number, run in enumerate(knobs.runs, 1):
        config = json.loads((Path(run) / CONFIG).read_text())
        model = build(config["network"], config["width"], reader)
        model.load_state_dict(torch.load(Path(run) / WEIGHTS, weights_only=True))
        path = knobs.out / f"judge-{number}.onnx"
        export(model, path)
        quantize(path)
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    never = [ALL] * (len(files) - 1)
    write(knobs.out, Card(files, 1.0, 0.0, 0.5, knobs.false_hits, [-mean for mean in never], never))
    pairs = read_pairs(knobs.chosen_by)
    texts = [(one.a, one.b) for one in pairs]
    labels = [one.y for one in pairs]
    judge = open_learned(knobs.out, open_onnx(knobs.text))
    means = running_means(judge, texts)
    slope, offset = calibrate(means[-1], labels)
    every = replace(judge.card, slope=slope, offset=offset)
    scores = LearnedJudge(judge.networks, judge.text, every).scores(texts)
    point = float(threshold(np.array(scores), np.array(labels), knobs.false_hits))
    free = [row for row, (old, new) in enumerate(texts) if judge.decide_by_rules(old, new) is None]
    wide = threshold(means[-1], np.array(labels), WIDE)
    hopeless, certain = bounds(means[:, free], wide, (math.log(point / (1 - point)) - offset) / slope)
    card = replace(every, threshold=point, hopeless=hopeless, certain=certain)
    write(knobs.out, card)
    scores = LearnedJudge(judge.networks, judge.text, card).scores(texts)
    return figures(scores, [score >= point for score in scores], labels, [one.kind for one in pairs])


def running_means(judge: LearnedJudge, texts: Sequence[tuple[str, str]]) -> PainterOptions:
    """The mean of the first one, two … all networks for each pair: (networks, pairs)."""
    alone = replace(judge.card, hopeless=(), certain=())
    each = [LearnedJudge([network], judge.text, alone).batch_logits(texts) for network in judge.networks]
    return np.asarray(np.cumsum(each, axis=0) / np.arange(1, len(each) + 1)[:, None])


def bounds(means: PainterOptions, wide: float, point: float) -> tuple[list[float], list[float]]:
    """Between which means of the first one, two … networks the next one has something to say.

    Below are few of a thousand pairs that are taken at a wide point; above, no pair is refused at the point.
    """
    taken, refused = means[-1] >= wide, means[-1] < point
    return (
        [float(np.quantile(mean[taken], LOST)) for mean in means[:-1]],
        [float(mean[refused].max()) for mean in means[:-1]],
    )


def calibrate(logits: Sequence[float] | PainterOptions, labels: Sequence[int]) -> tuple[float, float]:
    """Slope and offset after Platt (1999): logistic regression of the labels on the logits, by Newton's method."""
    x, y = np.column_stack([logits, np.ones(len(logits))]), np.asarray(labels, float)
    line = np.array([0.5, 0.0])
    for _ in range(50):
        sure = 1 / (1 + np.exp(-x @ line))
        slope = x.T @ (y - sure) - 1e-3 * line
        bend = (x * (sure * (1 - sure))[:, None]).T @ x + 1e-3 * np.eye(2)
        line = line + np.linalg.solve(bend, slope)
    return float(line[0]), float(line[1])


def write(folder: Path, card: Card) -> None:
    """As `judge.json`."""
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n")


if __name__ == "__main__":
    print(json.dumps(ship(from_arguments(Knobs, __doc__)), indent=1))
