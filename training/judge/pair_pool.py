"""The pairs that a judge trains on: pairs checked by people, pairs from edited prompts, pairs from the grammar."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from memo.embed import Vectors
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.words import split_words

from .edits import OTHER_PICTURE, SAME_PICTURE, make_pair, make_twice_edited_pair, normalize
from .grammar import grammar_pairs

SHORT = 150  # characters
LONG_SHARE = 0.25  # share of the longer edited pairs to keep: they take much time and teach little more


def split_groups(checked: Sequence[Pair], parts: int = 10) -> tuple[list[Pair], list[Pair]]:
    """(pairs to train on, pairs held out): one group in `parts` is held out (none if 0), and no group is split."""
    held_out = [parts > 0 and hashlib.md5(pair.group.encode()).digest()[0] % parts == 0 for pair in checked]
    trained_on = [pair for pair, out in zip(checked, held_out, strict=True) if not out]
    return trained_on, [pair for pair, out in zip(checked, held_out, strict=True) if out]


def read_prompts(folder: Path, names: Sequence[str], avoid: Path) -> list[str]:
    """The different prompts of the named files, without those that occur in the pairs of the file `avoid`."""
    avoided = {normalize(text).lower() for pair in read_pairs(avoid) for text in (pair.a, pair.b)}
    lines = [line.strip() for name in names for line in (folder / f"{name}.txt").read_text().splitlines()]
    prompts = (line for line in lines if 2 < len(line) < 600 and normalize(line).lower() not in avoided)
    return list(dict.fromkeys(prompts))


def make_pool(
    checked: Sequence[Pair], prompts: Sequence[str], seed: int, sizes: tuple[int, int, int, int]
) -> list[Pair]:
    """Pairs made by rule; `sizes` are the numbers of grammar, edited, crossed and unlike pairs, in this order."""
    random = Random(seed)
    sources = (
        grammar_pairs(random),
        edited_pairs(random, prompts),
        crossed_pairs(random, checked),
        unlike_pairs(random, prompts),
    )
    return [pair for source, size in zip(sources, sizes, strict=True) for pair in islice(source, size)]


def edited_pairs(random: Random, prompts: Sequence[str]) -> Iterator[Pair]:
    """Endless pairs of a human-written prompt and its edit; about half of them mean the same picture."""
    while True:
        text = random.choice(prompts)
        chance = random.random()
        if chance < 0.3:
            pair = make_twice_edited_pair(random, text)
        else:
            y = int(chance < 0.62)
            pair = make_pair(random, text, SAME_PICTURE if y else OTHER_PICTURE, y)
        if pair is not None and (max(len(pair.a), len(pair.b)) < SHORT or random.random() < LONG_SHARE):
            yield pair


def crossed_pairs(random: Random, checked: Sequence[Pair]) -> Iterator[Pair]:
    """Endless pairs of a checked text and an edit of its checked paraphrase."""
    paraphrases = [pair for pair in checked if pair.y]
    while True:
        pair = random.choice(paraphrases)
        y = int(random.random() < 0.4)
        edit = make_pair(random, pair.b, SAME_PICTURE if y else OTHER_PICTURE, y)
        if edit is not None:
            new = edit.b if edit.a == normalize(pair.b) else edit.a
            yield Pair(pair.a, new, y, edit.kind)


def unlike_pairs(random: Random, prompts: Sequence[str]) -> Iterator[Pair]:
    """Endless pairs of two different random prompts."""
    while True:
        a, b = random.sample(prompts, 2)
        if normalize(a) != normalize(b):
            yield Pair(a, b, 0, "another prompt")


def neighbour_pairs(
    prompts: Sequence[str], vectors: Vectors, neighbours: int = 4, max_overlap: float = 0.6
) -> list[Pair]:
    """Each prompt paired with its nearest other prompts, as a judge sees them all day; all are labelled near misses.

    `vectors` are unit vectors, (prompts, dimension). Pairs that share more than `max_overlap` of their words are left
    out, because some of them mean the same.
    """
    word_sets = [set(split_words(prompt)) for prompt in prompts]
    pairs: dict[frozenset[int], Pair] = {}
    for row, similarity in enumerate(vectors @ vectors.T):
        for other in np.argsort(-similarity)[1 : neighbours + 1]:
            if len(word_sets[row] & word_sets[other]) < max_overlap * len(word_sets[row] | word_sets[other]):
                pairs[frozenset((row, int(other)))] = Pair(prompts[row], prompts[other], 0, "another prompt")
    return list(pairs.values())
