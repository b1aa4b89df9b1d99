"""Any cross-encoder of the Hugging Face hub as a judge; loads torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memo.errors import BadSetup
from memo.picture import SHARED

from .port import Verdict
from .rules import decide_by_rules

THRESHOLD = 0.9  # the lowest confidence that fits; the lower one of both directions counts


class CrossEncoderJudge:
    """Takes a model's single score for a pair, or its probability of entailment, in the lower direction.

    `model.predict` must return logits.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, f"cross-encoder:{name}"

    def __call__(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[Verdict]:
        """See Judge."""
        confidences = self.confidences(wanted, remembered)
        pairs = zip(remembered, confidences, strict=True)
        return [self.verdict(wanted, old, confidence) for old, confidence in pairs]

    def confidences(self, wanted: str, remembered: Sequence[str]) -> list[float]:
        """The model's confidence in each remembered prompt, 0 to 1."""
        if not remembered:
            return []
        pairs = [(old, wanted) for old in remembered] + [(wanted, old) for old in remembered]
        scores = np.asarray(self.model.predict(pairs, show_progress_bar=False), np.float64)
        if scores.ndim == 2:
            scores = softmax(scores)[:, self.entailment_column()]
        else:
            scores = 1 / (1 + np.exp(-scores))
        return [float(value) for value in scores.reshape(2, -1).min(0)]

    def entailment_column(self) -> int:
        """The column of the label "entailment"; raises BadSetup for a model without one."""
        labels = {str(label).lower(): int(column) for column, label in self.model.config.id2label.items()}
        if "entailment" not in labels:
            raise BadSetup(
                f"{self.name} has the labels {', '.join(labels)}; it needs one score, or a label 'entailment'"
            )
        return labels["entailment"]

    def verdict(self, wanted: str, old: str, confidence: float) -> Verdict:
        """The verdict on one remembered prompt; rules come first."""
        reason = f"{self.name} is {confidence:.1%} sure that {old!r} means the same; {THRESHOLD:.0%} is needed"
        by_model = Verdict(confidence >= THRESHOLD, reason, confidence, THRESHOLD)
        return decide_by_rules(old, wanted) or by_model


def softmax(scores: Any) -> Any:
    """The softmax over the last axis."""
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def open_cross_encoder(hub_id: str) -> CrossEncoderJudge:
    """The judge for a model on the hub or in a local folder; raises BadSetup."""
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
        judge.entailment_column()
    return judge
