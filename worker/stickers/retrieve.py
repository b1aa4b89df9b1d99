"""Finds the drawings of a bank that a prompt names, or else the ones closest to it in meaning.

"two kittens beside a spaceship in the snow" → cat, rocket. Knows words and drawings, and no network but the text
model.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memo.errors import shorten
from memo.judge.english import VERB_ENDINGS
from memo.judge.words import quote

from .layout import MAX_DRAWINGS, MAX_THINGS
from .nouns import BODY_PARTS, NOT_NOUNS, plural
from .other_names import OTHER_NAMES
from .plan import BIG, RELATIONS, SYNONYMS, TINY, Composition, limit_counts
from .prompt_words import COLOURS, DESCRIPTIONS, STOP_WORDS, is_unseen, may_name_thing, split_prompt
from .spelling import IsWord, find_misspelt_name
from .sprites import Bank, Sprite

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

DEFAULT_STYLE = "3d"
STYLE_WORDS = {
    "flat": r"\bflat\b",
    "noto": r"\bcartoon (style|of)\b|\bnoto\b",
    "twemoji": r"\b(simple|tw)?emoji\b|\bclip ?art\b",
}
NUMBERS = {
    **dict(zip("one two three four five six seven eight nine ten".split(), range(1, 11), strict=True)),
    **{str(number): number for number in range(1, 11)},
    "pair": 2,
    "couple": 2,
    "both": 2,
    "few": 3,
    "several": 3,
    "many": 4,
}
NUMBER_REACH = 4  # a thing's number is looked for in this many words before it
MAX_NAME_WORDS = 5
MIN_MEANING = 0.62  # cosine similarity from which an unknown word counts as a thing, if the prompt names none
MAX_NOTED = 8  # words in a note
ARTICLES = frozenset(("a", "an", "the", "one"))


@dataclass(frozen=True)
class Mention:
    """A thing that the words from `start` up to `end` (excluded) name, in the singular or the plural.

    `is_noun` is false for a name that merely describes in most prompts, as in "a sunny day" or "with blue eyes".
    """

    start: int
    end: int
    thing: Sprite
    is_plural: bool = False
    is_noun: bool = True


@dataclass(frozen=True)
class Retrieved:
    """What to lay on a sheet: at most four things in the order of mention, their style, and the composition.

    `notes` says in words what the prompt names and the sheet lacks.
    """

    things: tuple[Sprite, ...]
    style: str
    composition: Composition
    notes: tuple[str, ...] = ()


class Retriever:
    """Finds drawings. `vectors` (names, 384) are the embeddings of the bank's names in order, of length 1.

    `is_word` tells whether a word is English, and so not the misspelling of a name.
    """

    def __init__(self, bank: Bank, embed: Embed, vectors: NDArray[np.float32], is_word: IsWord) -> None:
        self.bank, self.embed, self.vectors, self.is_word = bank, embed, vectors, is_word
        self.owners = [sprite for sprite in bank.sprites for _ in sprite.names]  # the sprite of each row of `vectors`
        self.by_name: dict[str, Sprite] = {}
        for sprite in bank.sprites:
            for name in sprite.names:
                self.by_name.setdefault(name, sprite)
        for other, name in OTHER_NAMES.items():
            if name in self.by_name:
                self.by_name.setdefault(other, self.by_name[name])
        self.by_plural: dict[str, Sprite] = {}
        for name, sprite in self.by_name.items():
            self.by_plural.setdefault(plural(name), sprite)
        self.by_form = {**self.by_plural, **self.by_name}

    def __call__(self, prompt: str) -> Retrieved:
        """The things that a prompt names; an empty prompt names none."""
        words = split_prompt(prompt)
        named, unknown = self.find_names(words)
        guesses = [] if named else self.guess(words, unknown)
        mentions = first_mentions([mention for mention in named if mention.is_noun] or named or guesses)
        style = self.choose_style(prompt, mentions[:MAX_THINGS])
        drawn = [mention for mention in mentions[:MAX_THINGS] if style in self.bank.styles_of(mention.thing)]
        composition = read_composition(words, drawn)
        notes = [
            *explain_omissions(words, mentions, drawn, composition.counts),
            *explain_unknown([words[position] for position in unknown], next(iter(guesses), None)),
        ]
        return Retrieved(tuple(mention.thing for mention in drawn), style, composition, tuple(notes))

    def choose_style(self, prompt: str, mentions: Sequence[Mention]) -> str:
        """The style that the prompt names, if all things are drawn in it; else one of the first thing's."""
        text = prompt.lower()
        style = next((name for name, words in STYLE_WORDS.items() if re.search(words, text)), DEFAULT_STYLE)
        if all(style in self.bank.styles_of(mention.thing) for mention in mentions):
            return style
        return self.bank.styles_of(mentions[0].thing)[0]

    def find_names(self, words: list[str]) -> tuple[list[Mention], list[int]]:
        """The things that the words name, perhaps misspelt, and the positions of other words that may name things."""
        mentions: list[Mention] = []
        unknown: list[int] = []
        position = 0
        while position < len(words):
            length, form = self.longest_name(words, position)
            if form:
                mentions.append(self.mention(words, position, length, form))
            elif may_name_thing(words[position]):
                unknown.append(position)
            position += length
        return mentions, unknown

    def longest_name(self, words: list[str], position: int) -> tuple[int, str]:
        """The longest name at a position: (its number of words, the name); (1, "") if the words there name nothing.

        A single word may also be misspelt.
        """
        for length in range(min(MAX_NAME_WORDS, len(words) - position), 0, -1):
            form = " ".join(words[position : position + length])
            is_name = form in self.by_form and (length > 1 or not is_unseen(form))
            if is_name and not self.is_adjective(words, position, length):
                return length, form
        return 1, self.misspelt_name(words[position]) if may_name_thing(words[position]) else ""

    def misspelt_name(self, word: str) -> str:
        """The name that a word misspells, in the singular if that is possible; "" for none."""
        singular = find_misspelt_name(word, self.by_name, self.is_word)
        return singular or find_misspelt_name(word, self.by_plural, self.is_word)

    def mention(self, words: list[str], position: int, length: int, form: str) -> Mention:
        """The mention of a thing by a form of its name."""
        before = words[position - 1] if position else ""
        describes = form in NOT_NOUNS or (form in BODY_PARTS and before not in ARTICLES and before in DESCRIPTIONS)
        return Mention(position, position + length, self.by_form[form], form not in self.by_name, not describes)

    def is_adjective(self, words: list[str], position: int, length: int) -> bool:
        """Whether a name is a colour that describes the next word, as in "an orange cat"."""
        following = words[position + length] if position + length < len(words) else ""
        describes = following.isalpha() and following not in STOP_WORDS - COLOURS
        return length == 1 and words[position] in COLOURS and describes

    def guess(self, words: list[str], unknown: list[int]) -> list[Mention]:
        """The one thing whose name is closest in meaning to an unknown word; empty if none is close."""
        if not unknown:
            return []
        similarities = self.embed([words[position] for position in unknown]) @ self.vectors.T
        row, column = np.unravel_index(similarities.argmax(), similarities.shape)
        if similarities[row, column] < MIN_MEANING:
            return []
        return [Mention(unknown[row], unknown[row] + 1, self.owners[column])]


def first_mentions(mentions: list[Mention]) -> list[Mention]:
    """The first mention of each thing."""
    first: dict[str, Mention] = {}
    for mention in mentions:
        first.setdefault(mention.thing.key, mention)
    return list(first.values())


def explain_omissions(
    words: Sequence[str], mentions: Sequence[Mention], drawn: Sequence[Mention], counts: Sequence[int]
) -> Iterator[str]:
    """Yield notes for users on the things that a prompt names and the sheet does not show."""
    if not mentions and words:
        yield "nothing in the prompt is a thing that this model can draw: it paints only scenery, colours and light"
    if left_out := [mention.thing.names[0] for mention in mentions if mention not in drawn]:
        left_out = left_out[:MAX_NOTED]
        yield f"this model draws at most {MAX_THINGS} things of one style: it leaves out {quote(left_out)}"
    for mention, count, limit in zip(drawn, counts, limit_counts(counts), strict=False):
        if limit < count:
            name = mention.thing.names[0]
            yield f"a picture has room for {MAX_DRAWINGS} drawings: {limit} of {name!r}, not {count}"


def explain_unknown(words: Sequence[str], guess: Mention | None) -> Iterator[str]:
    """Yield notes for users on words that may name things of which the model has no drawing."""
    nouns = sorted({shorten(word) for word in words if not word.endswith((*VERB_ENDINGS, "ly"))})
    if nouns:
        yield f"this model has no drawing of {' and '.join(nouns[:MAX_NOTED])}"
    if guess:
        yield f"the drawing of {guess.thing.names[0]!r} is only the closest in meaning"


def read_composition(words: list[str], mentions: Sequence[Mention]) -> Composition:
    """The numbers, the size and the relation that the words around the things express."""
    counts = tuple(read_count(words, mention) for mention in mentions)
    size = next((word for word in words if word in (*BIG, *TINY)), "")
    if len(mentions) < 2:
        return Composition(counts, size=size)
    between = " ".join(words[mentions[0].end : mentions[1].start])
    return Composition(counts, read_relation(between), size)


def read_count(words: list[str], mention: Mention) -> int:
    """The number before a thing, with adjectives in between; two for a plural without a number."""
    for word in reversed(words[max(0, mention.start - NUMBER_REACH) : mention.start]):
        if word in NUMBERS:
            return NUMBERS[word]
        if word not in DESCRIPTIONS or word in ("and", "with", "a", "an", "the"):
            break
    return 2 if mention.is_plural else 1


def read_relation(between: str) -> str:
    """The longest relation in the words between two things, as a key of RELATIONS; "and" if there is none."""
    known = sorted([*RELATIONS, *SYNONYMS], key=len, reverse=True)
    wording = next((wording for wording in known if re.search(rf"\b{wording}\b", between)), "and")
    return SYNONYMS.get(wording, wording)


VECTORS = "names.npz"


def name_vectors(bank: Bank, embed: Embed) -> NDArray[np.float32]:
    """The embeddings (names, 384) in the bank's order: from `names.npz`, and computed for names missing there."""
    names = [name for sprite in bank.sprites for name in sprite.names]
    known: dict[str, NDArray[np.float32]] = {}
    if (path := bank.folder / VECTORS).exists():
        saved = np.load(path)
        known = dict(zip(saved["names"].tolist(), saved["vectors"].astype(np.float32), strict=True))
    new = sorted({name for name in names if name not in known})
    known.update(zip(new, embed(new), strict=True) if new else ())
    return np.stack([known[name] for name in names])


def save_name_vectors(bank: Bank, embed: Embed) -> Path:
    """Write `names.npz` into the bank's folder, so that a painter need not embed thousands of names at its start."""
    names = sorted({name for sprite in bank.sprites for name in sprite.names})
    np.savez_compressed(bank.folder / VECTORS, names=np.array(names), vectors=embed(names).astype(np.float16))
    return bank.folder / VECTORS
