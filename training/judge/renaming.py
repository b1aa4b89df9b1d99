"""Checked pairs told of other things: one exchange of words for all texts of a group leaves every label as it is.

"Two dogs chase a cat" and "a cat is chased by two dogs" stay one picture, with foxes for the dogs in both; the near
miss stays one. What people checked are ways of saying things and of getting them wrong, and each is rare: told of
ever other things, it is learned instead of its words.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from random import Random

from memo.judge.labelled_pairs import Pair

from .edits import KIND_OF, KINDS, KNOWN, NOUNS, put

SINGULAR = NOUNS[::2]  # each kind of nouns is followed by its plurals
TELLING = (0, *SINGULAR)  # kinds that are exchanged: colours and things
OFTEN = 0.7  # the chance that a word is exchanged
Entry = tuple[int, int]  # kind and row


def renamed(random: Random, groups: Sequence[Sequence[Pair]]) -> Iterator[list[Pair]]:
    """Groups without end, each told of other things, rare kinds more often; those of nothing known left out."""
    often = Counter(group[0].kind for group in groups)
    weights = [often[group[0].kind] ** -0.5 for group in groups]
    for number in count():
        [group] = random.choices(groups, weights)
        if exchange := drawn(random, group):
            yield [
                replace(pair, a=told(pair.a, exchange), b=told(pair.b, exchange), group=f"{pair.group}/{number}")
                for pair in group
            ]


def drawn(random: Random, group: Sequence[Pair]) -> dict[Entry, Entry]:
    """Other things for some that both texts of a true pair speak of, no two alike; without one, that all speak of."""
    true = [pair for pair in group if pair.y] or group
    everywhere = sorted(set.intersection(*(entries(text) for pair in true for text in (pair.a, pair.b))))
    taken = {entry for pair in group for text in (pair.a, pair.b) for entry in entries(text)}
    exchange: dict[Entry, Entry] = {}
    for kind, row in everywhere:
        others = [(kind, other) for other in range(len(KINDS[kind][0])) if free((kind, other), taken)]
        if others and random.random() < OFTEN:
            exchange[kind, row] = random.choice(others)
            taken.add(exchange[kind, row])
    return exchange


def entries(text: str) -> set[Entry]:
    """What a text speaks of, as far as it is surely known; things by their singular."""
    return {entry for match in KNOWN.finditer(text.lower()) if (entry := telling(match[0]))}


def telling(word: str) -> Entry | None:
    """The colour or thing that a word surely means."""
    known = KIND_OF[word]
    if len(known) > 1:
        return None
    [(kind, row)] = known
    kind = kind - 1 if kind in NOUNS and kind not in SINGULAR else kind
    return (kind, row) if kind in TELLING else None


def free(entry: Entry, taken: set[Entry]) -> bool:
    """Whether nothing in use may pass for it, and no other meaning of its words gets in the way."""
    kind, row = entry
    words, alike = set(KINDS[kind][0][row]), KINDS[kind][1]
    near = words | {word for pair in alike if pair & words for word in pair}
    used = {word for kind, row in taken for word in KINDS[kind][0][row]}
    return not near & used and all(len(KIND_OF[word]) == 1 for word in words)


def told(text: str, exchange: dict[Entry, Entry]) -> str:
    """The text with these things for those; the first form of a word for the first, and so on."""
    for match in reversed(list(KNOWN.finditer(text.lower()))):
        if (entry := telling(match[0])) not in exchange:
            continue
        [(kind, row)] = KIND_OF[match[0]]
        ways = KINDS[kind][0][exchange[entry][1]]
        text = put(text, match, ways[KINDS[kind][0][row].index(match[0]) % len(ways)])
    return text
