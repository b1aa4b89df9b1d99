"""Pairs of prompts whose label is certain: one meaning in two wordings, or two meanings that differ in one point.

A `Meaning` holds things with their numbers, colours, qualities and poses, the link between them, a setting and a
style. `write_prompt` words a meaning at random; each of `EDITS` changes one point of it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from memo.judge.labelled_pairs import Pair
from worker.stickers.nouns import add_article, plural

from .lexicon import (
    AND_FORMS,
    ANIMALS,
    ANIMATE,
    COLOURS,
    FOOD,
    FRAMES,
    FURNITURE,
    NUMBER_WORDS,
    OBJECTS,
    OPPOSITES,
    PEOPLE,
    PHOTO_STYLE,
    POSES,
    QUALITIES,
    RELATIONS,
    SCENERY,
    SETTINGS,
    SIMILAR_QUALITIES,
    SIMILAR_RELATIONS,
    SIMILAR_SETTINGS,
    SMALL,
    STYLES,
    SYMMETRIC,
    TAGS,
    VEHICLES,
    VERBS,
    Forms,
    Verb,
)

T = TypeVar("T")
NOUN_GROUPS = (PEOPLE, ANIMALS, VEHICLES, FURNITURE, SMALL, FOOD, SCENERY)


@dataclass(frozen=True, slots=True)
class Thing:
    """`count` things of one kind; `noun` lists names with the same meaning."""

    noun: Forms
    count: int = 1
    colour: str = ""
    quality: str = ""
    pose: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a picture should show. `link`: "and", "without", the name of a relation or a verb, or "" for one thing."""

    things: tuple[Thing, ...]
    link: str = ""
    setting: str = ""
    style: str = ""


class NothingToEdit(Exception):
    """Raised by an edit that finds nothing to change."""


def draw_meaning(random: Random) -> Meaning:
    """Draw a random meaning."""
    shape = random.choices(("one", "and", "relation", "verb", "without", "three"), (3, 3, 3, 3.5, 0.6, 1))[0]
    setting = random.choice(tuple(SETTINGS)) if random.random() < 0.4 else ""
    style = random.choice(tuple(STYLES)) if random.random() < 0.15 else ""
    if shape == "one":
        return Meaning((draw_thing(random, posed=0.5),), "", setting, style)
    if shape == "three":
        return Meaning(draw_distinct_things(random, 3), "and", setting, style)
    if shape == "verb":
        return draw_action(random, setting, style)
    link = random.choice(tuple(RELATIONS)) if shape == "relation" else shape
    return Meaning(draw_distinct_things(random, 2), link, setting, style)


def draw_distinct_things(random: Random, count: int) -> tuple[Thing, ...]:
    """Random things with different nouns."""
    things: list[Thing] = []
    while len(things) < count:
        new = draw_thing(random)
        if new.noun not in [thing.noun for thing in things]:
            things.append(new)
    return tuple(things)


def draw_thing(random: Random, *, posed: float = 0.12) -> Thing:
    """A random thing; people and animals have a pose with probability `posed`."""
    group = random.choices((PEOPLE, ANIMALS, OBJECTS), (1, 1.2, 2))[0]
    count = random.choices((1, 2, 3, 4, 5, 6), (12, 2, 1.5, 1, 0.5, 0.3))[0]
    colour = random.choice(COLOURS) if group is not PEOPLE and random.random() < 0.35 else ""
    quality = random.choice(QUALITIES[quality_group(group)]) if random.random() < 0.25 else ""
    pose = random.choice(tuple(POSES)) if group is not OBJECTS and random.random() < posed else ""
    return Thing(random.choice(group), count, colour, quality, pose)


def quality_group(group: tuple[Forms, ...]) -> str:
    """The key in QUALITIES for a group of nouns."""
    return "people" if group is PEOPLE else "animals" if group is ANIMALS else "objects"


def draw_action(random: Random, setting: str, style: str) -> Meaning:
    """A meaning in which someone does something to someone or something; the roles could often be swapped."""
    name = random.choice(tuple(VERBS))
    verb = VERBS[name]
    doer = replace(
        draw_thing(random), noun=random.choice(random.choice((PEOPLE, ANIMALS)) if verb.animals_too else PEOPLE)
    )
    target = replace(draw_thing(random), noun=random.choice(verb.objects))
    if doer.noun == target.noun:
        return draw_action(random, setting, style)
    doer, target = (
        replace(thing, pose="", colour="" if thing.noun in PEOPLE else thing.colour) for thing in (doer, target)
    )
    qualities = [QUALITIES["people" if thing.noun in PEOPLE else "animals"] for thing in (doer, target)]
    doer, target = (
        replace(thing, quality=random.choice(known) if thing.quality else "")
        for thing, known in zip((doer, target), qualities, strict=True)
    )
    return Meaning((doer, target), name, setting, style)


# --- wording


def write_prompt(random: Random, meaning: Meaning) -> str:
    """A prompt with this meaning, in a random wording."""
    text = write_clause(random, meaning)
    if meaning.setting:
        where = random.choice(SETTINGS[meaning.setting])
        text = f"{where}, {text}" if random.random() < 0.2 else f"{text} {where}"
    if meaning.style:
        text = random.choice(STYLES[meaning.style]).format(text)
    elif random.random() < 0.12:
        text = random.choice(FRAMES).format(text)
    if random.random() < 0.08:
        text = f"{text}, {', '.join(random.sample(TAGS, random.choice((1, 1, 2, 3))))}"
    return finish_sentence(random, text)


def finish_sentence(random: Random, text: str) -> str:
    """The text with or without a capital letter and a full stop."""
    if random.random() < 0.3:
        text = text[0].upper() + text[1:]
    return f"{text}." if random.random() < 0.2 else text


def write_clause(random: Random, meaning: Meaning) -> str:
    """The things and the link between them in words."""
    if meaning.link in VERBS:
        return write_action(random, meaning.things[0], meaning.things[1], VERBS[meaning.link])
    if meaning.link in RELATIONS:
        return write_relation(random, meaning.things[0], meaning.things[1], meaning.link)
    if meaning.link == "without":
        first, second = noun_phrase(random, meaning.things[0]), noun_phrase(random, meaning.things[1])
        bare = random.choice(("with no {}", "without any {}", "that has no {}"))
        return (
            f"{first} without {second}"
            if random.random() < 0.5
            else f"{first} {bare.format(bare_plural(random, meaning.things[1]))}"
        )
    named = [noun_phrase(random, thing) for thing in shuffled(random, meaning.things)]
    if len(named) == 1:
        text = named[0]
        return f"there {'is' if meaning.things[0].count == 1 else 'are'} {text}" if random.random() < 0.06 else text
    if len(named) == 2:
        return random.choice(AND_FORMS).format(*named)
    return f"{named[0]}, {named[1]} and {named[2]}"


def shuffled(random: Random, things: tuple[Thing, ...]) -> list[Thing]:
    """The things in a random order."""
    return random.sample(things, len(things))


def noun_phrase(random: Random, thing: Thing) -> str:
    """For example "two small red cars", "a car that is red", "a dog sleeping"."""
    noun = random.choice(thing.noun)
    before, behind = split_modifiers(random, thing)
    head = " ".join([*before, noun if thing.count == 1 else plural(noun)])
    return " ".join([add_determiner(random, head, thing.count), *behind])


def bare_plural(random: Random, thing: Thing) -> str:
    """A plural without a number, for things that are absent: "red cars"."""
    before = [part for part in (thing.quality, thing.colour) if part]
    return " ".join([*before, plural(random.choice(thing.noun))])


def add_determiner(random: Random, head: str, count: int) -> str:
    """The noun phrase with an article or a number before it."""
    if count > 1:
        if count == 2 and random.random() < 0.12:
            return f"{random.choice(('a pair of', 'a couple of'))} {head}"
        number = str(count) if random.random() < 0.2 else NUMBER_WORDS[count]
        return f"{'the ' if random.random() < 0.08 else ''}{number} {head}"
    article = random.choices(("a", "the", "one", ""), (80, 14, 2, 4))[0]
    return add_article(head) if article == "a" else f"{article} {head}".strip()


def split_modifiers(random: Random, thing: Thing) -> tuple[list[str], list[str]]:
    """The words before the noun, and the words after it."""
    before, behind = [part for part in (thing.quality, thing.colour) if part], []
    be = "is" if thing.count == 1 else "are"
    if before and not thing.pose and random.random() < 0.15:
        that = random.choice((f"that {be}", f"which {be}"))
        before, behind = [], [f"{that} {' and '.join(before)}"]
    elif thing.colour and random.random() < 0.06:
        before = [part if part != thing.colour else f"{part}-colored" for part in before]
    if thing.pose:
        forms = POSES[thing.pose]
        if random.random() < 0.15 and " " not in forms[0]:
            before = [forms[0], *before]
        else:
            behind.append(random.choice(("{}", "{}", f"{be} {{}}", f"that {be} {{}}")).format(random.choice(forms)))
    return before, behind


def write_action(random: Random, doer: Thing, target: Thing, verb: Verb) -> str:
    """Who does what to whom, in the active or the passive voice."""
    who, whom = noun_phrase(random, doer), noun_phrase(random, target)
    does = verb.third if doer.count == 1 else verb.base
    is_, was = ("is" if thing.count == 1 else "are" for thing in (doer, target))
    active = (f"{who} {verb.ing} {whom}", f"{who} {is_} {verb.ing} {whom}", f"{who} {does} {whom}")
    cleft = (f"{who} that {is_} {verb.ing} {whom}", f"{who} who {does} {whom}" if doer.noun in PEOPLE else "")
    passive = (
        f"{whom} being {verb.participle} by {who}",
        f"{whom} {was} being {verb.participle} by {who}",
        f"{whom} {was} {verb.participle} by {who}",
        f"{whom} {verb.participle} by {who}",
    )
    relative = (
        f"{whom} that {who} {is_} {verb.ing}",
        f"{whom} with {who} {verb.ing} {'it' if target.count == 1 else 'them'}",
    )
    kind = random.choices((active, cleft, passive, relative), (6, 0.6, 4, 0.5))[0]
    return random.choice([form for form in kind if form])


def write_relation(random: Random, first: Thing, second: Thing, relation: str) -> str:
    """Where the first thing is relative to the second, or the second relative to the first."""
    if relation in SYMMETRIC:
        first, second = shuffled(random, (first, second))
    elif random.random() < 0.35:
        return write_converse(random, first, second, relation)
    be = "is" if first.count == 1 else "are"
    how = random.choice(RELATIONS[relation])
    link = random.choice((how, how, f"{be} {how}", f"positioned {how}", f"that {be} {how}"))
    return f"{noun_phrase(random, first)} {link} {noun_phrase(random, second)}"


def write_converse(random: Random, first: Thing, second: Thing, relation: str) -> str:
    """The same relation, seen from the second thing."""
    first_phrase, second_phrase = noun_phrase(random, first), noun_phrase(random, second)
    be, it = ("is" if second.count == 1 else "are"), ("it" if second.count == 1 else "them")
    if relation == "on":
        return f"{second_phrase} with {first_phrase} on {random.choice((it, f'top of {it}', 'top'))}"
    if relation == "in":
        return random.choice(
            (
                f"{second_phrase} with {first_phrase} in {it}",
                f"{second_phrase} with {first_phrase} inside",
                f"{second_phrase} containing {first_phrase}",
            )
        )
    how = random.choice(RELATIONS[OPPOSITES[relation]])
    return f"{second_phrase} {random.choice((how, how, f'{be} {how}'))} {first_phrase}"


# --- edits, which change the meaning


def choose_other(random: Random, values: Iterable[T], old: T, similar: Sequence[Set[T]] = ()) -> T:
    """A random one of the values that is neither `old` nor similar to it; raises NothingToEdit if there is none."""
    others = [value for value in values if value != old and not any({value, old} <= group for group in similar)]
    if not others:
        raise NothingToEdit
    return random.choice(others)


def choose_row(random: Random, meaning: Meaning, fits: Callable[[Thing], bool] = lambda _: True) -> int:
    """The row of a random thing that fits; raises NothingToEdit if none does."""
    rows = [row for row, thing in enumerate(meaning.things) if fits(thing)]
    if not rows:
        raise NothingToEdit
    return random.choice(rows)


def change_thing(meaning: Meaning, row: int, **values: Any) -> Meaning:
    """The meaning with one thing changed."""
    things = list(meaning.things)
    things[row] = replace(things[row], **values)
    return replace(meaning, things=tuple(things))


def noun_group(noun: Forms) -> tuple[Forms, ...]:
    """The group that a noun belongs to."""
    return next(group for group in NOUN_GROUPS if noun in group)


def replace_thing(random: Random, meaning: Meaning) -> Meaning:
    """Replace a noun with another one of its group."""
    row = choose_row(random, meaning)
    taken = {thing.noun for thing in meaning.things}
    group = [
        noun
        for noun in noun_group(meaning.things[row].noun)
        if noun not in taken and not may_look_alike(noun, meaning.things[row].noun)
    ]
    return change_thing(meaning, row, noun=random.choice(group))


def may_look_alike(noun: Forms, other: Forms) -> bool:
    """Whether a picture of one noun may pass for a picture of the other: "man" and "old man"."""
    return any(set(a.split()) & set(b.split()) for a in noun for b in other) or any(
        {noun[0], other[0]} <= group for group in SIMILAR_NOUNS
    )


def replace_colour(random: Random, meaning: Meaning) -> Meaning:
    """Replace a colour with another one."""
    row = choose_row(random, meaning, lambda thing: bool(thing.colour))
    return change_thing(
        meaning, row, colour=choose_other(random, COLOURS, meaning.things[row].colour, SIMILAR_COLOURS)
    )


def replace_quality(random: Random, meaning: Meaning) -> Meaning:
    """Replace a quality with another one."""
    row = choose_row(random, meaning, lambda thing: bool(thing.quality))
    known = next(group for group in QUALITIES.values() if meaning.things[row].quality in group)
    return change_thing(
        meaning, row, quality=choose_other(random, known, meaning.things[row].quality, SIMILAR_QUALITIES)
    )


def replace_pose(random: Random, meaning: Meaning) -> Meaning:
    """Replace a pose with another one."""
    row = choose_row(random, meaning, lambda thing: bool(thing.pose))
    return change_thing(meaning, row, pose=choose_other(random, POSES, meaning.things[row].pose, SIMILAR_POSES))


def replace_count(random: Random, meaning: Meaning) -> Meaning:
    """Replace a number with another one."""
    row = choose_row(random, meaning)
    return change_thing(meaning, row, count=choose_other(random, range(1, 7), meaning.things[row].count))


def replace_link(random: Random, meaning: Meaning) -> Meaning:
    """Replace a relation, or an action with another one that takes the same objects."""
    if meaning.link in RELATIONS:
        return replace(meaning, link=choose_other(random, RELATIONS, meaning.link, SIMILAR_RELATIONS))
    if meaning.link in VERBS:
        known = [name for name, verb in VERBS.items() if verb.objects == VERBS[meaning.link].objects]
        return replace(meaning, link=choose_other(random, known, meaning.link, SIMILAR_VERBS))
    raise NothingToEdit


def swap_things(random: Random, meaning: Meaning) -> Meaning:
    """Swap the roles of two things: who chases whom, what stands on what."""
    if len(meaning.things) != 2 or meaning.link == "and" or meaning.link in SYMMETRIC:
        raise NothingToEdit
    return replace(meaning, things=meaning.things[::-1])


def swap_attributes(random: Random, meaning: Meaning) -> Meaning:
    """Swap the colour, quality, number or pose of two things."""
    if len(meaning.things) < 2:
        raise NothingToEdit
    row, other_row = random.sample(range(len(meaning.things)), 2)
    first, second = meaning.things[row], meaning.things[other_row]
    differing = [
        name for name in ("colour", "quality", "count", "pose") if getattr(first, name) != getattr(second, name)
    ]
    if not differing:
        raise NothingToEdit
    name = random.choice(differing)
    swapped = change_thing(meaning, row, **{name: getattr(second, name)})
    return change_thing(swapped, other_row, **{name: getattr(first, name)})


def replace_setting(random: Random, meaning: Meaning) -> Meaning:
    """Replace the place or time with another one."""
    if not meaning.setting:
        raise NothingToEdit
    return replace(meaning, setting=choose_other(random, SETTINGS, meaning.setting, SIMILAR_SETTINGS))


def replace_style(random: Random, meaning: Meaning) -> Meaning:
    """Replace the style, add one where there is none, or remove it."""
    known = ("", *STYLES)
    return replace(
        meaning,
        style=choose_other(
            random, known, meaning.style, ({"", PHOTO_STYLE}, {PHOTO_STYLE, "gray photo"}, {"sketch", "cartoon"})
        ),
    )


def negate(random: Random, meaning: Meaning) -> Meaning:
    """Turn "a and b" into "a without b", or back."""
    if len(meaning.things) != 2 or meaning.link not in ("and", "without"):
        raise NothingToEdit
    if meaning.link == "and" and any(thing.count > 1 for thing in meaning.things):
        raise NothingToEdit
    return replace(meaning, link="without" if meaning.link == "and" else "and")


def add_detail(random: Random, meaning: Meaning) -> Meaning:
    """Add a thing, a colour, a pose or a setting."""
    new = draw_thing(random)
    edits = []
    if not meaning.setting:
        edits.append(replace(meaning, setting=random.choice(tuple(SETTINGS))))
    if len(meaning.things) == 1 and new.noun != meaning.things[0].noun:
        edits.append(replace(meaning, things=(*meaning.things, new), link="and"))
    if len(meaning.things) == 2 and meaning.link == "and" and new.noun not in [t.noun for t in meaning.things]:
        edits.append(replace(meaning, things=(*meaning.things, new)))
    colourless = [row for row, t in enumerate(meaning.things) if not t.colour and t.noun not in PEOPLE]
    if colourless:
        edits.append(change_thing(meaning, random.choice(colourless), colour=random.choice(COLOURS)))
    without_pose = [row for row, t in enumerate(meaning.things) if not t.pose and t.noun in ANIMATE]
    if without_pose and meaning.link not in VERBS:
        edits.append(change_thing(meaning, random.choice(without_pose), pose=random.choice(tuple(POSES))))
    return random.choice(edits) if edits else refuse()


def drop_detail(random: Random, meaning: Meaning) -> Meaning:
    """Remove the setting, a thing, a colour, a quality or a pose."""
    edits = []
    if meaning.setting:
        edits.append(replace(meaning, setting=""))
    if len(meaning.things) > 1 and meaning.link != "without":
        things = meaning.things[:-1] if random.random() < 0.7 else meaning.things[1:]
        edits.append(replace(meaning, things=things, link="and" if len(things) > 1 else ""))
    for row, thing in enumerate(meaning.things):
        values = [name for name in ("colour", "quality", "pose") if getattr(thing, name)]
        edits += [change_thing(meaning, row, **{name: ""}) for name in values]
    return random.choice(edits) if edits else refuse()


def refuse() -> Meaning:
    """Raise NothingToEdit, as an expression."""
    raise NothingToEdit


SIMILAR_NOUNS = (
    {"boy", "child"},
    {"girl", "child"},
    {"man", "person"},
    {"woman", "person"},
    {"man", "groom"},
    {"woman", "bride"},
    {"child", "baby"},
    {"cup", "bowl"},
    {"boat", "ship"},
    {"desk", "table"},
    {"bag", "handbag"},
    {"bag", "backpack"},
    {"shelf", "bookcase"},
    {"house", "building"},
    {"bird", "pigeon"},
    {"bird", "crow"},
    {"bird", "seagull"},
    {"mouse", "rat"},
    {"flower", "rose"},
    {"building", "tower"},
    {"wizard", "witch"},
    {"hamburger", "sandwich"},
    {"person", "tourist"},
    {"person", "student"},
    {"boat", "sailboat"},
    {"boat", "canoe"},
    {"horse", "donkey"},
    {"ball", "toy"},
    {"spaceship", "rocket"},
    {"basket", "bag"},
    {"box", "bag"},
    {"car", "taxi"},
    {"truck", "van"},
    {"building", "castle"},
    {"building", "church"},
    {"house", "barn"},
    {"cake", "cupcake"},
    {"king", "man"},
    {"queen", "woman"},
    {"bench", "chair"},
    {"bird", "parrot"},
)
SIMILAR_COLOURS = ({"golden", "yellow"}, {"orange", "golden"}, {"brown", "golden"}, {"pink", "purple"})
SIMILAR_POSES = (
    {"lying", "sleeping"},
    {"walking", "standing"},
    {"playing", "running"},
    {"eating", "drinking"},
    {"playing", "jumping"},
    {"playing", "dancing"},
    {"playing", "fighting"},
    {"falling", "jumping"},
    {"falling", "flying"},
)
SIMILAR_VERBS = (
    {"chase", "follow"},
    {"hold", "carry"},
    {"hold", "touch"},
    {"hold", "sell"},
    {"hold", "buy"},
    {"watch", "guard"},
    {"paint", "draw"},
    {"eat", "smell"},
    {"push", "pull"},
    {"hug", "kiss"},
    {"cut", "cook"},
    {"carry", "lift"},
    {"drop", "throw"},
    {"cook", "serve"},
    {"drive", "park"},
    {"kick", "tackle"},
    {"buy", "sell"},
    {"bite", "attack"},
    {"chase", "attack"},
    {"help", "teach"},
)

EDITS: Mapping[str, tuple[Callable[[Random, Meaning], Meaning], float]] = {
    # kind: (edit, weight)
    "replaced thing": (replace_thing, 1.2),
    "replaced colour": (replace_colour, 1.0),
    "replaced quality": (replace_quality, 0.7),
    "replaced pose": (replace_pose, 0.6),
    "replaced count": (replace_count, 1.0),
    "replaced link": (replace_link, 1.4),
    "swapped things": (swap_things, 3.0),
    "swapped attributes": (swap_attributes, 1.6),
    "replaced setting": (replace_setting, 0.7),
    "replaced style": (replace_style, 0.6),
    "negated": (negate, 0.5),
    "added": (add_detail, 0.8),
    "dropped": (drop_detail, 0.8),
}


def grammar_pairs(random: Random, same: float = 0.5) -> Iterator[Pair]:
    """Endless pairs of prompts; a share of `same` has one meaning in two wordings."""
    while True:
        meaning = draw_meaning(random)
        if random.random() < same:
            a, b = write_prompt(random, meaning), write_prompt(random, meaning)
            if a != b:
                yield Pair(a, b, 1, "reworded")
            continue
        kind, edited = edit_meaning(random, meaning)
        seed = random.random()
        a, b = (
            write_with_same_choices(seed, meaning, edited)
            if random.random() < 0.5
            else (write_prompt(random, meaning), write_prompt(random, edited))
        )
        if a != b:
            yield Pair(a, b, 0, kind)


def edit_meaning(random: Random, meaning: Meaning) -> tuple[str, Meaning]:
    """The kind of a random edit that applies, and the edited meaning."""
    while True:
        kind = random.choices(tuple(EDITS), [weight for _, weight in EDITS.values()])[0]
        with contextlib.suppress(NothingToEdit):
            return kind, EDITS[kind][0](random, meaning)


def write_with_same_choices(seed: float, meaning: Meaning, edited: Meaning) -> tuple[str, str]:
    """Word both meanings with the same random choices, so that the prompts differ as little as possible."""
    return write_prompt(Random(seed), meaning), write_prompt(Random(seed), edited)
