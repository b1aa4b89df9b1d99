"""Words that a text model does not know whole: names and rare words, which it can hardly tell from each other.

"Clamberjaw" and "bristleback" are heaps of pieces to it. Such a word must stand in both prompts, or something spelled
much like it, since a typo looks the same.
"""

import difflib
from collections.abc import Callable

from .rules import words

SHORTEST = 5  # letters
PIECES = 3  # from so many on a word is strange
SPELLED_ALIKE = 0.75  # difflib's ratio


def missing(old: str, new: str, pieces: Callable[[str], int]) -> str | None:
    """A reason in words when a strange word of one prompt is not in the other; `pieces` counts those of a word."""
    if word := lacking(new, old, pieces):
        return f"{word!r} is asked for"
    if word := lacking(old, new, pieces):
        return f"it shows {word!r}"
    return None


def lacking(prompt: str, other: str, pieces: Callable[[str], int]) -> str | None:
    """The first strange word that the other prompt does not have."""
    known = words(other)
    whole = "".join(known)
    for word in words(prompt):
        strange = len(word) >= SHORTEST and word.isalpha() and word not in whole and pieces(word) >= PIECES
        if strange and not difflib.get_close_matches(word, known, 1, SPELLED_ALIKE):
            return word
    return None
