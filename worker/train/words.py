"""English around a thing's name: articles, plurals, the things people put before a prompt."""

from random import Random

NUMBERS = {2: ("two", "2", "a pair of", "a couple of"), 3: ("three", "3"), 4: ("four", "4")}
IRREGULAR = {
    "fish": "fish",
    "mouse": "mice",
    "snowman": "snowmen",
    "cup of coffee": "cups of coffee",
    "cup of tea": "cups of tea",
    "coffee": "coffees",
    "slice of pizza": "slices of pizza",
    "stack of books": "stacks of books",
}
FRAMES = (
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "an illustration of {}",
    "draw {}",
    "{}, please",
    "{}, 3d render",
    "a 3d {bare}",
    "a cute {bare}",
    "cute {bare}",
    "a beautiful {bare}",
    "a small picture of {}",
    "{}, cartoon",
    "a photo of {}",
)


def with_article(random: Random, noun: str) -> str:
    """Mostly "a fox", sometimes "fox" or "the fox"."""
    chance = random.random()
    if chance < 0.14:
        return noun
    return f"the {noun}" if chance < 0.2 else indefinite(noun)


def indefinite(noun: str) -> str:
    """For example "a fox", "an owl", "a unicorn"."""
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('uni') else 'a'} {noun}"


def counted(random: Random, count: int, noun: str) -> str:
    """For example "three foxes"."""
    return f"{random.choice(NUMBERS[count])} {plural(noun)}"


def plural(noun: str) -> str:
    """Of a name in the concept table."""
    head, _, last = noun.rpartition(" ")
    if noun in IRREGULAR or last in IRREGULAR:
        return IRREGULAR.get(noun) or f"{head} {IRREGULAR[last]}".strip()
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def framed(random: Random, caption: str) -> str:
    """The caption as some people would ask for it: "a cute red fox", "a picture of …"."""
    bare = caption
    for article in ("a ", "an ", "the "):
        bare = bare.removeprefix(article)
    frame = random.choice(FRAMES)
    if "{bare}" in frame and bare == caption:
        return caption
    return frame.format(caption, bare=bare)
