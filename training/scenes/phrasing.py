"""How people phrase a prompt: with articles, numbers, frames around it and typos."""

from random import Random

from worker.stickers.nouns import add_article, plural

NUMBERS = {2: ("two", "2", "a pair of", "a couple of"), 3: ("three", "3"), 4: ("four", "4")}
FRAMES = (
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "an illustration of {}",
    "draw {}",
    "{}, please",
    "a cute {bare}",
    "cute {bare}",
    "a beautiful {bare}",
    "a small picture of {}",
    "{}, cartoon",
    "a photo of {}",
    "i want {}",
    "{}, high quality",
)
STYLE_FRAMES = {
    "3d": ("{}, 3d render", "a 3d {bare}", "{} in 3d"),
    "flat": ("{}, flat style", "a flat {bare}", "flat icon of {}", "{}, flat design"),
    "noto": ("{}, cartoon style", "cartoon of {}"),
    "twemoji": ("{}, simple emoji", "emoji of {}", "{}, clip art"),
}


def with_article(random: Random, noun: str) -> str:
    """Mostly "a fox", sometimes "fox" or "the fox"."""
    chance = random.random()
    if chance < 0.14:
        return noun
    return f"the {noun}" if chance < 0.2 else add_article(noun)


def counted(random: Random, count: int, noun: str) -> str:
    """For example "three foxes"."""
    return f"{random.choice(NUMBERS[count])} {plural(noun)}"


def framed(random: Random, caption: str, style: str = "") -> str:
    """Put the caption into a random frame: "a cute red fox", "a picture of …", "a flat …"."""
    bare = caption
    for article in ("a ", "an ", "the "):
        bare = bare.removeprefix(article)
    frame = random.choice(FRAMES + 2 * STYLE_FRAMES.get(style, ()))
    if "{bare}" in frame and bare == caption:
        return caption
    return frame.format(caption, bare=bare)


def with_typo(random: Random, caption: str) -> str:
    """The caption with a typo in one of its longer words: two letters swapped, one left out or one doubled."""
    words = caption.split(" ")
    long_words = [row for row, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long_words:
        return caption
    row = random.choice(long_words)
    word, at = words[row], random.randrange(1, len(words[row]) - 1)
    words[row] = random.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
        )
    )
    return " ".join(words)
