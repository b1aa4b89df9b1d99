"""The learned judge: small networks that compare two prompts token by token, on ONNX Runtime, without torch.

Rules come first and may veto. Then MiniLM reads each prompt (`OnnxEmbedder`), and networks that `training.judge`
trained look in each prompt for what the other one says. The mean of their outputs, lowered by what the rules hint at,
is calibrated to a probability.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memo.errors import BadSetup
from memo.onnx_embedder import OnnxEmbedder
from memo.picture import SHARED

from .port import Verdict
from .rules import decide_by_rules, find_hints
from .unknown_words import correct_typos, find_rare_word_conflict
from .words import plain_text, spell_numbers

Floats = npt.NDArray[np.float32]
PromptPair = tuple[str, str]  # remembered, wanted
ReadStates = Callable[[str], npt.NDArray[np.floating]]  # a text → its states (tokens, layers, 384)
CARD = "judge.json"
VETO_FACTOR = 0.01  # by which a veto multiplies a score
CACHED_PAIRS = 64  # whose logit and share are cached, because memory asks for both, one after the other
FIRST_CANDIDATES = 2  # nearest prompts that are judged before the others: if any fits, it is usually one of them
BATCH_SIZE = 64  # pairs in one run of a network
SHARE = "share"  # name of the output with the logits of a share of at least 1, 2 and 3
RARE_WORD = "rare word"  # name of the hint that only one prompt has a rare word


@dataclass(frozen=True, slots=True)
class Card:
    """The content of `judge.json`: the networks' files by sha256, calibration and operating point.

    `false_hits` is the share of false hits for which `threshold` was chosen. If the mean of the first one, two, …
    networks is below the respective entry of `hopeless` or above that of `certain`, the next network is not run.
    `weights` are the weights of the networks in the mean; if empty, all count the same. `hints` is what each hint of
    the rules adds to the logit, a negative number. A hint that is not listed is a veto.
    """

    files: Mapping[str, str]
    slope: float
    offset: float
    threshold: float
    false_hits: float
    hopeless: Sequence[float] = ()
    certain: Sequence[float] = ()
    weights: Sequence[float] = ()
    hints: Mapping[str, float] = field(default_factory=dict)

    def probability(self, logit: float) -> float:
        """The calibrated probability that the picture of one prompt is right for the other."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.slope * logit + self.offset))))


@dataclass(frozen=True, slots=True)
class RuledPair:
    """A corrected pair and what the rules say about it."""

    texts: PromptPair
    verdict: Verdict | None  # None if the rules leave the decision to the networks
    hints: Mapping[str, str]  # reasons against the pair that are not certain, by the name of the rule


class LearnedJudge:
    """Rules first, then calibrated networks, cheapest first, over the token states of a text model."""

    def __init__(self, networks: Sequence[Any], text: OnnxEmbedder, card: Card) -> None:
        self.networks, self.text, self.card = networks, text, card
        self.share_network = next((network for network in networks if SHARE in output_names(network)), None)
        self.logit_and_share = lru_cache(CACHED_PAIRS)(self.compute_logit_and_share)
        self.name = "learned-" + hashlib.blake2b("".join(card.files.values()).encode(), digest_size=4).hexdigest()

    def __call__(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[Verdict]:
        """See Judge."""
        ruled = {old: self.apply_rules(old, wanted) for old in remembered}
        verdicts = {old: pair.verdict for old, pair in ruled.items() if pair.verdict}
        if any(verdict.fits for verdict in verdicts.values()):
            return [verdicts.get(old) or not_judged(old) for old in remembered]
        undecided = {old: pair for old, pair in ruled.items() if not pair.verdict}
        confidences = self.judge_until_one_fits(list(undecided.values()), scope)
        for (old, pair), confidence in zip(undecided.items(), confidences, strict=True):
            verdicts[old] = self.verdict(old, pair, confidence)
        return [verdicts[old] for old in remembered]

    def apply_rules(self, old: str, wanted: str) -> RuledPair:
        """Correct a pair and apply all rules to it."""
        old, wanted = self.correct(old, wanted)
        if verdict := decide_by_rules(old, wanted):
            return RuledPair((old, wanted), verdict, {})
        hints = find_hints(old, wanted)
        if reason := find_rare_word_conflict(old, wanted, self.text.count_tokens):
            hints[RARE_WORD] = reason
        vetoes = (reason for name, reason in hints.items() if name not in self.card.hints)
        if veto := next(vetoes, None):
            return RuledPair((old, wanted), Verdict(False, f"the remembered prompt {old!r} {veto}", 0.0), {})
        return RuledPair((old, wanted), None, hints)

    @property
    def can_tell_shares(self) -> bool:
        """See SharesJudge."""
        return self.share_network is not None

    def shares(self, wanted: str, remembered: Sequence[str], scope: str = SHARED) -> list[float]:
        """See SharesJudge. The rules have no say: they know whether prompts differ, not by how much."""
        return [self.logit_and_share(self.share_network, self.correct(old, wanted), scope)[1] for old in remembered]

    def correct(self, old: str, wanted: str) -> PromptPair:
        """Both prompts in plain letters, without emphasis, their numbers written alike, without obvious typos."""
        old, wanted = plain_text(old), plain_text(wanted)
        old, wanted = spell_numbers(old, wanted), spell_numbers(wanted, old)
        return correct_typos(old, wanted, self.text.count_tokens), correct_typos(wanted, old, self.text.count_tokens)

    def run_network(self, network: Any, pairs: Sequence[RuledPair], scope: str) -> Floats:
        """Return the logits (pairs,) of one network, lowered by the hints."""
        texts = [pair.texts for pair in pairs]
        if SHARE in output_names(network):
            logits = np.array([self.logit_and_share(network, each, scope)[0] for each in texts], np.float32)
        else:
            [logits] = network.run(None, network_inputs(texts, partial(self.text.states_of, scope=scope)))
        hints = [sum(self.card.hints[name] for name in pair.hints) for pair in pairs]
        return logits + np.asarray(hints, np.float32)

    def compute_logit_and_share(self, network: Any, texts: PromptPair, scope: str) -> tuple[float, float]:
        """The logit and the share of one pair, by a network that tells both; `logit_and_share` caches them.

        The results of a network that `quantize_per_run` has quantized, as these are, depend on the other pairs in the
        same run. So it runs on one pair at a time, and a pair always has the same results.
        """
        inputs = network_inputs([texts], partial(self.text.states_of, scope=scope))
        logits, share_logits = network.run([output_names(network)[0], SHARE], inputs)
        return float(logits[0]), float((1 / (1 + np.exp(-share_logits[0].astype(float)))).sum())

    def judge_until_one_fits(self, pairs: Sequence[RuledPair], scope: str) -> list[float | None]:
        """The probability of each pair, nearest first; None for pairs that were skipped.

        The pairs after the first few are judged only if none of the first fits.
        """
        confidences = self.judge_most_hopeful(pairs[:FIRST_CANDIDATES], scope)
        if any(confidence is not None and confidence >= self.card.threshold for confidence in confidences):
            return [*confidences, *(None for _ in pairs[FIRST_CANDIDATES:])]
        return [*confidences, *self.judge_most_hopeful(pairs[FIRST_CANDIDATES:], scope)]

    def judge_most_hopeful(self, pairs: Sequence[RuledPair], scope: str) -> list[float | None]:
        """The probability of the pair that the first network prefers, and of all others if that one does not fit.

        None stands for pairs that were skipped.
        """
        if not pairs:
            return []
        first_logits = self.run_network(self.networks[0], pairs, scope)
        best = int(first_logits.argmax())
        confidences: list[float | None] = [None] * len(pairs)
        confidence = self.card.probability(self.mean(first_logits, pairs, [best], scope)[best])
        if confidence < self.card.threshold:
            others = [row for row in range(len(pairs)) if row != best]
            means = self.mean(first_logits, pairs, others, scope)
            confidences = [self.card.probability(logit) for logit in means]
        confidences[best] = confidence
        return confidences

    def verdict(self, old: str, pair: RuledPair, confidence: float | None) -> Verdict:
        """The decision at the operating point, with its reason."""
        if confidence is None:
            return not_judged(old)
        threshold = self.card.threshold
        if confidence >= threshold:
            reason = f"the remembered prompt {old!r} means the same ({confidence:.1%} sure)"
            return Verdict(True, reason, confidence, threshold)
        doubt = f"{confidence:.1%} sure that it means the same, {threshold:.1%} needed"
        hint = next(iter(pair.hints.values()), "may mean something else")
        return Verdict(False, f"the remembered prompt {old!r} {hint} ({doubt})", confidence)

    def logits(self, pairs: Sequence[RuledPair], scope: str) -> list[float]:
        """The mean logit of the networks that were run on each pair, before calibration."""
        if not pairs:
            return []
        first_logits = self.run_network(self.networks[0], pairs, scope)
        return [float(value) for value in self.mean(first_logits, pairs, range(len(pairs)), scope)]

    def mean(self, first_logits: Floats, pairs: Sequence[RuledPair], rows: Sequence[int], scope: str) -> Floats:
        """The first network's logits (pairs), replaced by the mean of all networks in the given rows.

        The networks run one after another, and skip a pair as soon as its mean so far is hopeless or certain.
        """
        means, card = first_logits.copy(), self.card
        following = zip(self.networks[1:], self.parts_of_mean(), card.hopeless, card.certain, strict=True)
        for network, part, hopeless, certain in following:
            rows = [row for row in rows if hopeless <= means[row] <= certain]
            if not rows:
                break
            logits = self.run_network(network, [pairs[row] for row in rows], scope)
            means[rows] += (logits - means[rows]) * part
        return means

    def parts_of_mean(self) -> list[float]:
        """Return how much the second, third, … network counts in the mean of all networks up to it."""
        weights = [*self.card.weights, *[1.0] * len(self.networks)][: len(self.networks)]
        return [weight / sum(weights[: row + 1]) for row, weight in enumerate(weights)][1:]

    def batch_logits(self, pairs: Sequence[RuledPair]) -> list[float]:
        """Do the same as `logits` for any number of pairs, in batches of similar length."""
        logits = [0.0] * len(pairs)
        for rows in batches_by_length([sum(map(len, pair.texts)) for pair in pairs], BATCH_SIZE):
            for row, logit in zip(rows, self.logits([pairs[row] for row in rows], SHARED), strict=True):
                logits[row] = logit
        return logits

    def scores(self, pairs: Sequence[PromptPair]) -> list[float]:
        """The score of each pair, vetoes included; the judge says yes from `card.threshold` on."""
        ruled = [self.apply_rules(old, new) for old, new in pairs]
        probabilities = [self.card.probability(logit) for logit in self.batch_logits(ruled)]
        return [
            pair.verdict.confidence or probability * VETO_FACTOR if pair.verdict else probability
            for pair, probability in zip(ruled, probabilities, strict=True)
        ]


def batches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Put the rows of similar length into batches of `size`, shortest first, so that little padding is needed."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def not_judged(old: str) -> Verdict:
    """The verdict on a prompt that was skipped because another one fits."""
    return Verdict(False, f"the remembered prompt {old!r} was not judged, since another one fits", 0.0)


def output_names(network: Any) -> list[str]:
    """The names of a network's outputs."""
    return [output.name for output in network.get_outputs()]


def network_inputs(pairs: Sequence[PromptPair], states: ReadStates) -> dict[str, Any]:
    """The inputs of a network: the states of each text once, and for each pair the rows of its texts, `a` and `b`.

    `states` (texts, tokens, layers, 384) are padded with zeros at the end; `real` (texts, tokens) marks real tokens.
    """
    row_of = {text: row for row, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    text_states = [states(text) for text in row_of]
    longest = max(map(len, text_states))
    padded = np.zeros((len(text_states), longest, *text_states[0].shape[1:]), np.float32)
    real = np.zeros((len(text_states), longest), bool)
    for row, tokens in enumerate(text_states):
        padded[row, : len(tokens)], real[row, : len(tokens)] = tokens, True
    a, b = (np.array([row_of[pair[side]] for pair in pairs], np.int64) for side in (0, 1))
    return {"states": padded, "real": real, "a": a, "b": b}


def open_learned(folder: Path, text: OnnxEmbedder) -> LearnedJudge:
    """The judge in a folder; raises BadSetup when a file is missing or altered."""
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
        if (actual := hashlib.sha256(data).hexdigest()) != digest:
            raise BadSetup(
                f"{folder / name} is not the network that {CARD} names (sha256 {actual}, expected {digest})"
            )
        networks.append(onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]))
    return LearnedJudge(networks, text, card)


def read_card(folder: Path) -> Card:
    """The card of the judge in a folder; raises BadSetup when it is missing or malformed."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadSetup(f"there is no judge in {folder}: {error}") from error
