"""What the judge is taught: pairs that people checked, pairs by rule from prompts, pairs of the grammar."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from memo.embed import Vectors
from memo.judge.labelled_pairs import Pair, read_pairs
from memo.judge.words import split_words

from .edits import OTHER_PICTURE, SAME_PICTURE, edited, plain, twice
from .grammar import pairs

SHORT = 150  # characters
LONG_SHARE = 0.25  # of the longer pairs by rule that is kept: they cost much time and teach little more


def split(checked: Sequence[Pair], parts: int = 10) -> tuple[list[Pair], list[Pair]]:
    """One group of so many is kept back (none for 0); never a group in both."""
    kept = [parts > 0 and hashlib.md5(one.group.encode()).digest()[0] % parts == 0 for one in checked]
    taught = [one for one, back in zip(checked, kept, strict=True) if not back]
    return taught, [one for one, back in zip(checked, kept, strict=True) if back]


def read_prompts(folder: Path, names: Sequence[str], avoid: Path) -> list[str]:
    """The prompts of some files, each once, but those that a file of pairs will be judged by."""
    judged = {plain(text).lower() for one in read_pairs(avoid) for text in (one.a, one.b)}
    lines = [line.strip() for name in names for line in (folder / f"{name}.txt").read_text().splitlines()]
    return list(dict.fromkeys(line for line in lines if 2 < len(line) < 600 and plain(line).lower() not in judged))


def by_rule(random: Random, prompts: Sequence[str]) -> Iterator[Pair]:
    """Pairs without end from prompts that people wrote, about half of them of one picture."""
    while True:
        text = random.choice(prompts)
        chance = random.random()
        if chance < 0.3:
            found = twice(random, text)
        else:
            y = int(chance < 0.62)
            found = edited(random, text, SAME_PICTURE if y else OTHER_PICTURE, y)
        if found is not None and (max(len(found.a), len(found.b)) < SHORT or random.random() < LONG_SHARE):
            yield found


def unlike(random: Random, prompts: Sequence[str]) -> Iterator[Pair]:
    """Pairs of different prompts."""
    while True:
        a, b = random.sample(prompts, 2)
        if plain(a) != plain(b):
            yield Pair(a, b, 0, "another prompt")


def neighbours(prompts: Sequence[str], vectors: Vectors, many: int = 4, alike: float = 0.6) -> list[Pair]:
    """Each prompt with its nearest others, which ask for something else: what a judge is asked about all day.

    Left out are those that share most of their words, for some of them mean the same.
    """
    said = [set(split_words(prompt)) for prompt in prompts]
    found: dict[frozenset[int], Pair] = {}
    for row, likeness in enumerate(vectors @ vectors.T):
        for other in np.argsort(-likeness)[1 : many + 1]:
            if len(said[row] & said[other]) < alike * len(said[row] | said[other]):
                found[frozenset((row, int(other)))] = Pair(prompts[row], prompts[other], 0, "another prompt")
    return list(found.values())


def crossed(random: Random, taught: Sequence[Pair]) -> Iterator[Pair]:
    """Edits of texts that people checked: their near misses, compared with what means the same as the text."""
    same = [one for one in taught if one.y]
    while True:
        pair = random.choice(same)
        y = int(random.random() < 0.4)
        found = edited(random, pair.b, SAME_PICTURE if y else OTHER_PICTURE, y)
        if found is not None:
            new = found.b if found.a == plain(pair.b) else found.a
            yield Pair(pair.a, new, y, found.kind)


def make_pool(
    taught: Sequence[Pair], prompts: Sequence[str], seed: int, sizes: tuple[int, int, int, int]
) -> list[Pair]:
    """Pairs by grammar, by rule, crossed and unlike, as many as told."""
    random = Random(seed)
    sources = (pairs(random), by_rule(random, prompts), crossed(random, taught), unlike(random, prompts))
    return [said for source, size in zip(sources, sizes, strict=True) for said in islice(source, size)]
