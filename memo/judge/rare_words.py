"""Finds rare words that only one of two prompts has, most of them names.

To the text model "clamberjaw" and "bristleback" are heaps of word pieces that it can hardly tell apart. Such a word
must therefore be in both prompts, or something spelled much like it, since a typo looks the same. Verb forms such as
"congregated" are hardly ever names: they are left to the networks.
"""

import difflib
from collections.abc import Callable, Sequence

from .english import VERB_ENDINGS
from .words import split_words

CountTokens = Callable[[str], int]  # the number of the text model's tokens in a word
SHORTEST = 5  # letters
RARE_TOKENS = 3  # a word of at least so many tokens is rare
SIMILAR_SPELLING = 0.75  # difflib's ratio


def find_rare_word_conflict(old: str, new: str, count_tokens: CountTokens) -> str | None:
    """A reason, like those of the rules, when one prompt has a rare word that the other lacks."""
    if word := find_unknown(new, old, count_tokens):
        return f"does not mention {word!r}"
    if word := find_unknown(old, new, count_tokens):
        return f"mentions {word!r}, which the new prompt does not"
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
    """Whether the known words contain a word, in one piece or in several, or something spelled much like it."""
    return word in joined or bool(difflib.get_close_matches(word, known, 1, SIMILAR_SPELLING))
