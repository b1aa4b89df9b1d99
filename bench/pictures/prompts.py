"""Prompts with what their pictures must show, in a fixed order. Knows the bank's names; no pictures and no models."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

from training.scenes.compose import in_colour, other_colour
from training.scenes.places import COLOURS, PLACES
from worker.stickers.nouns import add_article, is_countable, plural
from worker.stickers.sprites import Sprite

Sprites = Sequence[Sprite]
NUMBERS = ("one", "two", "three", "four")
RELATIONS = ("to the left of", "above", "to the right of", "below")
SEEDS = 5  # pictures of one prompt, to see how much they differ
UNSEEN = """
my pooch: dog
a mutt: dog
a feline: cat, tiger
a tomcat: cat
a foal: horse
a racehorse: horse
a bovine: cow
a calf: cow
a swine: pig
a hog: pig
a rodent: mouse, squirrel, hamster
a primate: monkey
a chimpanzee: monkey
a doe: deer
a fawn: deer
a reptile: lizard, turtle, snake, crocodile
a python: snake
a cobra: snake
a toad: frog
a duckling: duck
a wasp: bee
a moth: butterfly
a sparrow: bird
a goldfish: fish
an orca: whale
a pachyderm: elephant
a cub: bear, lion
a skyscraper: building
a mansion: house
a fortress: castle
a limousine: car
a tricycle: bicycle
a chopper: helicopter
an airliner: airplane
a dinghy: boat
a schooner: boat
an armchair: chair
a mattress: bed
a loveseat: couch
a telly: television
a macbook: laptop
a fedora: hat
a bowler: hat
a lass: girl, woman
a lad: boy, man
an espresso: cup of coffee
a cappuccino: cup of coffee
a cyborg: robot
a spook: ghost
a sweetie: candy
a cranium: skull
a blade: knife, sword
a rapier: sword
a gateau: cake
a novel: book
a mountaintop: mountain
a shrub: plant, tree
an evergreen: pine tree
a tiara: crown
a bonfire: fire
a warlock: wizard
"""


@dataclass(frozen=True)
class Ask:
    """A prompt and what makes its picture right; "" where nothing is asked.

    `things` are rows of the sprites: the one asked for (any of them will do when the words leave it open), or, with a
    relation, the one that stands there and the other one. `canvas` is where one thing alone is set in real renders.
    """

    prompt: str
    things: tuple[int, ...]
    count: int = 1
    place: str = ""
    background: str = ""
    colour: str = ""
    relation: str = ""
    canvas: str = "one"


def concepts(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """Each thing by its own name, then each somewhere."""
    for row in random.sample(range(len(sprites)), len(sprites)):
        yield Ask(add_article(sprites[row].names[0]), (row,))
    for row in random.sample(range(len(sprites)), len(sprites)):
        yield somewhere(sprites, row, random.choice(tuple(PLACES)), random)


def somewhere(sprites: Sprites, row: int, place: str, random: Random) -> Ask:
    """One thing in one of the places."""
    return Ask(f"{add_article(sprites[row].names[0])} {random.choice(PLACES[place].phrases)}", (row,), place=place)


def backgrounds(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """Things of other colours before each of the colours in turn."""
    while True:
        for colour in COLOURS:
            row = random.choice([row for row, sprite in enumerate(sprites) if colour not in sprite.colours])
            prompt = f"{add_article(sprites[row].names[0])} on {add_article(colour + ' background')}"
            yield Ask(prompt, (row,), background=colour)


def places(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """Things in each of the places in turn."""
    while True:
        for place in PLACES:
            yield somewhere(sprites, random.randrange(len(sprites)), place, random)


def colours(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """Things in colours that they do not have by nature."""
    rows = [row for row, sprite in enumerate(sprites) if sprite.colours]
    while True:
        row = random.choice(rows)
        colour = other_colour(random, sprites[row])
        yield Ask(add_article(in_colour(sprites[row].names[0], colour)), (row,), colour=colour)


def numbers(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """One to four of the same in turn."""
    rows = [row for row, sprite in enumerate(sprites) if all(map(is_countable, sprite.names))]
    while True:
        for count, number in enumerate(NUMBERS, start=1):
            row = random.choice(rows)
            name = sprites[row].names[0]
            yield Ask(add_article(name) if count == 1 else f"{number} {plural(name)}", (row,), count=count)


def relations(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """Two things in each of the four relations in turn."""
    while True:
        for relation in RELATIONS:
            one, other = random.sample(range(len(sprites)), 2)
            names = [add_article(sprites[row].names[0]) for row in (one, other)]
            yield Ask(f"{names[0]} {relation} {names[1]}", (one, other), relation=relation)


def same_again(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """The same prompt a few times: alone, somewhere, several."""
    for first in places(sprites, random):
        row = random.randrange(len(sprites))
        for ask in (Ask(add_article(sprites[row].names[0]), (row,)), first):
            yield from [ask] * SEEDS


def unseen(sprites: Sprites, random: Random) -> Iterator[Ask]:
    """Things under names that are not the bank's."""
    del random
    row_of = {sprite.names[0]: row for row, sprite in enumerate(sprites)}
    for line in UNSEEN.strip().splitlines():
        prompt, _, accepted = line.partition(": ")
        if rows := tuple(row_of[name] for name in accepted.split(", ") if name in row_of):
            yield Ask(prompt, rows)


KINDS: dict[str, tuple[Callable[[Sprites, Random], Iterator[Ask]], int]] = {
    # kind: (what is asked, how many pictures when nothing else is said)
    "concept": (concepts, 400),
    "background": (backgrounds, 88),
    "place": (places, 96),
    "colour": (colours, 100),
    "count": (numbers, 120),
    "relation": (relations, 120),
    "diversity": (same_again, 60),
    "unseen": (unseen, 60),
}


def asked(kind: str, sprites: Sprites, most: int) -> list[Ask]:
    """The first asks of a kind, always the same; `most` is a limit below the usual number."""
    asks, usual = KINDS[kind]
    return list(islice(asks(sprites, Random(kind)), min(most, usual)))


def held_out_rows(count: int, every: int) -> tuple[int, ...]:
    """Rows of the things that training left out."""
    return tuple(range(every - 1, count, every)) if every else ()


def held_out(sprites: Sprites, rows: Iterable[int], most: int) -> list[Ask]:
    """Four pictures of each of these things: twice alone, twice somewhere."""
    random = Random("held out")
    alone = [Ask(add_article(sprites[row].names[0]), (row,)) for row in rows for _ in range(2)]
    out = [somewhere(sprites, row, random.choice(tuple(PLACES)), random) for row in rows for _ in range(2)]
    return random.sample(alone + out, len(alone + out))[:most]


def known_words(prompt: str, bank: Sprites) -> set[str]:
    """The prompt's words that occur in a name of the bank, also in another number; articles do not count."""
    words = {word for sprite in bank for name in sprite.names for word in split(name)}
    words |= {plural(word) for word in words}
    return {word for word in split(prompt) if word in words} - {"a", "an", "my", "the"}


def split(text: str) -> list[str]:
    """Words in small letters."""
    return re.findall(r"[a-z0-9]+", text.lower())
