"""Rules that find a difference which may make the picture of one prompt wrong for another, and say which.

Each rule compares what two prompts say about one subject: numbers, colours, negation, style, left and right, quoted
text, names and so on. `old` is the remembered prompt, `new` the new one. A rule returns None where the
prompts agree, where it cannot tell, or where only one of them mentions the subject, unless the omission itself makes
the difference. A reason completes the sentence "the remembered prompt …". The docstring of a rule states the
difference that it finds. The rules use lists of English words but no network, and work for captions and for long
prompts of tags.

A reliable rule is a veto: of the pairs that mean the same and that it was not written for, it refuses fewer than 1
in 200. The other rules only give hints, and the judge decides how much they count: "a deserted street" can mean "a
street with nobody in it", although only one of them has a negation.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import takewhile

from .english import (
    ABSENT_THING,
    COLOUR_NAMED_THINGS,
    COLOURS,
    EXACTLY_ONE,
    GROUP_WORD,
    HEIGHTS,
    IRREGULAR_PLURALS,
    LEFT_OR_RIGHT,
    MINOR_WORDS,
    NEGATION,
    NOT_A_COUNT,
    NOT_NOUNS,
    NUMBER_WORDS,
    OPPOSITE_PREFIXES,
    OPPOSITES,
    PHOTOGRAPH,
    SINGULAR_NOUN,
    SPECIAL_STYLES,
    STYLES,
    YOUNG_AND_GROWN,
    YOUNG_WORDS,
)
from .port import Verdict
from .wording_rules import (
    find_extra_word,
    find_name_conflict,
    find_symbol_conflict,
    find_text_conflict,
    find_unread_conflict,
)
from .words import (
    CACHED_PROMPTS,
    WORD,
    explain_difference,
    find_sign_conflict,
    join_words,
    plain_text,
    quote,
    same_words,
    split_words,
)

Rule = Callable[[str, str], str | None]

LONG_PROMPT = 25  # words; in longer prompts numbers and sides are too incidental to compare
NOUN_DISTANCE = 3  # a noun is at most this many words after its number or preposition
SHORTEST_STEM = 4  # letters: a prefix such as "un" negates no shorter word


def decide_by_rules(old: str, new: str) -> Verdict | None:
    """The verdict that needs no network: yes for the same words, no for a veto, otherwise None."""
    if same_words(old, new):
        return Verdict(True, f"the remembered prompt {old!r} says the same in nearly the same words", 1.0)
    if reason := find_veto(plain_text(old), plain_text(new)):
        return Verdict(False, f"the remembered prompt {old!r} {reason}", 0.0)
    return None


def find_hints(old: str, new: str) -> dict[str, str]:
    """The reasons of all hints against `old` for `new`, by the name of the rule."""
    return {name: reason for name, rule in HINTS.items() if (reason := rule(old, new)) is not None}


def find_veto(old: str, new: str) -> str | None:
    """The reason of the first rule that vetoes `old` for `new`; None when no rule does."""
    return next((reason for rule in VETOES.values() if (reason := rule(old, new)) is not None), None)


def either_is_long(old: str, new: str) -> bool:
    """Whether one of the prompts has more than LONG_PROMPT words."""
    return max(len(split_words(old)), len(split_words(new))) > LONG_PROMPT


# Numbers


def find_number_conflict(old: str, new: str) -> str | None:
    """The prompts count differently: "two dogs" and "three dogs"."""
    before, after = count_numbers(old), count_numbers(new)
    if before == after or either_is_long(old, new):
        return None
    missing, added = before - after, after - before
    if missing and added:
        return f"asks for {join_words(missing)}, not {join_words(added)}"
    return None


def count_numbers(prompt: str) -> Counter[int]:
    """How often each number is named: "two dogs and 3 cats" → {2: 1, 3: 1}; 1 only for words like "a single"."""
    text = prompt.casefold()
    counts: Counter[int] = Counter(1 for _ in EXACTLY_ONE.findall(text))
    for word in WORD.findall(EXACTLY_ONE.sub(" ", NOT_A_COUNT.sub(" ", text))):
        if (number := parse_number(word)) is not None:
            counts[number] += 1
    return counts


def parse_number(word: str) -> int | None:
    """The number that a word or its digits stand for."""
    return int(word) if word.isdecimal() else NUMBER_WORDS.get(word)


def find_count_conflict(old: str, new: str) -> str | None:
    """The prompts count the same thing differently: "two cats and three dogs" and "three cats and two dogs"."""
    before, after = count_things(old), count_things(new)
    for noun in before:
        if noun in after and not before[noun] & after[noun]:
            return f"asks for {join_words(before[noun])} {noun}, not {join_words(after[noun])}"
    return None


def count_things(prompt: str) -> dict[str, set[int]]:
    """The numbers of each thing: "two cats and three big dogs" → {"cats": {2}, "dogs": {3}}."""
    counts: dict[str, set[int]] = {}
    words = WORD.findall(NOT_A_COUNT.sub(" ", prompt.casefold()))
    for position, word in enumerate(words, 1):
        if (number := parse_number(word)) is not None:
            if noun := next(filter(is_plural, words[position : position + NOUN_DISTANCE]), None):
                counts.setdefault(noun, set()).add(number)
    return counts


def is_plural(word: str) -> bool:
    """Whether a word looks like a plural, or is a known irregular one."""
    return word in IRREGULAR_PLURALS.values() or (word.endswith("s") and not word.endswith("ss"))


def find_plural_conflict(old: str, new: str) -> str | None:
    """One prompt has a single thing where the other has several; neither counts or groups them."""
    if GROUP_WORD.search(f"{old} {new}".casefold()) or count_numbers(old) != count_numbers(new):
        return None
    if noun := find_pluralised(old, new):
        return f"asks for one {noun}, not several"
    if noun := find_pluralised(new, old):
        return f"asks for several {plural_of(noun)}, not one"
    return None


def find_pluralised(prompt: str, other: str) -> str | None:
    """A noun that the prompt has only in the singular, and the other one only in the plural."""
    words, other_words = set(split_words(prompt)), set(split_words(other))
    for noun in SINGULAR_NOUN.findall(prompt.casefold()):
        if noun not in other_words and plural_of(noun) in other_words and plural_of(noun) not in words:
            return str(noun)
    return None


def plural_of(noun: str) -> str:
    """The plural of a noun: "fox" → "foxes", "mouse" → "mice"."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou") else f"{noun}s"


# Colours and styles


def find_colour_conflict(old: str, new: str) -> str | None:
    """Each prompt names a colour that the other does not: "a red fox" and "a blue fox"."""
    before, after = colours(old), colours(new)
    missing, added = before - after, after - before
    return explain_difference(missing, added) if missing and added else None


def find_missing_colour(old: str, new: str) -> str | None:
    """Only one prompt names a colour: "a fox" and "a white fox", but also "a bride" and "a bride in white"."""
    before, after = colours(old), colours(new)
    return explain_difference(before - after, after - before) if before < after or after < before else None


def colours(prompt: str) -> set[str]:
    """The colours that a prompt names, without the style "black and white" and the coral of a reef."""
    text = STYLES["black and white"].sub(" ", prompt.casefold()).replace("coral reef", "reef")
    return {COLOURS[word] for word in split_words(text) if word in COLOURS}


def find_colour_owner_conflict(old: str, new: str) -> str | None:
    """A thing has another colour: "red hair and blue eyes" and "blue hair and red eyes"."""
    before, after = colours_by_noun(old), colours_by_noun(new)
    for noun in before:
        if noun in after and not before[noun] & after[noun]:
            return f"describes the {noun} as {join_words(before[noun])}, not {join_words(after[noun])}"
    return None


def colours_by_noun(prompt: str) -> dict[str, set[str]]:
    """The colours in front of each noun: "a red and blue car" → {"car": {"red", "blue"}}."""
    by_noun: dict[str, set[str]] = {}
    pending: set[str] = set()
    for word in split_words(prompt):
        if word in COLOURS and not (pending and word in COLOUR_NAMED_THINGS):
            pending.add(COLOURS[word])
        elif pending and word not in ("and", "or"):
            if word not in NOT_NOUNS:
                by_noun.setdefault(word, set()).update(pending)
            pending = set()
    return by_noun


def find_style_conflict(old: str, new: str) -> str | None:
    """Each prompt names a style or medium that the other does not."""
    missing, added = different_styles(old, new)
    return f"asks for {join_words(missing)}, not {join_words(added)}" if missing and added else None


def find_missing_style(old: str, new: str) -> str | None:
    """Only one prompt names a style or medium; a photograph may go unnamed."""
    missing, added = different_styles(old, new)
    if not missing and added - {PHOTOGRAPH}:
        return f"does not ask for {join_words(added)}"
    if not added and missing - {PHOTOGRAPH}:
        return f"asks for {join_words(missing)}, which the new prompt does not"
    return None


def different_styles(old: str, new: str) -> tuple[set[str], set[str]]:
    """The styles that only the remembered prompt names, and those that only the new one names."""
    before, after = styles(old), styles(new)
    return without_related(before - after, after), without_related(after - before, before)


@lru_cache(CACHED_PROMPTS)
def styles(prompt: str) -> frozenset[str]:
    """The styles and media that a prompt names; of a watercolour painting only the watercolour."""
    text = prompt.casefold()
    named = {name for name, pattern in STYLES.items() if pattern.search(text)}
    return frozenset(named - {general for special, general in SPECIAL_STYLES if special in named})


def without_related(names: frozenset[str], others: frozenset[str]) -> set[str]:
    """The styles that are neither a special nor a general case of one of the others."""

    def is_related(style: str) -> bool:
        return any((style, other) in SPECIAL_STYLES or (other, style) in SPECIAL_STYLES for other in others)

    return {style for style in names if not is_related(style)}


# Negation, opposites and positions


def find_negation_conflict(old: str, new: str) -> str | None:
    """Only one prompt negates something, or each says that something else is absent."""
    texts = [prompt.casefold().replace("’", "'") for prompt in (old, new)]
    before, after = (NEGATION.findall(text) for text in texts)
    if bool(before) != bool(after):
        return explain_difference(before[:1], after[:1])
    absent_before, absent_after = (set(ABSENT_THING.findall(text)) for text in texts)
    if absent_before and absent_after and not absent_before & absent_after:
        return f"leaves out {quote(absent_before)}, not {quote(absent_after)}"
    return None


def find_opposite(old: str, new: str) -> str | None:
    """One prompt has a word and the other its opposite, and neither has both."""
    before, after = set(split_words(old)), set(split_words(new))
    for left, right in OPPOSITES:
        for side, opposite in ((left, right), (right, left)):
            if before & side and after & opposite and not (before & opposite or after & side):
                return explain_difference(before & side, after & opposite)
    return None


def find_opposite_prefix(old: str, new: str) -> str | None:
    """One prompt has a word and the other the same stem with an opposite prefix: "finished" and "unfinished"."""
    before, after = set(split_words(old)), set(split_words(new))
    missing, added = before - after, after - before
    for prefixes in OPPOSITE_PREFIXES:
        if pair := find_prefixed(missing, added, *prefixes):
            return explain_difference(pair[:1], pair[1:])
        if pair := find_prefixed(added, missing, *prefixes):
            return explain_difference(pair[1:], pair[:1])
    return None


def find_prefixed(words: set[str], others: set[str], prefix: str, opposite: str) -> tuple[str, str] | None:
    """The first of the words with the prefix that the others have with the opposite one, and that other word."""
    stems = (word.removeprefix(prefix) for word in sorted(words) if word.startswith(prefix))
    stem = next((stem for stem in stems if len(stem) >= SHORTEST_STEM and f"{opposite}{stem}" in others), None)
    return (f"{prefix}{stem}", f"{opposite}{stem}") if stem else None


def find_age_conflict(old: str, new: str) -> str | None:
    """One prompt has a young animal, the other a grown one that is not called young."""
    before, after = set(split_words(old)), set(split_words(new))
    for young, grown in YOUNG_AND_GROWN:
        if is_only_young(before, after, young, grown):
            return explain_difference(before & young, after & grown)
        if is_only_young(after, before, young, grown):
            return explain_difference(before & grown, after & young)
    return None


def is_only_young(words: set[str], others: set[str], young: frozenset[str], grown: frozenset[str]) -> bool:
    """Whether the words name only the young animal, and the others only the grown one."""
    return bool(words & young and others & grown and not (words & grown or others & (young | YOUNG_WORDS)))


def find_height_conflict(old: str, new: str) -> str | None:
    """Something is under a thing in one prompt, and on or above it in the other."""
    before, after = heights_by_noun(old), heights_by_noun(new)
    for noun in before:
        if noun in after and not before[noun] & after[noun]:
            return f"puts something {join_words(before[noun])} the {noun}, not {join_words(after[noun])} it"
    return None


def heights_by_noun(prompt: str) -> dict[str, set[str]]:
    """The heights relative to each thing: "a cat under a green table" → {"green": {"under"}, "table": {"under"}}."""
    by_noun: dict[str, set[str]] = {}
    words = [word for word in split_words(prompt.replace("on top of", "on")) if word not in ("a", "an", "the")]
    for position, word in enumerate(words, 1):
        if word in HEIGHTS:
            for noun in takewhile(may_be_noun, words[position : position + NOUN_DISTANCE]):
                by_noun.setdefault(noun, set()).add(HEIGHTS[word])
    return by_noun


def may_be_noun(word: str) -> bool:
    """Whether a word may name a thing, or be an adjective in front of one."""
    return word not in NOT_NOUNS and word not in HEIGHTS


def find_side_conflict(old: str, new: str) -> str | None:
    """One prompt says left and the other right, and both begin with the same thing."""
    before, after = LEFT_OR_RIGHT.findall(old.casefold()), LEFT_OR_RIGHT.findall(new.casefold())
    if len(before) != 1 or len(after) != 1 or before == after or either_is_long(old, new):
        return None
    return explain_difference(before, after) if first_thing(old) == first_thing(new) else None


def first_thing(prompt: str) -> str:
    """The first word that may name a thing; "" if there is none."""
    words = split_words(prompt)
    return next((word for word in words if word not in MINOR_WORDS and word not in COLOURS), "")


VETOES: Mapping[str, Rule] = {
    "number": find_number_conflict,
    "count": find_count_conflict,
    "colour": find_colour_conflict,
    "coloured thing": find_colour_owner_conflict,
    "style": find_style_conflict,
    "opposite": find_opposite,
    "opposite prefix": find_opposite_prefix,
    "age": find_age_conflict,
    "side": find_side_conflict,
    "text": find_text_conflict,
    "symbols": find_symbol_conflict,
    "signs": find_sign_conflict,
    "unread": find_unread_conflict,
}
HINTS: Mapping[str, Rule] = {
    "plural": find_plural_conflict,
    "missing colour": find_missing_colour,
    "negation": find_negation_conflict,
    "missing style": find_missing_style,
    "height": find_height_conflict,
    "name": find_name_conflict,
    "extra word": find_extra_word,
}
