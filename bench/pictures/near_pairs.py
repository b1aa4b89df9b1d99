"""Pairs of scenes for the bench of near starts: the new one differs from the remembered one in one to four points."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from training.scenes.compose import in_colour, other_colour
from training.scenes.places import COLOURS, PLACES
from worker.stickers.nouns import add_article, is_countable, plural

from .prompts import NUMBERS, RELATIONS, PicturePrompt, Sprites

MOST_CHANGES = 4
COLOURED = 0.4  # share of the single things that have a colour
Change = Callable[[PicturePrompt, Sprites, Random], PicturePrompt]  # changes one point of a scene


@dataclass(frozen=True)
class NearPair:
    """A remembered scene and a new one, which differ in `changed` points."""

    remembered: PicturePrompt
    wanted: PicturePrompt
    changed: tuple[str, ...]


def list_pairs(sprites: Sprites, random: Random) -> Iterator[NearPair]:
    """Endless pairs that differ in one, two, three, four, one, … points."""
    while True:
        for count in range(1, MOST_CHANGES + 1):
            wanted = remembered = draw_scene(sprites, random)
            changed = random.sample(list(changes_of(wanted)), count)
            for point in changed:
                remembered = changes_of(wanted)[point](remembered, sprites, random)
            yield NearPair(write_prompt(remembered, sprites), write_prompt(wanted, sprites), tuple(changed))


def draw_scene(sprites: Sprites, random: Random) -> PicturePrompt:
    """One thing, several of a kind, or two things in a relation, in front of a named background."""
    kind = random.choices(("one", "several", "two"), (0.4, 0.3, 0.3))[0]
    scene = draw_background(PicturePrompt("", ()), sprites, random)
    if kind == "two":
        return draw_relation(replace(scene, things=draw_things(sprites, random, 2)), sprites, random)
    if kind == "several":
        return replace(scene, things=draw_things(sprites, random, 1), count=random.randint(2, len(NUMBERS)))
    scene = replace(scene, things=draw_things(sprites, random, 1))
    return draw_colour(scene, sprites, random) if random.random() < COLOURED else scene


def changes_of(scene: PicturePrompt) -> dict[str, Change]:
    """How each point of a scene is changed, by the point's name."""
    if scene.relation:
        return {
            "thing": draw_first,
            "second thing": draw_second,
            "relation": draw_relation,
            "background": draw_background,
        }
    return {"thing": draw_first, "count": draw_count, "colour": draw_colour, "background": draw_background}


def draw_things(sprites: Sprites, random: Random, count: int) -> tuple[int, ...]:
    """Rows of different things that can be counted."""
    rows = [row for row, sprite in enumerate(sprites) if sprite.colours and all(map(is_countable, sprite.names))]
    return tuple(random.sample(rows, count))


def draw_first(scene: PicturePrompt, sprites: Sprites, random: Random) -> PicturePrompt:
    """The scene with another first thing, or only thing."""
    return replace(scene, things=(draw_other(scene, sprites, random), *scene.things[1:]))


def draw_second(scene: PicturePrompt, sprites: Sprites, random: Random) -> PicturePrompt:
    """The scene with another second thing."""
    return replace(scene, things=(scene.things[0], draw_other(scene, sprites, random)))


def draw_other(scene: PicturePrompt, sprites: Sprites, random: Random) -> int:
    """A thing that is not in the scene."""
    return next(row for row in draw_things(sprites, random, 3) if row not in scene.things)


def draw_count(scene: PicturePrompt, sprites: Sprites, random: Random) -> PicturePrompt:
    """The scene with another number of things."""
    del sprites
    return replace(
        scene, count=random.choice([count for count in range(1, len(NUMBERS) + 1) if count != scene.count])
    )


def draw_colour(scene: PicturePrompt, sprites: Sprites, random: Random) -> PicturePrompt:
    """The scene with its things in another colour that they do not naturally have."""
    while (colour := other_colour(random, sprites[scene.things[0]])) in (scene.colour, scene.background):
        pass
    return replace(scene, colour=colour)


def draw_relation(scene: PicturePrompt, sprites: Sprites, random: Random) -> PicturePrompt:
    """The scene with its two things in another relation."""
    del sprites
    return replace(scene, relation=random.choice([name for name in RELATIONS if name != scene.relation]))


def draw_background(scene: PicturePrompt, sprites: Sprites, random: Random) -> PicturePrompt:
    """The scene in front of another place or coloured background."""
    own = {scene.colour, scene.background} | {colour for row in scene.things for colour in sprites[row].colours}
    if random.random() < 0.6:
        return replace(scene, place=random.choice([name for name in PLACES if name != scene.place]), background="")
    return replace(scene, place="", background=random.choice([name for name in COLOURS if name not in own]))


def write_prompt(scene: PicturePrompt, sprites: Sprites) -> PicturePrompt:
    """The scene with its text."""
    nouns = [sprites[row].names[0] for row in scene.things]
    if scene.relation:
        subject = f"{add_article(nouns[0])} {scene.relation} {add_article(nouns[1])}"
    else:
        noun = in_colour(nouns[0], scene.colour) if scene.colour else nouns[0]
        subject = add_article(noun) if scene.count == 1 else f"{NUMBERS[scene.count - 1]} {plural(noun)}"
    if scene.place:
        return replace(scene, text=f"{subject} {PLACES[scene.place].phrases[0]}")
    return replace(scene, text=f"{subject} on {add_article(scene.background + ' background')}")
