"""Finds the drawings of a bank that a prompt names, or else the ones closest to it in meaning.

"two kittens beside a spaceship in the snow" → cat, rocket. Knows words and drawings, and no network but the text
model.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .layout import MAX_THINGS
from .nouns import plural
from .plan import BIG, RELATIONS, SYNONYMS, TINY, Composition
from .sprites import Bank, Sprite

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

DEFAULT_STYLE = "3d"
STYLE_WORDS = {
    "flat": r"\bflat\b",
    "noto": r"\bcartoon (style|of)\b|\bnoto\b",
    "twemoji": r"\b(simple|tw)?emoji\b|\bclip ?art\b",
}
COLOURS = frozenset(
    "red orange yellow green blue purple pink brown black white gray grey golden gold silver violet beige".split()
)
# Words that name no drawing: grammar, numbers, qualities, and the usual padding of prompts.
STOP_WORDS = COLOURS | frozenset(
    """a an the and or of to in on at by with without for from as is are it its this that these those there some any
    one two three four five six seven eight nine ten 1 2 3 4 5 6 7 8 9 10 pair couple several many few both
    another left right above over below under underneath beneath beside next near behind front between top
    side upper lower big huge large giant tiny small little cute beautiful pretty lovely nice happy sad funny
    old new young dark bright colorful colourful cool great good simple detailed realistic high quality hd 4k
    8k style design render rendered icon picture image photo photograph drawing illustration painting cartoon
    sticker emoji art clipart 3d flat digital draw paint make show give generate create want need please i me
    my our your his her their you we he she they sitting standing lying running walking flying swimming
    looking wearing holding eating playing sleeping smiling very really just only all background scene view
    plain lit color coloured colored shade snowy rainy sunny kind sort something anything everything thing
    things stuff day time moment floor ground middle center centre corner has have not no be being been was
    were can could would should will""".split()
)
SETTINGS = (
    "background|snow|winter|night|moonlight|stars|beach|sea|seaside|shore|field|fields|meadow|grass|lawn|"
    "hill|garden|park|sunset|dusk|dawn|sunrise|evening|evening sun|morning|water|underwater|ocean|desert|"
    "sand|dune|rain|rainy day|snowy day|summer|autumn|spring|sky|clouds|air|space|outer space|forest|"
    "woods|jungle|city|town|street|road"
)
SETTING = re.compile(
    r"\b(?:in|on|at|by|under|among|during|over|against|near|before|through)\s+(?:the |a |an )?"
    rf"(?:[a-z-]+ ){{0,2}}?(?:{SETTINGS})\b"
    rf"|\b(?:{'|'.join(sorted(COLOURS))})\s+background\b|\bunderwater\b"
)
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
NUMBER_REACH = 4  # words before a thing in which its number is searched
MAX_NAME_WORDS = 5
MIN_SPELLING = 0.8  # similarity of letters from which a word counts as a misspelt name
MIN_MEANING = 0.62  # cosine similarity from which an unknown word counts as a thing, beside things that are named
MIN_GUESS = 0.25  # the same if no thing is named: something similar is better than nothing


@dataclass(frozen=True)
class Mention:
    """A thing that the words from `start` up to `end` (excluded) name, in the singular or the plural."""

    start: int
    end: int
    thing: Sprite
    is_plural: bool = False


@dataclass(frozen=True)
class Retrieved:
    """What to lay on a sheet: at most four things in the order of mention, their style, and the composition."""

    things: tuple[Sprite, ...]
    style: str
    composition: Composition


class Retriever:
    """Finds drawings. `vectors` (names, 384) are the embeddings of the bank's names in order, of length 1."""

    def __init__(self, bank: Bank, embed: Embed, vectors: NDArray[np.float32]) -> None:
        self.bank, self.embed, self.vectors = bank, embed, vectors
        self.owners = [sprite for sprite in bank.sprites for _ in sprite.names]  # the sprite of each row of `vectors`
        self.by_form: dict[str, Sprite] = {}
        for sprite in bank.sprites:
            for name in sprite.names:
                self.by_form.setdefault(name, sprite)
        for sprite in bank.sprites:
            for name in sprite.names:
                self.by_form.setdefault(plural(name), sprite)

    def __call__(self, prompt: str) -> Retrieved:
        """The things that a prompt names; an empty prompt names none."""
        text = prompt.lower()
        style = next((name for name, words in STYLE_WORDS.items() if re.search(words, text)), DEFAULT_STYLE)
        words = re.findall(r"[a-z0-9][a-z0-9'-]*|[,.;]", SETTING.sub(" . ", text))
        mentions = first_mentions(self.find_mentions(words) or self.guess(words))[:MAX_THINGS]
        if any(style not in self.bank.styles_of(mention.thing) for mention in mentions):
            style = self.bank.styles_of(mentions[0].thing)[0]
            mentions = [mention for mention in mentions if style in self.bank.styles_of(mention.thing)]
        return Retrieved(tuple(mention.thing for mention in mentions), style, read_composition(words, mentions))

    def find_mentions(self, words: list[str]) -> list[Mention]:
        """The things that the words name, with unknown words that resemble a name in spelling or in meaning."""
        mentions: list[Mention] = []
        unknown: list[tuple[int, str]] = []
        position = 0
        while position < len(words):
            length, form = self.longest_name(words, position)
            if form:
                sprite = self.by_form[form]
                mentions.append(Mention(position, position + length, sprite, form not in sprite.names))
            elif may_name_thing(words[position]):
                unknown.append((position, words[position]))
            position += length
        return sorted([*mentions, *self.match_unknown(unknown)], key=lambda mention: mention.start)

    def longest_name(self, words: list[str], position: int) -> tuple[int, str]:
        """The longest name that starts at a position: (its number of words, the name), or (1, "")."""
        for length in range(min(MAX_NAME_WORDS, len(words) - position), 0, -1):
            form = " ".join(words[position : position + length])
            is_name = form in self.by_form and (length > 1 or form not in STOP_WORDS - COLOURS)
            if is_name and not self.is_adjective(words, position, length):
                return length, form
        return 1, ""

    def is_adjective(self, words: list[str], position: int, length: int) -> bool:
        """Whether a name is a colour that describes the next word, as in "an orange cat"."""
        following = words[position + length] if position + length < len(words) else ""
        describes = following.isalpha() and following not in STOP_WORDS - COLOURS
        return length == 1 and words[position] in COLOURS and describes

    def match_unknown(self, words: list[tuple[int, str]]) -> Iterator[Mention]:
        """The things that unknown words mean, if they are similar enough to a name."""
        unmatched = []
        for position, word in words:
            if forms := difflib.get_close_matches(word, self.by_form, n=1, cutoff=MIN_SPELLING):
                sprite = self.by_form[forms[0]]
                yield Mention(position, position + 1, sprite, forms[0] not in sprite.names)
            elif not word.endswith("ing"):  # a verb, as in "a girl riding …"
                unmatched.append((position, word))
        nearest = self.nearest([word for _, word in unmatched])
        for (position, _), (sprite, similarity) in zip(unmatched, nearest, strict=True):
            if similarity >= MIN_MEANING:
                yield Mention(position, position + 1, sprite)

    def guess(self, words: list[str]) -> list[Mention]:
        """The one thing whose name is closest in meaning to a word, a pair of words or all words; empty for none."""
        candidates = [word for word in words if may_name_thing(word)]
        if not candidates:
            return []
        pairs = [" ".join(candidates[i : i + 2]) for i in range(len(candidates))]
        spans = list(dict.fromkeys([" ".join(candidates), *pairs, *candidates]))
        sprite, similarity = max(self.nearest(spans), key=lambda match: match[1])
        return [Mention(len(words), len(words), sprite)] if similarity >= MIN_GUESS else []

    def nearest(self, texts: Sequence[str]) -> list[tuple[Sprite, float]]:
        """For each text the thing whose name is closest in meaning, and their cosine similarity."""
        if not texts:
            return []
        similarities = self.embed(texts) @ self.vectors.T
        best = similarities.argmax(1)
        return [(self.owners[row], float(similarities[i, row])) for i, row in enumerate(best)]


def first_mentions(mentions: list[Mention]) -> list[Mention]:
    """The first mention of each thing."""
    first: dict[str, Mention] = {}
    for mention in mentions:
        first.setdefault(mention.thing.key, mention)
    return list(first.values())


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
        if word not in STOP_WORDS or word in ("and", "with", "a", "an", "the"):
            break
    return 2 if mention.is_plural else 1


def read_relation(between: str) -> str:
    """The longest relation in the words between two things, as a key of RELATIONS; "and" if there is none."""
    known = sorted([*RELATIONS, *SYNONYMS], key=len, reverse=True)
    wording = next((wording for wording in known if re.search(rf"\b{wording}\b", between)), "and")
    return SYNONYMS.get(wording, wording)


def may_name_thing(word: str) -> bool:
    """Whether a word that is not a known name may still mean a thing."""
    return word.isalpha() and len(word) > 2 and word not in STOP_WORDS and not re.fullmatch(SETTINGS, word)


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
