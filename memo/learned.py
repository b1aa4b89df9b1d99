"""The learned judge: small networks that compare two prompts token by token, on ONNX Runtime, without torch.

MiniLM reads each prompt (`OnnxEmbedder.states`); networks taught by `worker.judge` look in each prompt for what
the other says, and their mean is calibrated to a probability. Rules with a veto come first. Knows no pictures.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadSetup
from .rules import same_words, veto
from .verdict import Verdict, by_rule

States = npt.NDArray[np.float32]
Texts = tuple[str, str]  # remembered, wanted
CARD = "judge.json"
KEPT = 512  # prompts whose states are remembered, about 90 KB each
VETOED = 0.01  # what a veto leaves of a score
AT_ONCE = 64  # pairs through the networks


@dataclass(frozen=True, slots=True)
class Card:
    """What `judge.json` says: files by their sha256, calibration, operating point and the share it was set for."""

    files: Mapping[str, str]
    slope: float
    offset: float
    threshold: float
    false_hits: float

    def probability(self, logit: float) -> float:
        """That the picture of one prompt is right for the other."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.slope * logit + self.offset))))


class LearnedJudge:
    """Calibrated networks behind vetoes; `states` gives of each text (tokens, layers, 384)."""

    def __init__(self, networks: Sequence[Any], states: Callable[[Sequence[str]], list[States]], card: Card) -> None:
        self.networks, self.card = networks, card
        self.name = "learned-" + hashlib.blake2b("".join(card.files.values()).encode(), digest_size=4).hexdigest()
        self.read = states
        self.states = lru_cache(KEPT)(lambda text: states([text])[0])

    def __call__(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """See Judge."""
        settled = {old: verdict for old in remembered if (verdict := by_rule(old, wanted))}
        asked = [old for old in remembered if old not in settled]
        sure = dict(zip(asked, self.probabilities([(old, wanted) for old in asked]), strict=True))
        return [settled.get(old) or self.verdict(old, sure[old]) for old in remembered]

    def verdict(self, old: str, sure: float) -> Verdict:
        """By the operating point, in words."""
        if sure >= self.card.threshold:
            return Verdict(True, f"it says the same as {old!r} ({sure:.1%} sure)", sure, self.card.threshold)
        needed = f"{self.card.threshold:.1%} is needed"
        return Verdict(False, f"{old!r} may show something else ({sure:.1%} sure that it is right, {needed})", sure)

    def probabilities(self, pairs: Sequence[Texts]) -> list[float]:
        """That each pair is of one picture, by the networks alone."""
        return [self.card.probability(logit) for logit in self.logits(pairs, self.states)]

    def logits(self, pairs: Sequence[Texts], states: Callable[[str], States]) -> list[float]:
        """The networks' mean, before calibration."""
        if not pairs:
            return []
        old, new = (pad([states(pair[side]) for pair in pairs]) for side in (0, 1))
        given = {"a": old[0], "a_real": old[1], "b": new[0], "b_real": new[1]}
        outputs = [network.run(None, given)[0] for network in self.networks]
        return [float(value) for value in np.mean(outputs, axis=0)]

    def logits_of_many(self, pairs: Sequence[Texts]) -> list[float]:
        """The same for any number of pairs, in batches of about equal length, each text read once a batch."""
        found = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        for start in range(0, len(order), AT_ONCE):
            rows = order[start : start + AT_ONCE]
            texts = list(dict.fromkeys(text for row in rows for text in pairs[row]))
            known = dict(zip(texts, self.read(texts), strict=True))
            for row, logit in zip(rows, self.logits([pairs[row] for row in rows], known.__getitem__), strict=True):
                found[row] = logit
        return found

    def scores(self, pairs: Sequence[Texts]) -> list[float]:
        """Of many pairs, vetoes included, as the operating point is compared with them."""
        return [
            1.0 if same_words(old, new) else self.card.probability(logit) * (VETOED if veto(old, new) else 1.0)
            for (old, new), logit in zip(pairs, self.logits_of_many(pairs), strict=True)
        ]


def pad(rows: Sequence[States]) -> tuple[States, npt.NDArray[np.bool_]]:
    """(n, tokens, layers, 384) with zeros behind, and which tokens are real (n, tokens)."""
    longest = max(len(row) for row in rows)
    states = np.zeros((len(rows), longest, *rows[0].shape[1:]), np.float32)
    real = np.zeros((len(rows), longest), bool)
    for number, row in enumerate(rows):
        states[number, : len(row)], real[number, : len(row)] = row, True
    return states, real


def open_learned(folder: Path, states: Callable[[Sequence[str]], list[States]]) -> LearnedJudge:
    """The judge kept in a folder; raises BadSetup when a file is missing or altered."""
    import onnxruntime

    card = read_card(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    networks = []
    for name, digest in card.files.items():
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise BadSetup(f"cannot read {folder / name}: {error}") from error
        if (found := hashlib.sha256(data).hexdigest()) != digest:
            raise BadSetup(
                f"{folder / name} is not the network that {CARD} names (sha256 {found}, expected {digest})"
            )
        networks.append(onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]))
    return LearnedJudge(networks, states, card)


def read_card(folder: Path) -> Card:
    """The judge's card; raises BadSetup."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadSetup(f"no judge in {folder}: {error}") from error
