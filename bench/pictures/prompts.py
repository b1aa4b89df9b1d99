"""The prompts of the picture bench, in a fixed order, and what their pictures must show."""

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
SEEDS = 5  # pictures of one prompt, to measure how much they differ
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
class PicturePrompt:
    """A prompt and what makes its picture correct; "" if the prompt leaves that open.

    `things` are rows of the sprites: the accepted ones, of which the picture needs one, or with a relation the first
    and the second thing. `canvas` is the position of a single thing in real renders.
    """

    text: str
    things: tuple[int, ...]
    count: int = 1
    place: str = ""
    background: str = ""
    colour: str = ""
    relation: str = ""
    canvas: str = "one"


def concepts(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Each thing by its main name, then each thing in a place."""
    for row in random.sample(range(len(sprites)), len(sprites)):
        yield PicturePrompt(add_article(sprites[row].names[0]), (row,))
    for row in random.sample(range(len(sprites)), len(sprites)):
        yield thing_in_place(sprites, row, random.choice(tuple(PLACES)), random)


def thing_in_place(sprites: Sprites, row: int, place: str, random: Random) -> PicturePrompt:
    """A prompt for one thing in one of the places."""
    return PicturePrompt(
        f"{add_article(sprites[row].names[0])} {random.choice(PLACES[place].phrases)}", (row,), place=place
    )


def backgrounds(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Things on a background of each colour in turn; the thing does not have that colour itself."""
    while True:
        for colour in COLOURS:
            row = random.choice([row for row, sprite in enumerate(sprites) if colour not in sprite.colours])
            prompt = f"{add_article(sprites[row].names[0])} on {add_article(colour + ' background')}"
            yield PicturePrompt(prompt, (row,), background=colour)


def places(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Things in each of the places in turn."""
    while True:
        for place in PLACES:
            yield thing_in_place(sprites, random.randrange(len(sprites)), place, random)


def colours(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Things in colours that they do not naturally have."""
    rows = [row for row, sprite in enumerate(sprites) if sprite.colours]
    while True:
        row = random.choice(rows)
        colour = other_colour(random, sprites[row])
        yield PicturePrompt(add_article(in_colour(sprites[row].names[0], colour)), (row,), colour=colour)


def numbers(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """One to four copies of a thing in turn."""
    rows = [row for row, sprite in enumerate(sprites) if all(map(is_countable, sprite.names))]
    while True:
        for count, number in enumerate(NUMBERS, start=1):
            row = random.choice(rows)
            name = sprites[row].names[0]
            yield PicturePrompt(add_article(name) if count == 1 else f"{number} {plural(name)}", (row,), count=count)


def relations(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Two things in each of the four relations in turn."""
    while True:
        for relation in RELATIONS:
            first, second = random.sample(range(len(sprites)), 2)
            names = [add_article(sprites[row].names[0]) for row in (first, second)]
            yield PicturePrompt(f"{names[0]} {relation} {names[1]}", (first, second), relation=relation)


def repeated_prompts(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Prompts repeated SEEDS times: a thing alone, then a thing in a place."""
    for in_place in places(sprites, random):
        row = random.randrange(len(sprites))
        for prompt in (PicturePrompt(add_article(sprites[row].names[0]), (row,)), in_place):
            yield from [prompt] * SEEDS


def unseen(sprites: Sprites, random: Random) -> Iterator[PicturePrompt]:
    """Things by names that the bank does not have."""
    del random
    row_of = {sprite.names[0]: row for row, sprite in enumerate(sprites)}
    for line in UNSEEN.strip().splitlines():
        prompt, _, accepted = line.partition(": ")
        if rows := tuple(row_of[name] for name in accepted.split(", ") if name in row_of):
            yield PicturePrompt(prompt, rows)


KINDS: dict[str, tuple[Callable[[Sprites, Random], Iterator[PicturePrompt]], int]] = {
    # kind: (prompts, default number of pictures)
    "concept": (concepts, 400),
    "background": (backgrounds, 88),
    "place": (places, 96),
    "colour": (colours, 100),
    "count": (numbers, 120),
    "relation": (relations, 120),
    "diversity": (repeated_prompts, 60),
    "unseen": (unseen, 60),
}


def list_prompts(kind: str, sprites: Sprites, limit: int) -> list[PicturePrompt]:
    """The first prompts of a kind, always the same ones: as many as KINDS says, but at most `limit`."""
    prompts, count = KINDS[kind]
    return list(islice(prompts(sprites, Random(kind)), min(limit, count)))


def held_out_rows(count: int, every: int) -> tuple[int, ...]:
    """Rows of the things held out of training: every n-th one, none if `every` is 0."""
    return tuple(range(every - 1, count, every)) if every else ()


def held_out(sprites: Sprites, rows: Iterable[int], limit: int) -> list[PicturePrompt]:
    """Four prompts for each of these things: two of it alone, two of it in a place."""
    random = Random("held out")
    alone = [PicturePrompt(add_article(sprites[row].names[0]), (row,)) for row in rows for _ in range(2)]
    in_places = [thing_in_place(sprites, row, random.choice(tuple(PLACES)), random) for row in rows for _ in range(2)]
    return random.sample(alone + in_places, len(alone + in_places))[:limit]


def known_words(prompt: str, bank: Sprites) -> set[str]:
    """Words of the prompt that occur in a name of the bank, in singular or plural; articles do not count."""
    words = {word for sprite in bank for name in sprite.names for word in split_words(name)}
    words |= {plural(word) for word in words}
    return {word for word in split_words(prompt) if word in words} - {"a", "an", "my", "the"}


def split_words(text: str) -> list[str]:
    """Words in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())
