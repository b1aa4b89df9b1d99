"""Rules about the wording of prompts: lettering, names, symbols, an extra word, and parts that the model cuts off.

They follow the conventions of `rules`.
"""

import re
import unicodedata

from .english import INVISIBLE_WORDS, LETTERING, NOT_NAMES, STANDING_WORD
from .words import explain_difference, plain_letters, quote, quoted_texts, split_words, visible_words

SHORT_PROMPT = 3  # visible words; in a prompt this short each of them matters
STEM_LETTERS, ENDING_LETTERS = 5, 3  # a name and its derivation share at least 5 letters and differ in at most 3 more
SHORTEST_PART = 3  # letters of each half of a compound word
TYPOGRAPHIC_SIGNS = frozenset(  # signs that hardly ever change a picture
    "©®°™×´¨·•…′″‐‑‒–—―‘’‚‛“”„‟‹›«»¡¿、。〈〉《》「」『』・〜，．：；！？（）"
)
LAST_EUROPEAN_LETTER, RARE_EUROPEAN_LETTERS = "\u017e", "ĸĿŀŉŦŧ"  # the text model has no token for the rare ones
LONGEST_WORD = 100  # letters; the text model takes all longer words for the same unknown one
MODEL_TOKENS = 254  # that the text model reads of a prompt: onnx_embedder.LONGEST_TEXT less two special tokens
TOKEN = re.compile(  # finds at least as many as the model, whose tokens include all letters and these pairs in words
    r"(?<=[a-z])(?:[aeiou][bcdfghjklmnprstyz]|[bcdfghjklmnprstyz][aeiou])|\S"
)


def find_text_conflict(old: str, new: str) -> str | None:
    """The prompts put different texts in quotation marks."""
    before, after = quoted_words(old), quoted_words(new)
    before, after = without_unquoted(before - after, new), without_unquoted(after - before, old)
    if before and after:
        return f"asks for the text {quote(before)}, not {quote(after)}"
    if after:
        return f"does not ask for the text {quote(after)}"
    return f"asks for the text {quote(before)}, which the new prompt does not" if before else None


def quoted_words(prompt: str) -> set[str]:
    """The texts in quotation marks, as words in lower case."""
    return {" ".join(split_words(text)) for text in quoted_texts(prompt)} - {""}


def without_unquoted(texts: set[str], prompt: str) -> set[str]:
    """The texts, without those that the prompt asks for unquoted, as in "a sign that says open"."""
    words = " ".join(split_words(prompt))
    return {text for text in texts if not is_written(re.escape(text), words)}


def is_written(text: str, words: str) -> bool:
    """Whether a word of lettering comes right after a text, or before it with at most two words in between."""
    before, after = rf"\b{LETTERING} (?:\S+ ){{0,2}}{text}(?!\S)", rf"(?<!\S){text} (?:is )?{LETTERING}\b"
    return re.search(rf"{before}|{after}", words) is not None


def find_name_conflict(old: str, new: str) -> str | None:
    """One prompt has a name that the other lacks, whether written with a capital letter or not."""
    before, after = ({word.removesuffix("'s") for word in split_words(prompt)} for prompt in (old, new))
    if added := next((name for name in names(new) if not is_named(name, before)), None):
        return explain_difference([], [added.title()])
    if missing := next((name for name in names(old) if not is_named(name, after)), None):
        return explain_difference([missing.title()], [])
    return None


def names(prompt: str) -> list[str]:
    """The words with a capital letter inside a sentence; none if at least half of the words have one."""
    capitalised = re.findall(r"(?<![.!?:\"“] )(?<!^)(?<=\s)[A-Z][a-z]{2,}\b(?!-)", prompt)
    unusual = [name.casefold() for name in capitalised if name.casefold() not in NOT_NAMES]
    return unusual if len(capitalised) < len(prompt.split()) / 2 else []


def is_named(name: str, words: set[str]) -> bool:
    """Whether the words have a name or its derivation: Africa and African, Japan and Japanese."""
    return name in words or any(
        len(short) >= STEM_LETTERS and long.startswith(short) and len(long) - len(short) <= ENDING_LETTERS
        for short, long in (sorted((name, word), key=len) for word in words)
    )


def find_symbol_conflict(old: str, new: str) -> str | None:
    """The prompts have different signs or rare letters, which the text model confuses or does not know."""
    before, after = symbols(old), symbols(new)
    return explain_difference([before] * bool(before), [after] * bool(after)) if before != after else None


def symbols(prompt: str) -> str:
    """The signs and rare letters of a prompt, in order."""
    composed = unicodedata.normalize("NFC", plain_letters(prompt))
    return "".join(char for char in composed if not char.isascii() and is_symbol(char))


def is_symbol(char: str) -> bool:
    """Whether a character beyond ASCII is a sign, a digit, a non-Latin letter or an unusual Latin one."""
    kind, name = unicodedata.category(char), unicodedata.name(char, "")
    if kind[0] in "SNP":
        return char not in TYPOGRAPHIC_SIGNS
    if kind[0] == "M":
        return not name.startswith(("COMBINING", "VARIATION"))  # accents, and how a pictogram is coloured
    return char.isalpha() and (not name.startswith("LATIN") or is_rare_latin(char))


def is_rare_latin(char: str) -> bool:
    """Whether a Latin letter without its accents, such as a small capital, is in no usual European alphabet."""
    return unicodedata.normalize("NFD", char)[0] > LAST_EUROPEAN_LETTER or char in RARE_EUROPEAN_LETTERS


def find_extra_word(old: str, new: str) -> str | None:
    """One of two short prompts has an extra word: "a train" and "a subway train", "a chair" and "an armchair"."""
    if max(map(count_visible, (old, new))) > SHORT_PROMPT:
        return None
    before, after = content_words(old), content_words(new)
    pose = {STANDING_WORD}
    return find_one_more(before, after, old, new) or find_one_more(before - pose, after - pose, old, new)


def count_visible(prompt: str) -> int:
    """How many visible words a prompt has; a pose that goes without saying does not count."""
    return len(visible_words(prompt)) - visible_words(prompt).count(STANDING_WORD)


def content_words(prompt: str) -> set[str]:
    """The words that name something visible."""
    words = [word.removesuffix("'s") for word in visible_words(prompt)]
    return {word for word in words if word.isalpha()} - INVISIBLE_WORDS


def find_one_more(before: set[str], after: set[str], old: str, new: str) -> str | None:
    """One prompt has all content words of the other and more, or a longer compound in place of a word."""
    lost, added = before - after, after - before
    if before < after or is_compound(added, lost, old):
        return explain_difference([], added)
    if after < before or is_compound(lost, added, new):
        return explain_difference(lost, [])
    return None


def is_compound(words: set[str], others: set[str], prompt: str) -> bool:
    """Whether the only one of `words` ends with the only one of `others`, after a part that the prompt lacks."""
    if len(words) != 1 or len(others) != 1:
        return False
    [long], [short] = words, others
    first_part = long.removesuffix(short)
    long_enough = min(len(short), len(first_part)) >= SHORTEST_PART
    return long_enough and first_part != long and first_part not in visible_words(prompt)


def find_unread_conflict(old: str, new: str) -> str | None:
    """The prompts differ in a word that is too long for the text model, or beyond the part that it reads."""
    if too_long_words(old) != too_long_words(new):
        return (
            f"differs from the new one in a word of over {LONGEST_WORD} letters, which the text model does not read"
        )
    if max(count_tokens(old), count_tokens(new)) <= MODEL_TOKENS:
        return None
    before, after = old.split(), new.split()
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    if max(count_tokens(" ".join(before)), count_tokens(" ".join(after))) <= MODEL_TOKENS:
        return None
    return "differs from the new one beyond the part that the text model reads of such long prompts"


def too_long_words(prompt: str) -> list[str]:
    """The words that are too long for the text model to read, in order."""
    return [word for word in split_words(prompt) if len(word) > LONGEST_WORD]


def count_tokens(text: str) -> int:
    """An upper bound for the number of tokens that the text model makes of a text."""
    return len(TOKEN.findall(unicodedata.normalize("NFD", text).lower()))
