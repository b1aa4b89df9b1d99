"""Slips of the finger: a word that the text model does not know whole, for one of the other prompt's that it knows.

"A yelloow oven" asks for what "a yellow oven" shows. Only letters that were doubled, dropped or exchanged are slips:
one letter in another's place may make another word ("stork", "store"). Names, which begin with a capital letter, and
what stands in quotation marks stay as they are. Media are known by themselves, for the rule of styles to see them.
"""

import re
from collections.abc import Callable

from .rules import letters, words

SHORTEST = 5  # letters
MEDIA = ("drawing", "painting", "rendering")  # others are strange words when misspelt, and these are taken for verbs


def mended(prompt: str, other: str, pieces: Callable[[str], int]) -> str:
    """The prompt with its misspelt words as they are meant; `pieces` counts the text model's of a word."""
    if letters(prompt) or letters(other):
        return prompt
    here, there = set(words(prompt)), set(words(other))
    known = [word for word in {*there, *MEDIA} - here if len(word) >= SHORTEST and word.isalpha()]
    for word in sorted(here - there):
        if word.isalpha() and (meant := [one for one in known if slip(word, one)]) and pieces(word) > 1:
            if len(meant) == 1 and pieces(meant[0]) == 1:
                prompt = re.sub(rf"\b{word}\b", meant[0], prompt)
    return prompt


def slip(word: str, meant: str) -> bool:
    """Whether one letter of a word was doubled or put in, dropped, or exchanged with the next; never the first."""
    if word[0] != meant[0] or word == meant:
        return False
    if len(word) == len(meant):
        at = next(row for row, pair in enumerate(zip(word, meant, strict=True)) if pair[0] != pair[1])
        return word[at : at + 2] == meant[at : at + 2][::-1] and word[at + 2 :] == meant[at + 2 :]
    longer, shorter = sorted((word, meant), key=len, reverse=True)
    inner = range(1, len(longer) - 1)  # an "s" behind is a plural
    return any(longer[:row] + longer[row + 1 :] == shorter for row in inner)
