"""Corrects typos: a word that the text model does not know whole becomes the other prompt's word that it knows.

"A yelloow oven" asks for what "a yellow oven" shows. Only a letter that was doubled, inserted, dropped or swapped
with the next counts as a typo: another letter may make another word ("stork", "store"). Prompts with quoted text stay
as they are, and so do names, which begin with a capital letter. Words for media are corrected even when the other
prompt lacks them, so that the rule for styles sees them.
"""

import re
from collections.abc import Callable

from .english import MEDIA_WORDS
from .words import quoted_texts, split_words

SHORTEST = 5  # letters


def correct_typos(prompt: str, other: str, count_tokens: Callable[[str], int]) -> str:
    """The prompt with its typos corrected; `count_tokens` counts the text model's tokens in a word."""
    if quoted_texts(prompt) or quoted_texts(other):
        return prompt
    words, other_words = set(split_words(prompt)), set(split_words(other))
    candidates = [word for word in {*other_words, *MEDIA_WORDS} - words if len(word) >= SHORTEST and word.isalpha()]
    for word in sorted(words - other_words):
        meant = [candidate for candidate in candidates if is_typo(word, candidate)] if word.isalpha() else []
        if len(meant) == 1 and count_tokens(word) > 1 and count_tokens(meant[0]) == 1:
            prompt = re.sub(rf"\b{word}\b", meant[0], prompt)
    return prompt


def is_typo(word: str, meant: str) -> bool:
    """Whether `word` has one letter more or less than `meant`, or two neighbours swapped; never the first letter."""
    if word[0] != meant[0] or word == meant:
        return False
    if len(word) == len(meant):
        at = next(row for row, pair in enumerate(zip(word, meant, strict=True)) if pair[0] != pair[1])
        return word[at : at + 2] == meant[at : at + 2][::-1] and word[at + 2 :] == meant[at + 2 :]
    longer, shorter = sorted((word, meant), key=len, reverse=True)
    inner = range(1, len(longer) - 1)  # not the last letter: an "s" at the end makes a plural
    return any(longer[:row] + longer[row + 1 :] == shorter for row in inner)
