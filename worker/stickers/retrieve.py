"""Which drawings of a bank a prompt speaks of: by their names, else by what is nearest in meaning.

"two kittens beside a spaceship in the snow" → cat, rocket. Knows words and drawings, no networks but the text model.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .layout import THINGS
from .nouns import plural
from .plan import ALSO, BIG, RELATIONS, TINY, Wish
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
# Words that name no thing to be drawn: grammar, numbers, qualities, what people say around a prompt.
UNSAID = COLOURS | frozenset(
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
REACH = 4  # words between a number and its thing
LONGEST = 5  # words in a name
ALIKE = 0.8  # of letters, from which a word counts as a misspelt name
NEAR = 0.62  # likeness of meaning from which an unknown word is taken for a thing beside others
NEAREST = 0.25  # the same when nothing else is found: better something like it than nothing


@dataclass(frozen=True)
class Mention:
    """A thing that the words `begin` to `end` (excluded) name, as one or as several."""

    begin: int
    end: int
    thing: Sprite
    several: bool = False


@dataclass(frozen=True)
class Retrieved:
    """What to lay on the sheet: at most four things in the order of mention, their style, how they are to stand."""

    things: tuple[Sprite, ...]
    style: str
    wish: Wish


class Retriever:
    """Finds drawings. `vectors` (names, 384) are the names' embeddings in the bank's order, of length 1."""

    def __init__(self, bank: Bank, embed: Embed, vectors: NDArray[np.float32]) -> None:
        self.bank, self.embed, self.vectors = bank, embed, vectors
        self.owners = [sprite for sprite in bank.sprites for _ in sprite.names]
        self.by_form: dict[str, Sprite] = {}
        for sprite in bank.sprites:
            for name in sprite.names:
                self.by_form.setdefault(name, sprite)
        for sprite in bank.sprites:
            for name in sprite.names:
                self.by_form.setdefault(plural(name), sprite)

    def __call__(self, prompt: str) -> Retrieved:
        """The things a prompt speaks of; none of an empty prompt."""
        text = prompt.lower()
        style = next((name for name, words in STYLE_WORDS.items() if re.search(words, text)), DEFAULT_STYLE)
        words = re.findall(r"[a-z0-9][a-z0-9'-]*|[,.;]", SETTING.sub(" . ", text))
        mentions = once(self.find(words) or self.guess(words))[:THINGS]
        if any(style not in self.bank.styles_of(mention.thing) for mention in mentions):
            style = self.bank.styles_of(mentions[0].thing)[0]
            mentions = [mention for mention in mentions if style in self.bank.styles_of(mention.thing)]
        return Retrieved(tuple(mention.thing for mention in mentions), style, wish_of(words, mentions))

    def find(self, words: list[str]) -> list[Mention]:
        """Things named in the words; unknown words count when they are much like a name, in letters or in meaning."""
        found: list[Mention] = []
        left: list[tuple[int, str]] = []
        at = 0
        while at < len(words):
            length, form = self.longest(words, at)
            if form:
                sprite = self.by_form[form]
                found.append(Mention(at, at + length, sprite, form not in sprite.names))
            elif means_thing(words[at]):
                left.append((at, words[at]))
            at += length
        return sorted([*found, *self.alike(left)], key=lambda mention: mention.begin)

    def longest(self, words: list[str], at: int) -> tuple[int, str]:
        """The longest name that begins at a word: (words it takes, the name), or (1, "")."""
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            form = " ".join(words[at : at + length])
            named = form in self.by_form and (length > 1 or form not in UNSAID - COLOURS)
            if named and not self.means_colour(words, at, length):
                return length, form
        return 1, ""

    def means_colour(self, words: list[str], at: int, length: int) -> bool:
        """Whether a colour's name stands before what it colours: "an orange cat"."""
        after = words[at + length] if at + length < len(words) else ""
        return length == 1 and words[at] in COLOURS and after.isalpha() and after not in UNSAID - COLOURS

    def alike(self, words: list[tuple[int, str]]) -> Iterator[Mention]:
        """The things that unknown words mean, where that is clear enough."""
        unsure = []
        for at, word in words:
            if close := difflib.get_close_matches(word, self.by_form, n=1, cutoff=ALIKE):
                sprite = self.by_form[close[0]]
                yield Mention(at, at + 1, sprite, close[0] not in sprite.names)
            elif not word.endswith("ing"):  # "a girl riding …"
                unsure.append((at, word))
        for (at, _), (sprite, score) in zip(unsure, self.nearest([word for _, word in unsure]), strict=True):
            if score >= NEAR:
                yield Mention(at, at + 1, sprite)

    def guess(self, words: list[str]) -> list[Mention]:
        """The one thing nearest to all that is said, or nothing."""
        said = [word for word in words if means_thing(word)]
        if not said:
            return []
        spans = list(dict.fromkeys([" ".join(said), *(" ".join(said[i : i + 2]) for i in range(len(said))), *said]))
        sprite, score = max(self.nearest(spans), key=lambda pair: pair[1])
        return [Mention(len(words), len(words), sprite)] if score >= NEAREST else []

    def nearest(self, texts: Sequence[str]) -> list[tuple[Sprite, float]]:
        """For each text the thing whose name is nearest in meaning, and how near (1 = the same)."""
        if not texts:
            return []
        likeness = self.embed(texts) @ self.vectors.T
        best = likeness.argmax(1)
        return [(self.owners[row], float(likeness[i, row])) for i, row in enumerate(best)]


def once(mentions: list[Mention]) -> list[Mention]:
    """The first mention of each thing."""
    first: dict[str, Mention] = {}
    for mention in mentions:
        first.setdefault(mention.thing.key, mention)
    return list(first.values())


def wish_of(words: list[str], mentions: Sequence[Mention]) -> Wish:
    """What the words around the things say of their numbers, sizes and places."""
    counts = tuple(count_of(words, mention) for mention in mentions)
    size = next((word for word in words if word in (*BIG, *TINY)), "")
    if len(mentions) < 2:
        return Wish(counts, size=size)
    between = " ".join(words[mentions[0].end : mentions[1].begin])
    return Wish(counts, relation_in(between), size)


def count_of(words: list[str], mention: Mention) -> int:
    """The number said before a thing, whatever stands between; of a bare plural, two."""
    for word in reversed(words[max(0, mention.begin - REACH) : mention.begin]):
        if word in NUMBERS:
            return NUMBERS[word]
        if word not in UNSAID or word in ("and", "with", "a", "an", "the"):
            break
    return 2 if mention.several else 1


def relation_in(between: str) -> str:
    """The longest wording of a relation that stands between two things; side by side if none does."""
    known = sorted([*RELATIONS, *ALSO], key=len, reverse=True)
    said = next((wording for wording in known if re.search(rf"\b{wording}\b", between)), "and")
    return ALSO.get(said, said)


def means_thing(word: str) -> bool:
    """Whether a word that is no name may still mean a thing to be drawn."""
    return word.isalpha() and len(word) > 2 and word not in UNSAID and not re.fullmatch(SETTINGS, word)


VECTORS = "names.npz"


def name_vectors(bank: Bank, embed: Embed) -> NDArray[np.float32]:
    """(names, 384) in the bank's order: those kept in `names.npz`, newly embedded ones for what was added since."""
    names = [name for sprite in bank.sprites for name in sprite.names]
    known: dict[str, NDArray[np.float32]] = {}
    if (path := bank.folder / VECTORS).exists():
        kept = np.load(path)
        known = dict(zip(kept["names"].tolist(), kept["vectors"].astype(np.float32), strict=True))
    new = sorted({name for name in names if name not in known})
    known.update(zip(new, embed(new), strict=True) if new else ())
    return np.stack([known[name] for name in names])


def keep_name_vectors(bank: Bank, embed: Embed) -> Path:
    """Write `names.npz` into the bank's folder, so that a painter need not embed thousands of names."""
    names = sorted({name for sprite in bank.sprites for name in sprite.names})
    np.savez_compressed(bank.folder / VECTORS, names=np.array(names), vectors=embed(names).astype(np.float16))
    return bank.folder / VECTORS
