"""Repeat checked groups about other things: the same exchange of words in all texts of a group keeps every label.

"Two dogs chase a cat" and "a cat is chased by two dogs" still mean the same picture when both say foxes instead of
dogs, and a near miss of them stays a near miss. Checked groups show ways to phrase a prompt and ways to get it wrong.
Each of these ways is rare. Repeated about many things, it is learned apart from the words it came with.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from random import Random

from memo.judge.labelled_pairs import Pair

from .edits import KINDS_OF_WORD, KNOWN_WORDS, NOUN_KINDS, WORD_KINDS, replace_match

SINGULAR = NOUN_KINDS[::2]  # each kind of nouns is followed by its plurals
EXCHANGED_KINDS = (0, *SINGULAR)  # colours and things
EXCHANGE_CHANCE = 0.7  # the chance that a word is exchanged
Entry = tuple[int, int]  # number of a kind, row in that kind


def rename_groups(random: Random, groups: Sequence[Sequence[Pair]]) -> Iterator[list[Pair]]:
    """Endless groups about other things. Rare kinds are drawn more often; groups without a known word are skipped."""
    frequency = Counter(group[0].kind for group in groups)
    weights = [frequency[group[0].kind] ** -0.5 for group in groups]
    for number in count():
        [group] = random.choices(groups, weights)
        if exchange := draw_exchange(random, group):
            yield [
                replace(
                    pair,
                    a=exchange_words(pair.a, exchange),
                    b=exchange_words(pair.b, exchange),
                    group=f"{pair.group}/{number}",
                )
                for pair in group
            ]


def draw_exchange(random: Random, group: Sequence[Pair]) -> dict[Entry, Entry]:
    """Draw new entries for some of the entries that all true pairs have in both texts; no two new ones are similar.

    In a group without a true pair, the entries must be in both texts of all pairs.
    """
    pairs = [pair for pair in group if pair.y] or group
    shared_entries = sorted(set.intersection(*(find_entries(text) for pair in pairs for text in (pair.a, pair.b))))
    taken = {entry for pair in group for text in (pair.a, pair.b) for entry in find_entries(text)}
    exchange: dict[Entry, Entry] = {}
    for kind, row in shared_entries:
        others = [(kind, other) for other in range(len(WORD_KINDS[kind][0])) if is_free((kind, other), taken)]
        if others and random.random() < EXCHANGE_CHANCE:
            exchange[kind, row] = random.choice(others)
            taken.add(exchange[kind, row])
    return exchange


def find_entries(text: str) -> set[Entry]:
    """The colours and things that a text certainly names; plurals count as their singular."""
    return {entry for match in KNOWN_WORDS.finditer(text.lower()) if (entry := entry_of(match[0]))}


def entry_of(word: str) -> Entry | None:
    """The colour or thing that a word means; None if the word has several meanings or is of another kind."""
    meanings = KINDS_OF_WORD[word]
    if len(meanings) > 1:
        return None
    [(kind, row)] = meanings
    kind = kind - 1 if kind in NOUN_KINDS and kind not in SINGULAR else kind
    return (kind, row) if kind in EXCHANGED_KINDS else None


def is_free(entry: Entry, taken: set[Entry]) -> bool:
    """Whether no taken entry is similar to this one, and each of its words has one meaning only."""
    kind, row = entry
    words, similar = set(WORD_KINDS[kind][0][row]), WORD_KINDS[kind][1]
    similar_words = words | {word for pair in similar if pair & words for word in pair}
    used = {word for kind, row in taken for word in WORD_KINDS[kind][0][row]}
    return not similar_words & used and all(len(KINDS_OF_WORD[word]) == 1 for word in words)


def exchange_words(text: str, exchange: dict[Entry, Entry]) -> str:
    """The text with its words exchanged; the n-th form of an entry becomes the n-th form of the new one."""
    for match in reversed(list(KNOWN_WORDS.finditer(text.lower()))):
        if (entry := entry_of(match[0])) not in exchange:
            continue
        [(kind, row)] = KINDS_OF_WORD[match[0]]
        forms = WORD_KINDS[kind][0][exchange[entry][1]]
        text = replace_match(text, match, forms[WORD_KINDS[kind][0][row].index(match[0]) % len(forms)])
    return text
