"""Splits prompts into words, and puts the words in which two prompts differ into a phrase."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache

from .english import (
    CAPITAL_MEANINGS,
    CAPITALISED,
    CARDINALS,
    COLOURS,
    EMOTICON,
    FRACTION,
    NEGATIVE,
    NOT_STANDING,
    OPERATOR,
    PRAISE,
    REQUEST_PHRASE,
    STANDING,
    UNSIGNED,
)

CACHED_PROMPTS = 1024  # a new prompt is compared with many remembered ones, so each would be split many times
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']{2,})'(?!\w)")
VISIBLE = re.compile(rf"{WORD.pattern}|(?<=\w)-(?=\w)|[^\w\s.,;:!?()\"'“”‘’…–—-]")  # man-eating, C#, 50%, emoji

EMPHASIS = re.compile(  # as AUTOMATIC1111 and others write it: (fox:1.2), [fox], {fox}; not choices or prompt editing
    r"(?<!\\)(?:\(([^][(){}:]*+): ?(\d?\.\d{1,4}|\d)\)|\[([^][{}:|]*+)\]|\{([^][{}:|]*+)\})"
)
EMPHASIS_WEIGHTS = (0.5, 2.0)  # smaller and larger ones change what is seen
ESCAPED = re.compile(r"\\([][(){}])")


@lru_cache(CACHED_PROMPTS)
def without_emphasis(prompt: str) -> str:
    """The prompt without brackets and weights that only stress some of its words: "(a fox:1.2)" → "a fox"."""
    while (plain := EMPHASIS.sub(stressed_words, prompt)) != prompt:
        prompt = plain
    return ESCAPED.sub(r"\1", prompt)


def stressed_words(match: re.Match[str]) -> str:
    """The words in brackets; all of the match if their weight does more than stress them."""
    words, weight, *others = match.groups()
    least, most = EMPHASIS_WEIGHTS
    if weight and not least <= float(weight) <= most:
        return match[0]
    return words or next(filter(None, others), "")


@lru_cache(CACHED_PROMPTS)
def plain_text(prompt: str) -> str:
    """The prompt as the text model should read it: in plain letters and without emphasis."""
    return without_emphasis(plain_letters(prompt))


def spell_numbers(prompt: str, other: str) -> str:
    """The prompt with those numbers in words that the other prompt has in words: "2 dogs" beside "two dogs"."""
    if quoted_texts(prompt) or quoted_texts(other):
        return prompt
    for word in CARDINALS.keys() & set(split_words(other)):
        prompt = re.sub(rf"(?<![\w.:/-]){CARDINALS[word]}(?![\w.:/-])", word, prompt)
    return prompt


def plain_letters(prompt: str) -> str:
    """The prompt with Latin ligatures and full-width letters in ASCII, since the text model does not know them."""
    return prompt if prompt.isascii() else "".join(map(plain_letter, prompt))


def plain_letter(char: str) -> str:
    """The ASCII letters or digit of a ligature or full-width form (NFKC); other characters as they are."""
    plain = unicodedata.normalize("NFKC", char)
    return plain if plain.isascii() and plain.isalnum() and is_latin_form(char) else char


def is_latin_form(char: str) -> bool:
    """Whether a character is a Latin letter or a full-width form, not a circled letter or an exponent."""
    return unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH"))


@lru_cache(CACHED_PROMPTS)
def split_words(prompt: str) -> tuple[str, ...]:
    """The words of a prompt in order, in lower case."""
    return tuple(WORD.findall(prompt.casefold().replace("’", "'")))


def quoted_texts(prompt: str) -> list[str]:
    """The texts in quotation marks, exactly as they are written."""
    return ["".join(parts) for parts in QUOTED.findall(prompt)]


@lru_cache(CACHED_PROMPTS)
def visible_words(prompt: str) -> tuple[str, ...]:
    """The words that ask for something visible, in order.

    Polite phrases, articles and praise after a comma are left out, and so is "standing" on the ground, the default
    pose.
    """
    text = " ".join(plain_text(prompt).casefold().replace("’", "'").split()).strip(" .!?")
    request, *tags = (part.strip() for part in text.split(","))
    subject = REQUEST_PHRASE.sub("", f"{request} ").strip() or request
    text = ", ".join([subject, *(tag for tag in tags if tag not in PRAISE)])
    text = text if NOT_STANDING.search(text) else STANDING.sub(" ", text)
    words = [word for word in VISIBLE.findall(text) if word not in ("a", "an", "the", "please")]
    return tuple(COLOURS.get(word, word) for word in words)


def same_words(old: str, new: str) -> bool:
    """Whether two prompts have the same visible words in order, quote the same texts and have no sign conflict."""
    same_visible = bool(visible_words(old)) and visible_words(old) == visible_words(new)
    return same_visible and quoted_texts(old) == quoted_texts(new) and not find_sign_conflict(old, new)


def find_sign_conflict(old: str, new: str) -> str | None:
    """The prompts differ in what `split_words` leaves out: emoticons, comparisons, a capital letter or a minus sign.

    Only a capital letter that changes the meaning counts: "a Polish flag" and "a polish flag".
    """
    for signs in (emoticons, operators, FRACTION.findall):
        before, after = signs(old), signs(new)
        if before and after and before != after:
            return f"has the signs {' '.join(before)}, not {' '.join(after)}"
    if word := find_capital(old, new):
        return f"says {word.title()!r}, not {word!r}"
    if word := find_capital(new, old):
        return f"says {word!r}, not {word.title()!r}"
    if number := find_negative(old, new):
        return f"says -{number}, not {number}"
    if number := find_negative(new, old):
        return f"says {number}, not -{number}"
    return None


def emoticons(prompt: str) -> list[str]:
    """The emoticons of a prompt, such as ":)", in order."""
    return EMOTICON.findall(plain_text(prompt))


def operators(prompt: str) -> list[str]:
    """The signs between numbers or single letters, in order."""
    return ["".join(parts) for parts in OPERATOR.findall(prompt.casefold())]


def find_capital(prompt: str, other: str) -> str | None:
    """A word that means another thing because it has a capital letter in the prompt and none in the other one."""
    capitalised = CAPITALISED.findall(prompt)
    if 2 * len(capitalised) >= len(prompt.split()):  # written Like a Title
        return None
    names = {word.casefold() for word in capitalised} & CAPITAL_MEANINGS
    return min(names & set(WORD.findall(other)), default=None)


def find_negative(prompt: str, other: str) -> str | None:
    """A number that is negative in the prompt and only positive in the other one."""
    negative, others = set(NEGATIVE.findall(prompt.casefold())), other.casefold()
    only_positive = set(UNSIGNED.findall(others)) - set(NEGATIVE.findall(others))
    return min(negative & only_positive, default=None)


def join_words(parts: Iterable[str] | Iterable[int]) -> str:
    """The parts as a phrase, sorted: "a and b"."""
    return " and ".join(map(str, sorted(parts)))


def quote(parts: Iterable[str]) -> str:
    """The parts in quotation marks as a phrase, sorted: "'a' and 'b'"."""
    return " and ".join(map(repr, sorted(parts)))


def explain_difference(missing: Collection[str], added: Collection[str]) -> str | None:
    """A reason that quotes the words which only the old prompt has (`missing`) or only the new one (`added`).

    None if there are no such words.
    """
    if missing and added:
        return f"says {quote(missing)}, not {quote(added)}"
    if added:
        return f"does not mention {quote(added)}"
    return f"mentions {quote(missing)}, which the new prompt does not" if missing else None
