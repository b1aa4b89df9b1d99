"""Handles words that are no single token of the text model: corrects typos, and wants rare words in both prompts.

Typos: "a yelloow oven" asks for what "a yellow oven" shows. Only a letter that was doubled, inserted, dropped or
swapped with the next counts as a typo: another letter may make another word ("stork", "store"). Prompts with quoted
text stay as they are, and so do names, which begin with a capital letter. Words for media are corrected even when the
other prompt lacks them, so that the rule for styles sees them.

Rare words: to the text model "clamberjaw" and "bristleback" are heaps of word pieces that it can hardly tell apart.
So if one prompt has such a word, the other must have it too, or a similar spelling, which may be a typo. Verb
forms such as "congregated" are hardly ever names: they are left to the networks.
"""

import difflib
import re
from collections.abc import Callable, Sequence

from .english import MEDIA_WORDS, VERB_ENDINGS
from .words import explain_difference, quoted_texts, split_words

CountTokens = Callable[[str], int]  # the number of the text model's tokens in a word
SHORTEST = 5  # letters: no shorter word is corrected or counts as rare
RARE_TOKENS = 3  # a word of at least this many tokens is rare
SIMILAR_SPELLING = 0.75  # difflib's ratio


def correct_typos(prompt: str, other: str, count_tokens: CountTokens) -> str:
    """The prompt with its typos corrected; `count_tokens` counts the text model's tokens in a word."""
    if quoted_texts(prompt) or quoted_texts(other):
        return prompt
    words, other_words = set(split_words(prompt)), set(split_words(other))
    known = {*other_words, *MEDIA_WORDS} - words
    candidates = [word for word in known if len(word) >= SHORTEST and word.isalpha()]
    for word in sorted(words - other_words):
        intended = [candidate for candidate in candidates if is_typo(word, candidate)] if word.isalpha() else []
        if len(intended) == 1 and count_tokens(word) > 1 and count_tokens(intended[0]) == 1:
            prompt = re.sub(rf"\b{word}\b", intended[0], prompt)
    return prompt


def is_typo(word: str, intended: str) -> bool:
    """Whether `word` is `intended` with one letter added, dropped or swapped with the next, but not the first."""
    if word[0] != intended[0] or word == intended:
        return False
    if len(word) == len(intended):
        start = next(i for i, pair in enumerate(zip(word, intended, strict=True)) if pair[0] != pair[1])
        stop = start + 2
        return word[start:stop] == intended[start:stop][::-1] and word[stop:] == intended[stop:]
    longer, shorter = sorted((word, intended), key=len, reverse=True)
    inner = range(1, len(longer) - 1)  # not the last letter: an "s" at the end makes a plural
    return any(longer[:i] + longer[i + 1 :] == shorter for i in inner)


def find_rare_word_conflict(old: str, new: str, count_tokens: CountTokens) -> str | None:
    """One prompt has a rare word that the other lacks; the reason is worded like those of `rules`."""
    if word := find_unknown(new, old, count_tokens):
        return explain_difference([], [word])
    if word := find_unknown(old, new, count_tokens):
        return explain_difference([word], [])
    return None


def find_unknown(prompt: str, other: str, count_tokens: CountTokens) -> str | None:
    """The first rare word of the prompt that the other prompt lacks."""
    known = split_words(other)
    joined = "".join(known)
    rare = (word for word in split_words(prompt) if is_rare(word, count_tokens))
    return next((word for word in rare if not is_known(word, known, joined)), None)


def is_rare(word: str, count_tokens: CountTokens) -> bool:
    """Whether a word is rare and may be a name."""
    may_be_name = len(word) >= SHORTEST and word.isalpha() and not word.endswith(VERB_ENDINGS)
    return may_be_name and count_tokens(word) >= RARE_TOKENS


def is_known(word: str, known: Sequence[str], joined: str) -> bool:
    """Whether the known words, also `joined` without spaces, contain a word or something spelled much like it."""
    return word in joined or bool(difflib.get_close_matches(word, known, 1, SIMILAR_SPELLING))
