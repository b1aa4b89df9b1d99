"""Any cross-encoder of the hub as a judge; loads torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memo.errors import BadSetup

from .verdict import Verdict, by_rule

WANTED = 0.9  # of 1, both ways round


class CrossEncoderJudge:
    """One score for a pair, or the entailment of three labels; the lower of both directions counts.

    `model.predict` gives logits.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, f"cross-encoder:{name}"

    def __call__(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """See Judge."""
        return [
            self.verdict(wanted, old, sure)
            for old, sure in zip(remembered, self.confidence(wanted, remembered), strict=True)
        ]

    def confidence(self, wanted: str, remembered: Sequence[str]) -> list[float]:
        """How sure the model is of each pair."""
        if not remembered:
            return []
        pairs = [(old, wanted) for old in remembered] + [(wanted, old) for old in remembered]
        scores = np.asarray(self.model.predict(pairs, show_progress_bar=False), np.float64)
        if scores.ndim == 2:
            scores = softmax(scores)[:, self.entailment()]
        else:
            scores = 1 / (1 + np.exp(-scores))
        return [float(value) for value in scores.reshape(2, -1).min(0)]

    def entailment(self) -> int:
        """The row of the label that says "follows"; raises BadSetup for a model without one."""
        labels = {str(label).lower(): int(row) for row, label in self.model.config.id2label.items()}
        if "entailment" not in labels:
            raise BadSetup(
                f"{self.name} has the labels {', '.join(labels)}; want one score, or one called entailment"
            )
        return labels["entailment"]

    def verdict(self, wanted: str, old: str, sure: float) -> Verdict:
        """On one remembered prompt."""
        said = f"{self.name} is {sure:.1%} sure of {old!r}; {WANTED:.0%} is needed"
        return by_rule(old, wanted) or Verdict(sure >= WANTED, said, sure, WANTED)


def softmax(scores: Any) -> Any:
    """Over the last axis."""
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def open_cross_encoder(hub_id: str) -> CrossEncoderJudge:
    """A model of the hub, or of a local folder; raises BadSetup."""
    try:
        from sentence_transformers import CrossEncoder
        from torch.nn import Identity
    except ImportError as error:
        raise BadSetup(f"the judge cross-encoder:{hub_id} needs torch: pip install 'memoaized[gpu]'") from error
    try:
        model = CrossEncoder(hub_id, device="cpu", trust_remote_code=False, activation_fn=Identity())
    except (OSError, ValueError) as error:
        raise BadSetup(f"the cross-encoder {hub_id!r} cannot be loaded: {error}") from error
    judge = CrossEncoderJudge(model, hub_id)
    if model.config.num_labels > 1:
        judge.entailment()
    return judge
