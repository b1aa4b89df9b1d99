"""Strips a remembered prompt of details that a picture may show although the new prompt does not ask for them.

The picture of "a red fox sitting in deep snow at dusk" serves a request for "a fox in snow", but never the other way
round. Qualities, natural colours, poses, places, times and light can be stripped. Other things, numbers, styles,
names, negations and quoted text never are, so that a judge that looks for equal meaning can decide on the rest.
"""

import re
from itertools import compress, pairwise

from .english import (
    COMPOUNDS,
    HARMLESS_ADJECTIVES,
    PHRASE_FILLERS,
    PLACE_ADJECTIVES,
    PLACES_AND_TIMES,
    POSES,
    PRAISE,
    PREPOSITIONS,
)
from .words import split_words

TOKEN = re.compile(r"[\w'’-]+|[^\w\s]")


def strip_harmless_extras(old: str, wanted: str) -> tuple[str, list[str]]:
    """The remembered prompt without its harmless extras, and the extras; if there are none, all of it and []."""
    if re.search(r"[\"“”]", old):
        return old, []
    wanted_words = set(split_words(wanted)) | {stem(word) for word in split_words(wanted)}
    remaining, extras = [], []
    for number, phrase in enumerate(split_phrases(old)):
        if number and is_harmless_phrase(phrase, wanted_words):
            extras.append(" ".join(phrase).strip(" ,"))
        else:
            pairs = pairwise([*phrase, ""])
            harmless = [is_harmless_word(word, following, wanted_words) for word, following in pairs]
            extras += compress(phrase, harmless)
            remaining += [word for word, strip in zip(phrase, harmless, strict=True) if not strip]
    text = re.sub(r"\s+([,.;!?])", r"\1", " ".join(remaining)).strip(" ,")
    return (text, extras) if extras and split_words(text) else (old, [])


def split_phrases(prompt: str) -> list[list[str]]:
    """The words and punctuation marks of each phrase; a phrase begins with a preposition, "and" or a comma."""
    phrases: list[list[str]] = [[]]
    openers = PREPOSITIONS | {"and", ","}
    for word in TOKEN.findall(prompt):
        phrase = phrases[-1]
        continues_opener = len(phrase) == 1 and phrase[0].casefold() in openers  # "next to", ", in"
        if word.casefold() in openers and phrase and not continues_opener:
            phrases.append([])
        phrases[-1].append(word)
    return phrases


def is_harmless_phrase(phrase: list[str], wanted_words: set[str]) -> bool:
    """Whether a phrase is praise, or names only a place, a time or light that the new prompt does not mention."""
    words = [word.casefold() for word in phrase]
    if words[0] == "and":
        return False
    if words[0] == "," and " ".join(words[1:]) in PRAISE:
        return True
    content = [word for word in words if word.isalpha() and word not in PHRASE_FILLERS | PREPOSITIONS]
    if not content or any(word in wanted_words or stem(word) in wanted_words for word in content):
        return False
    allowed = PLACES_AND_TIMES | HARMLESS_ADJECTIVES | POSES | PLACE_ADJECTIVES
    return content[-1] in PLACES_AND_TIMES and all(word in allowed for word in content)


def is_harmless_word(word: str, following: str, wanted_words: set[str]) -> bool:
    """Whether a word merely describes, is not in the new prompt, and makes no compound with the following word."""
    word, noun = word.casefold(), following.casefold()
    if f"{word} {noun}" in COMPOUNDS or f"{word} {noun.removesuffix('s')}" in COMPOUNDS:
        return False
    return word in HARMLESS_ADJECTIVES | POSES and word not in wanted_words and stem(word) not in wanted_words


def stem(word: str) -> str:
    """A rough word stem: equal for snowy and snow, woods and wood, sitting and sit."""
    for ending in ("ing", "es", "s", "y"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return re.sub(r"(.)\1$", r"\1", word.removesuffix(ending))
    return word
