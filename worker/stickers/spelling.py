"""Corrects plain misspellings of names: one letter in short names, two in long ones, never the first."""

from collections.abc import Callable, Iterable

IsWord = Callable[[str], bool]
SHORTEST, LONG = 5, 7  # letters: one may be wrong in a name of at least SHORTEST, two in one of at least LONG
ENDINGS = ("s", "es", "ed", "ing", "er", "ly", "y")


def find_misspelt_name(word: str, names: Iterable[str], is_word: IsWord) -> str:
    """The name that a word misspells; "" if there is none, or several, or if the word is another word of English."""
    if is_word(word) or any(is_word(word.removesuffix(ending)) for ending in ENDINGS if word.endswith(ending)):
        return ""
    distances = {name: distance for name in names if (distance := misspelling(word, name))}
    closest = [name for name, distance in distances.items() if distance == min(distances.values())]
    return closest[0] if len(closest) == 1 else ""


def misspelling(word: str, name: str) -> int:
    """The number of wrong letters if a word is a plain misspelling of a name, else 0."""
    allowed = (len(name) >= SHORTEST) + (len(name) >= LONG)
    if word[0] != name[0] or abs(len(word) - len(name)) > allowed:
        return 0
    distance = edit_distance(word, name)
    return distance if distance <= allowed else 0


def edit_distance(first: str, second: str) -> int:
    """Letters to insert, drop, replace or swap with the next ("optimal string alignment", Damerau 1964)."""
    rows = [list(range(len(second) + 1))]
    for i, letter in enumerate(first, 1):
        row = [i]
        for j, other in enumerate(second, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]
