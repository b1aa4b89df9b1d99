"""Calibrate and pack trained judges: `python -m training.judge.judge_packing --runs var/judge/one,var/judge/two`.

Writes an ONNX file for each network, and `judge.json` with their digests, their weights, the calibration and the
operating point. Weights, calibration and point are fitted on pairs that no network was trained on (`--fitted-on`).
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
import torch
from torch import nn

from disk.durable_files import write_durably
from memo.judge.evaluation import figures, threshold
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.learned import CARD, RARE_WORD, Card, LearnedJudge, open_learned
from memo.judge.rules import HINTS
from memo.minilm import DIMENSION, STATE_LAYERS
from memo.onnx_embedder import open_onnx
from training.knobs import from_arguments
from training.pairs.pair_sources import kind_of
from training.pairs.sampling import sample_kinds
from training.quantize import quantize, quantize_per_run

from .calibration import Calibration, JudgedPairs, Requirements, calibrate, cross_fit
from .relation_network import OUTPUTS
from .token_states import TokenStateReader
from .train_judge import CONFIG, WEIGHTS, build_network
from .train_relations import build_relation_network

log = logging.getLogger(__name__)

WIDE_FALSE_HITS = 0.05  # false hits at the wide operating point; pairs refused there need no further network
MAX_LOST = 0.005  # share of the pairs accepted at the wide point that each network may refuse early
HINT_NAMES = (*HINTS, RARE_WORD)
PRECISE_KINDS = ("real",)  # kinds of pairs to which the knob `precision` applies


@dataclass(frozen=True)
class Knobs:
    """Which networks to pack, and which pairs to fit the calibration on."""

    runs: tuple[str, ...] = ("var/judge/one",)
    kept: tuple[str, ...] = ()  # networks that are already in `out`, such as aligning-1.onnx; they come last
    fitted_on: tuple[str, ...] = ("data/reuse/dev.jsonl",)  # files of pairs
    limit_per_kind: int = 2000  # pairs
    false_hits: float = 0.01  # largest share of the near misses of each kind that may be accepted
    precision: float = 0.95  # smallest share of true pairs among the real pairs that are accepted
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
    """Export the networks, calibrate the judge, and return its figures on the pairs of `fitted_on`.

    The figures are cross-fitted (see `cross_fit`), so they are valid for new pairs of the same kinds.
    """
    files = export_networks(knobs) | {name: digest(knobs.out / name) for name in knobs.kept}
    write_card(knobs.out, Card(files, 1.0, 0.0, 0.5, knobs.false_hits))
    judge = open_learned(knobs.out, open_onnx(knobs.text))
    pairs = sample_kinds([pair for path in knobs.fitted_on for pair in read_pairs(Path(path))], knobs.limit_per_kind)
    judged = judge_pairs(judge, pairs)
    required = Requirements(knobs.false_hits, knobs.precision, PRECISE_KINDS)
    fitted = calibrate(judged, required)
    hopeless, certain = decision_bounds(judged, fitted)
    card = Card(
        files,
        fitted.slope,
        fitted.offset,
        fitted.point,
        knobs.false_hits,
        hopeless,
        certain,
        weights=[float(weight) for weight in fitted.weights],
        hints={
            name: float(weight)
            for name, weight in zip(HINT_NAMES, fitted.hints, strict=True)
            if not math.isnan(weight)
        },
    )
    write_card(knobs.out, card)
    scores, fits = cross_fit(judged, required)
    pairs_by_kind = [replace(pair, source=kind_of(pair.source)) for pair in pairs]
    return figures(list(scores), list(fits), pairs_by_kind)


def export_networks(knobs: Knobs) -> dict[str, str]:
    """Export the network of each run, and return the digest of each file."""
    knobs.out.mkdir(parents=True, exist_ok=True)
    files, reader = {}, TokenStateReader()
    for number, run in enumerate(map(Path, knobs.runs), 1):
        config = json.loads((run / CONFIG).read_text())
        is_relation_network = "network" not in config
        model = (
            build_relation_network(reader)
            if is_relation_network
            else build_network(config["network"], config["width"], reader)
        )
        model.load_state_dict(torch.load(run / WEIGHTS, weights_only=True))
        path = knobs.out / f"judge-{number}.onnx"
        export_onnx(model, path, OUTPUTS if is_relation_network else ["logit"])
        (quantize_per_run if is_relation_network else quantize)(path)
        files[path.name] = digest(path)
    return files


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def judge_pairs(judge: LearnedJudge, pairs: Sequence[Pair]) -> JudgedPairs:
    """Run the rules and each network on all pairs."""
    unweighed = replace(judge.card, hopeless=(), certain=(), weights=(), hints=dict.fromkeys(HINT_NAMES, 0.0))
    judges = [LearnedJudge([network], judge.text, unweighed) for network in judge.networks]
    ruled = [judges[0].apply_rules(pair.a, pair.b) for pair in pairs]
    return JudgedPairs(
        logits=np.array([one.batch_logits(ruled) for one in judges]),
        hints=np.array([[name in pair.hints for pair in ruled] for name in HINT_NAMES]),
        labels=np.array([pair.y for pair in pairs]),
        kinds=np.array([kind_of(pair.source) for pair in pairs]),
        groups=np.array([pair.group for pair in pairs]),
        vetoed=np.array([pair.verdict is not None and not pair.verdict.fits for pair in ruled]),
        accepted=np.array([pair.verdict is not None and pair.verdict.fits for pair in ruled]),
    )


def decision_bounds(pairs: JudgedPairs, fitted: Calibration) -> tuple[list[float], list[float]]:
    """Return two lists, `hopeless` and `certain`, with a bound for each network but the last.

    If the mean logit so far is not between the two bounds, the next network is not run. A share of MAX_LOST of the
    pairs accepted at the wide point is below the lower bound. No pair refused at the point is above the upper bound.
    """
    undecided = fitted.apply_vetoes(pairs).undecided()
    sums = np.cumsum(fitted.weights[:, None] * undecided.logits, axis=0)
    hinted = np.nan_to_num(fitted.hints) @ undecided.hints
    means = sums / np.cumsum(fitted.weights)[:, None] + hinted
    wide = threshold(means[-1], undecided.labels, WIDE_FALSE_HITS)
    point = (math.log(fitted.point / (1 - fitted.point)) - fitted.offset) / fitted.slope
    accepted, refused = means[-1] >= min(wide, means[-1].max()), means[-1] < point
    return (
        [float(np.quantile(mean[accepted], MAX_LOST)) for mean in means[:-1]],
        [float(mean[refused].max(initial=mean.min())) for mean in means[:-1]],
    )


def write_card(folder: Path, card: Card) -> None:
    """Write `judge.json`."""
    write_durably(folder / CARD, json.dumps(asdict(card), indent=2) + "\n", mode=0o644)


if __name__ == "__main__":
    print(json.dumps(pack_judge(from_arguments(Knobs, __doc__)), indent=1))
