"""The learned judge: small networks that compare two prompts token by token, on ONNX Runtime, without torch.

MiniLM reads each prompt (`OnnxEmbedder`); networks taught by `training.judge` look in each prompt for what
the other says, and their mean is calibrated to a probability. Rules with a veto come first. Knows no pictures.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memo.embed import OnnxEmbedder
from memo.errors import BadSetup

from .rare_words import missing
from .spelling import mended
from .verdict import Verdict, by_rule

States = npt.NDArray[np.float32]
Texts = tuple[str, str]  # remembered, wanted
ReadStates = Callable[[str], npt.NDArray[np.floating]]  # a text's states
CARD = "judge.json"
VETOED = 0.01  # what a veto leaves of a score
AT_FIRST = 2  # of the nearest pairs, which are judged before the others: one of them mostly fits, if any does
AT_ONCE = 64  # pairs through the networks


@dataclass(frozen=True, slots=True)
class Card:
    """What `judge.json` says: files by their sha256, calibration, operating point and the share it was set for."""

    files: Mapping[str, str]
    slope: float
    offset: float
    threshold: float
    false_hits: float
    hopeless: Sequence[float] = ()  # means of the first one, two … networks: below, the next one is not asked,
    certain: Sequence[float] = ()  # nor above these

    def probability(self, logit: float) -> float:
        """That the picture of one prompt is right for the other."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.slope * logit + self.offset))))


class LearnedJudge:
    """Calibrated networks behind vetoes, cheapest first, over the states of a text model."""

    def __init__(self, networks: Sequence[Any], text: OnnxEmbedder, card: Card) -> None:
        self.networks, self.text, self.card = networks, text, card
        self.name = "learned-" + hashlib.blake2b("".join(card.files.values()).encode(), digest_size=4).hexdigest()

    def __call__(self, wanted: str, remembered: Sequence[str]) -> list[Verdict]:
        """See Judge."""
        spelt = {old: self.spelt(old, wanted) for old in remembered}
        settled = {old: verdict for old in remembered if (verdict := self.by_rule(*spelt[old]))}
        if any(verdict.fits for verdict in settled.values()):
            return [settled.get(old) or passed_over(old) for old in remembered]
        open_ones = [old for old in remembered if old not in settled]
        sure = dict(zip(open_ones, self.until_one_fits([spelt[old] for old in open_ones]), strict=True))
        return [settled.get(old) or self.verdict(old, sure[old]) for old in remembered]

    def spelt(self, old: str, wanted: str) -> Texts:
        """Both without slips of the finger, as far as one tells what the other means."""
        return mended(old, wanted, self.text.pieces), mended(wanted, old, self.text.pieces)

    def by_rule(self, old: str, wanted: str) -> Verdict | None:
        """What needs no network; words that the text model does not know whole must be in both."""
        if (verdict := by_rule(old, wanted)) is not None:
            return verdict
        reason = missing(old, wanted, self.text.pieces)
        return Verdict(False, f"not {old!r}: {reason}", 0.0) if reason else None

    def until_one_fits(self, pairs: Sequence[Texts]) -> list[float | None]:
        """Probabilities of pairs, the nearest first: of the others only when none of the nearest fits.

        None for a pair that was not looked at any closer.
        """
        found = self.surest(pairs[:AT_FIRST])
        if any(sure is not None and sure >= self.card.threshold for sure in found):
            return [*found, *(None for _ in pairs[AT_FIRST:])]
        return [*found, *self.surest(pairs[AT_FIRST:])]

    def surest(self, pairs: Sequence[Texts]) -> list[float | None]:
        """Probabilities; all networks are asked about the most hopeful pair, about others only if it does not fit."""
        if not pairs:
            return []
        first = asked(self.networks[0], fed(pairs, self.text.states_of))
        best = int(first.argmax())
        found: list[float | None] = [None] * len(pairs)
        sure = self.card.probability(self.mean(first, pairs, [best], self.text.states_of)[best])
        if sure < self.card.threshold:
            others = [row for row in range(len(pairs)) if row != best]
            means = self.mean(first, pairs, others, self.text.states_of)
            found = [self.card.probability(logit) for logit in means]
        found[best] = sure
        return found

    def verdict(self, old: str, sure: float | None) -> Verdict:
        """By the operating point, in words."""
        if sure is None:
            return passed_over(old)
        if sure >= self.card.threshold:
            return Verdict(True, f"it says the same as {old!r} ({sure:.1%} sure)", sure, self.card.threshold)
        needed = f"{self.card.threshold:.1%} is needed"
        return Verdict(False, f"{old!r} may show something else ({sure:.1%} sure that it is right, {needed})", sure)

    def probabilities(self, pairs: Sequence[Texts]) -> list[float]:
        """That each pair is of one picture, by the networks alone."""
        return [self.card.probability(logit) for logit in self.logits(pairs, self.text.states_of)]

    def logits(self, pairs: Sequence[Texts], states: ReadStates) -> list[float]:
        """The networks' mean, before calibration, of those that were asked."""
        if not pairs:
            return []
        first = asked(self.networks[0], fed(pairs, states))
        return [float(value) for value in self.mean(first, pairs, range(len(pairs)), states)]

    def mean(self, first: States, pairs: Sequence[Texts], rows: Sequence[int], states: ReadStates) -> States:
        """The first network's logits (n), for some rows the mean of all networks in their place.

        One after another is asked, and no more about a pair as soon as the mean so far is hopeless or certain.
        """
        found, card = first.copy(), self.card
        following = zip(self.networks[1:], card.hopeless, card.certain, strict=True)
        for count, (network, hopeless, certain) in enumerate(following, 2):
            rows = [row for row in rows if hopeless <= found[row] <= certain]
            if not rows:
                break
            found[rows] += (asked(network, fed([pairs[row] for row in rows], states)) - found[rows]) / count
        return found

    def logits_of_many(self, pairs: Sequence[Texts]) -> list[float]:
        """The same for any number of pairs, in batches of about equal length, each text read once a batch."""
        found = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        for start in range(0, len(order), AT_ONCE):
            rows = order[start : start + AT_ONCE]
            texts = list(dict.fromkeys(text for row in rows for text in pairs[row]))
            known = dict(zip(texts, self.text.states(texts), strict=True))
            for row, logit in zip(rows, self.logits([pairs[row] for row in rows], known.__getitem__), strict=True):
                found[row] = logit
        return found

    def scores(self, pairs: Sequence[Texts]) -> list[float]:
        """Of many pairs, vetoes included, as the operating point is compared with them."""
        pairs = [self.spelt(old, new) for old, new in pairs]
        rules = [self.by_rule(old, new) for old, new in pairs]
        return [
            rule.confidence or self.card.probability(logit) * VETOED if rule else self.card.probability(logit)
            for rule, logit in zip(rules, self.logits_of_many(pairs), strict=True)
        ]


def passed_over(old: str) -> Verdict:
    """Of a prompt that need not be judged, since a surer one fits."""
    return Verdict(False, f"{old!r} was not looked at: another fits", 0.0)


def asked(network: Any, given: Mapping[str, Any]) -> States:
    """One network's logits (n)."""
    logits: States = network.run(None, given)[0]
    return logits.copy()


def fed(pairs: Sequence[Texts], states: ReadStates) -> dict[str, Any]:
    """What a network takes of some pairs: each text's states once, padded, and rows of both sides (n).

    States (texts, tokens, layers, 384) have zeros behind; `real` (texts, tokens) says which tokens are real.
    """
    row_of = {text: row for row, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    found = [states(text) for text in row_of]
    longest = max(map(len, found))
    padded = np.zeros((len(found), longest, *found[0].shape[1:]), np.float32)
    real = np.zeros((len(found), longest), bool)
    for row, tokens in enumerate(found):
        padded[row, : len(tokens)], real[row, : len(tokens)] = tokens, True
    a, b = (np.array([row_of[pair[side]] for pair in pairs], np.int64) for side in (0, 1))
    return {"states": padded, "real": real, "a": a, "b": b}


def open_learned(folder: Path, text: OnnxEmbedder) -> LearnedJudge:
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
    return LearnedJudge(networks, text, card)


def read_card(folder: Path) -> Card:
    """The judge's card; raises BadSetup."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadSetup(f"no judge in {folder}: {error}") from error
