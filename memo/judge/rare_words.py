"""Words that a text model does not know whole: names and rare words, which it can hardly tell from each other.

"Clamberjaw" and "bristleback" are heaps of pieces to it. Such a word must stand in both prompts, or something spelled
much like it, since a typo looks the same. Forms of verbs ("congregated") are hardly ever names: the networks decide.
"""

import difflib
from collections.abc import Callable, Sequence

from .rules import words

SHORTEST = 5  # letters
VERBAL = ("ing", "ed")  # how rare words end that are no names
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
    return next((word for word in words(prompt) if strange(word, pieces) and not found(word, known, whole)), None)


def strange(word: str, pieces: Callable[[str], int]) -> bool:
    """Whether it is a rare word that may be a name."""
    return len(word) >= SHORTEST and word.isalpha() and not word.endswith(VERBAL) and pieces(word) >= PIECES


def found(word: str, known: Sequence[str], whole: str) -> bool:
    """Whether these words have it, in one or in parts, or something spelled much like it."""
    return word in whole or bool(difflib.get_close_matches(word, known, 1, SPELLED_ALIKE))
