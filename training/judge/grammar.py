"""One meaning said in many ways, and meanings that differ in one point: pairs whose label is certain.

A `Meaning` holds things with their numbers, colours, qualities and poses, how two of them are linked, a setting and a
style. `say` words it by chance; `EDITS` change one point of it. Knows English, no data and no networks.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from memo.judge.labelled_pairs import Pair
from worker.stickers.nouns import add_article, plural

from .lexicon import (
    ALIKE_RELATIONS,
    ALIKE_SETTINGS,
    ANIMALS,
    ANIMATE,
    COLOURS,
    FOOD,
    FRAMES,
    FURNITURE,
    LINKS,
    OBJECTS,
    OPPOSITES,
    PEOPLE,
    PLAIN,
    POSES,
    QUALITIES,
    RELATIONS,
    SAME_QUALITY,
    SCENERY,
    SETTINGS,
    SMALL,
    STYLES,
    SYMMETRIC,
    TAGS,
    VEHICLES,
    VERBS,
    WORDED,
    Forms,
    Verb,
)

T = TypeVar("T")
HOMES = (PEOPLE, ANIMALS, VEHICLES, FURNITURE, SMALL, FOOD, SCENERY)


@dataclass(frozen=True, slots=True)
class Thing:
    """So many of one kind; `noun` are names that mean the same."""

    noun: Forms
    count: int = 1
    colour: str = ""
    quality: str = ""
    pose: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a picture is to show. `link`: "and", "without", a relation's or a verb's name; "" with one thing."""

    things: tuple[Thing, ...]
    link: str = ""
    setting: str = ""
    style: str = ""


class NotHere(Exception):
    """This edit has nothing to change in this meaning."""


def draw(random: Random) -> Meaning:
    """A meaning by chance."""
    shape = random.choices(("one", "and", "relation", "verb", "without", "three"), (3, 3, 3, 3.5, 0.6, 1))[0]
    setting = random.choice(tuple(SETTINGS)) if random.random() < 0.4 else ""
    style = random.choice(tuple(STYLES)) if random.random() < 0.15 else ""
    if shape == "one":
        return Meaning((thing(random, posed=0.5),), "", setting, style)
    if shape == "three":
        return Meaning(distinct(random, 3), "and", setting, style)
    if shape == "verb":
        return acting(random, setting, style)
    link = random.choice(tuple(RELATIONS)) if shape == "relation" else shape
    return Meaning(distinct(random, 2), link, setting, style)


def distinct(random: Random, count: int) -> tuple[Thing, ...]:
    """Things of different kinds."""
    found: list[Thing] = []
    while len(found) < count:
        new = thing(random)
        if new.noun not in [other.noun for other in found]:
            found.append(new)
    return tuple(found)


def thing(random: Random, *, posed: float = 0.12) -> Thing:
    """One kind of thing by chance; people and animals may have a pose."""
    group = random.choices((PEOPLE, ANIMALS, OBJECTS), (1, 1.2, 2))[0]
    count = random.choices((1, 2, 3, 4, 5, 6), (12, 2, 1.5, 1, 0.5, 0.3))[0]
    colour = random.choice(COLOURS) if group is not PEOPLE and random.random() < 0.35 else ""
    quality = random.choice(QUALITIES[group_name(group)]) if random.random() < 0.25 else ""
    pose = random.choice(tuple(POSES)) if group is not OBJECTS and random.random() < posed else ""
    return Thing(random.choice(group), count, colour, quality, pose)


def group_name(group: tuple[Forms, ...]) -> str:
    """For looking up what can be said of the group."""
    return "people" if group is PEOPLE else "animals" if group is ANIMALS else "objects"


def acting(random: Random, setting: str, style: str) -> Meaning:
    """Someone does something to someone or something; often it could be the other way round."""
    name = random.choice(tuple(VERBS))
    verb = VERBS[name]
    doer = replace(thing(random), noun=random.choice(random.choice((PEOPLE, ANIMALS)) if verb.beasts else PEOPLE))
    to = replace(thing(random), noun=random.choice(verb.to))
    if doer.noun == to.noun:
        return acting(random, setting, style)
    doer, to = (replace(one, pose="", colour="" if one.noun in PEOPLE else one.colour) for one in (doer, to))
    qualities = [QUALITIES["people" if one.noun in PEOPLE else "animals"] for one in (doer, to)]
    doer, to = (
        replace(one, quality=random.choice(known) if one.quality else "")
        for one, known in zip((doer, to), qualities, strict=True)
    )
    return Meaning((doer, to), name, setting, style)


# --- wording


def say(random: Random, meaning: Meaning) -> str:
    """The meaning in one of its many wordings."""
    text = clause(random, meaning)
    if meaning.setting:
        where = random.choice(SETTINGS[meaning.setting])
        text = f"{where}, {text}" if random.random() < 0.2 else f"{text} {where}"
    if meaning.style:
        text = random.choice(STYLES[meaning.style]).format(text)
    elif random.random() < 0.12:
        text = random.choice(FRAMES).format(text)
    if random.random() < 0.08:
        text = f"{text}, {', '.join(random.sample(TAGS, random.choice((1, 1, 2, 3))))}"
    return finished(random, text)


def finished(random: Random, text: str) -> str:
    """With or without a capital letter and a full stop."""
    if random.random() < 0.3:
        text = text[0].upper() + text[1:]
    return f"{text}." if random.random() < 0.2 else text


def clause(random: Random, meaning: Meaning) -> str:
    """The things and what links them."""
    if meaning.link in VERBS:
        return deed(random, meaning.things[0], meaning.things[1], VERBS[meaning.link])
    if meaning.link in RELATIONS:
        return placed(random, meaning.things[0], meaning.things[1], meaning.link)
    if meaning.link == "without":
        first, second = phrase(random, meaning.things[0]), phrase(random, meaning.things[1])
        bare = random.choice(("with no {}", "without any {}", "that has no {}"))
        return (
            f"{first} without {second}"
            if random.random() < 0.5
            else f"{first} {bare.format(many(random, meaning.things[1]))}"
        )
    named = [phrase(random, one) for one in shuffled(random, meaning.things)]
    if len(named) == 1:
        text = named[0]
        return f"there {'is' if meaning.things[0].count == 1 else 'are'} {text}" if random.random() < 0.06 else text
    if len(named) == 2:
        return random.choice(LINKS).format(*named)
    return f"{named[0]}, {named[1]} and {named[2]}"


def shuffled(random: Random, things: tuple[Thing, ...]) -> list[Thing]:
    """In another order, more often than not."""
    return random.sample(things, len(things))


def phrase(random: Random, one: Thing) -> str:
    """For example "two small red cars", "a car that is red", "a dog sleeping"."""
    noun = random.choice(one.noun)
    before, behind = qualities(random, one)
    head = " ".join([*before, noun if one.count == 1 else plural(noun)])
    return " ".join([determined(random, head, one.count), *behind])


def many(random: Random, one: Thing) -> str:
    """What is not there, without a number."""
    before = [part for part in (one.quality, one.colour) if part]
    return " ".join([*before, plural(random.choice(one.noun))])


def determined(random: Random, head: str, count: int) -> str:
    """With an article or a number."""
    if count > 1:
        if count == 2 and random.random() < 0.12:
            return f"{random.choice(('a pair of', 'a couple of'))} {head}"
        number = str(count) if random.random() < 0.2 else WORDED[count]
        return f"{'the ' if random.random() < 0.08 else ''}{number} {head}"
    article = random.choices(("a", "the", "one", ""), (80, 14, 2, 4))[0]
    return add_article(head) if article == "a" else f"{article} {head}".strip()


def qualities(random: Random, one: Thing) -> tuple[list[str], list[str]]:
    """What is said before the noun, and what behind it."""
    before, behind = [part for part in (one.quality, one.colour) if part], []
    be = "is" if one.count == 1 else "are"
    if before and not one.pose and random.random() < 0.15:
        that = random.choice((f"that {be}", f"which {be}"))
        before, behind = [], [f"{that} {' and '.join(before)}"]
    elif one.colour and random.random() < 0.06:
        before = [part if part != one.colour else f"{part}-colored" for part in before]
    if one.pose:
        forms = POSES[one.pose]
        if random.random() < 0.15 and " " not in forms[0]:
            before = [forms[0], *before]
        else:
            behind.append(random.choice(("{}", "{}", f"{be} {{}}", f"that {be} {{}}")).format(random.choice(forms)))
    return before, behind


def deed(random: Random, doer: Thing, to: Thing, verb: Verb) -> str:
    """Who does what to whom, in the active or the passive voice."""
    who, whom = phrase(random, doer), phrase(random, to)
    does = verb.third if doer.count == 1 else verb.base
    is_, was = ("is" if one.count == 1 else "are" for one in (doer, to))
    active = (f"{who} {verb.ing} {whom}", f"{who} {is_} {verb.ing} {whom}", f"{who} {does} {whom}")
    cleft = (f"{who} that {is_} {verb.ing} {whom}", f"{who} who {does} {whom}" if doer.noun in PEOPLE else "")
    passive = (
        f"{whom} being {verb.done} by {who}",
        f"{whom} {was} being {verb.done} by {who}",
        f"{whom} {was} {verb.done} by {who}",
        f"{whom} {verb.done} by {who}",
    )
    turned = (
        f"{whom} that {who} {is_} {verb.ing}",
        f"{whom} with {who} {verb.ing} {'it' if to.count == 1 else 'them'}",
    )
    kind = random.choices((active, cleft, passive, turned), (6, 0.6, 4, 0.5))[0]
    return random.choice([form for form in kind if form])


def placed(random: Random, first: Thing, second: Thing, relation: str) -> str:
    """Where the first is to the second, or the second to the first."""
    if relation in SYMMETRIC:
        first, second = shuffled(random, (first, second))
    elif random.random() < 0.35:
        return converse(random, first, second, relation)
    be = "is" if first.count == 1 else "are"
    how = random.choice(RELATIONS[relation])
    link = random.choice((how, how, f"{be} {how}", f"positioned {how}", f"that {be} {how}"))
    return f"{phrase(random, first)} {link} {phrase(random, second)}"


def converse(random: Random, first: Thing, second: Thing, relation: str) -> str:
    """The same place, told from the other thing."""
    one, other = phrase(random, first), phrase(random, second)
    be, it = ("is" if second.count == 1 else "are"), ("it" if second.count == 1 else "them")
    if relation == "on":
        return f"{other} with {one} on {random.choice((it, f'top of {it}', 'top'))}"
    if relation == "in":
        return random.choice(
            (f"{other} with {one} in {it}", f"{other} with {one} inside", f"{other} containing {one}")
        )
    how = random.choice(RELATIONS[OPPOSITES[relation]])
    return f"{other} {random.choice((how, how, f'{be} {how}'))} {one}"


# --- edits: another meaning


def other(random: Random, known: Iterable[T], than: T, alike: Sequence[Set[T]] = ()) -> T:
    """One of the known that is not this one, nor much like it."""
    left = [one for one in known if one != than and not any({one, than} <= same for same in alike)]
    if not left:
        raise NotHere
    return random.choice(left)


def at(random: Random, meaning: Meaning, fits: Callable[[Thing], bool] = lambda _: True) -> int:
    """The number of a thing that fits."""
    rows = [row for row, one in enumerate(meaning.things) if fits(one)]
    if not rows:
        raise NotHere
    return random.choice(rows)


def changed(meaning: Meaning, row: int, **values: Any) -> Meaning:
    """With one thing changed."""
    things = list(meaning.things)
    things[row] = replace(things[row], **values)
    return replace(meaning, things=tuple(things))


def home(noun: Forms) -> tuple[Forms, ...]:
    """The group that a noun belongs to."""
    return next(group for group in HOMES if noun in group)


def replace_thing(random: Random, meaning: Meaning) -> Meaning:
    """Another noun of the same group."""
    row = at(random, meaning)
    taken = {one.noun for one in meaning.things}
    group = [
        noun
        for noun in home(meaning.things[row].noun)
        if noun not in taken and not near(noun, meaning.things[row].noun)
    ]
    return changed(meaning, row, noun=random.choice(group))


def near(one: Forms, another: Forms) -> bool:
    """Whether one noun's picture may pass for the other's: "man" and "old man"."""
    return any(set(a.split()) & set(b.split()) for a in one for b in another) or any(
        {one[0], another[0]} <= same for same in ALIKE_NOUNS
    )


def replace_colour(random: Random, meaning: Meaning) -> Meaning:
    """Another colour."""
    row = at(random, meaning, lambda one: bool(one.colour))
    return changed(meaning, row, colour=other(random, COLOURS, meaning.things[row].colour, ALIKE_COLOURS))


def replace_quality(random: Random, meaning: Meaning) -> Meaning:
    """Another quality."""
    row = at(random, meaning, lambda one: bool(one.quality))
    known = next(group for group in QUALITIES.values() if meaning.things[row].quality in group)
    return changed(meaning, row, quality=other(random, known, meaning.things[row].quality, SAME_QUALITY))


def replace_pose(random: Random, meaning: Meaning) -> Meaning:
    """Another pose."""
    row = at(random, meaning, lambda one: bool(one.pose))
    return changed(meaning, row, pose=other(random, POSES, meaning.things[row].pose, ALIKE_POSES))


def replace_count(random: Random, meaning: Meaning) -> Meaning:
    """Another number."""
    row = at(random, meaning)
    return changed(meaning, row, count=other(random, range(1, 7), meaning.things[row].count))


def replace_link(random: Random, meaning: Meaning) -> Meaning:
    """Another relation, or another deed to the same sort of thing."""
    if meaning.link in RELATIONS:
        return replace(meaning, link=other(random, RELATIONS, meaning.link, ALIKE_RELATIONS))
    if meaning.link in VERBS:
        known = [name for name, verb in VERBS.items() if verb.to == VERBS[meaning.link].to]
        return replace(meaning, link=other(random, known, meaning.link, ALIKE_VERBS))
    raise NotHere


def swap_things(random: Random, meaning: Meaning) -> Meaning:
    """Each in the other's role: who chases whom, what stands on what."""
    if len(meaning.things) != 2 or meaning.link == "and" or meaning.link in SYMMETRIC:
        raise NotHere
    return replace(meaning, things=meaning.things[::-1])


def swap_attributes(random: Random, meaning: Meaning) -> Meaning:
    """Each with the other's colour, quality, number or pose."""
    if len(meaning.things) < 2:
        raise NotHere
    one, two = random.sample(range(len(meaning.things)), 2)
    first, second = meaning.things[one], meaning.things[two]
    differing = [
        name for name in ("colour", "quality", "count", "pose") if getattr(first, name) != getattr(second, name)
    ]
    if not differing:
        raise NotHere
    name = random.choice(differing)
    swapped = changed(meaning, one, **{name: getattr(second, name)})
    return changed(swapped, two, **{name: getattr(first, name)})


def replace_setting(random: Random, meaning: Meaning) -> Meaning:
    """Another place or time."""
    if not meaning.setting:
        raise NotHere
    return replace(meaning, setting=other(random, SETTINGS, meaning.setting, ALIKE_SETTINGS))


def replace_style(random: Random, meaning: Meaning) -> Meaning:
    """Another style, or one where there was none, or none."""
    known = ("", *STYLES)
    return replace(
        meaning,
        style=other(random, known, meaning.style, ({"", PLAIN}, {PLAIN, "gray photo"}, {"sketch", "cartoon"})),
    )


def negate(random: Random, meaning: Meaning) -> Meaning:
    """What was there is not, or the opposite."""
    if len(meaning.things) != 2 or meaning.link not in ("and", "without"):
        raise NotHere
    if meaning.link == "and" and any(one.count > 1 for one in meaning.things):
        raise NotHere
    return replace(meaning, link="without" if meaning.link == "and" else "and")


def add(random: Random, meaning: Meaning) -> Meaning:
    """Something more: a thing, a colour, a quality, a pose, a setting."""
    new = thing(random)
    kinds = []
    if not meaning.setting:
        kinds.append(replace(meaning, setting=random.choice(tuple(SETTINGS))))
    if len(meaning.things) == 1 and new.noun != meaning.things[0].noun:
        kinds.append(replace(meaning, things=(*meaning.things, new), link="and"))
    if len(meaning.things) == 2 and meaning.link == "and" and new.noun not in [one.noun for one in meaning.things]:
        kinds.append(replace(meaning, things=(*meaning.things, new)))
    bare = [row for row, one in enumerate(meaning.things) if not one.colour and one.noun not in PEOPLE]
    if bare:
        kinds.append(changed(meaning, random.choice(bare), colour=random.choice(COLOURS)))
    still = [row for row, one in enumerate(meaning.things) if not one.pose and one.noun in ANIMATE]
    if still and meaning.link not in VERBS:
        kinds.append(changed(meaning, random.choice(still), pose=random.choice(tuple(POSES))))
    return random.choice(kinds) if kinds else refuse()


def drop(random: Random, meaning: Meaning) -> Meaning:
    """Something less."""
    kinds = []
    if meaning.setting:
        kinds.append(replace(meaning, setting=""))
    if len(meaning.things) > 1 and meaning.link != "without":
        kept = meaning.things[:-1] if random.random() < 0.7 else meaning.things[1:]
        kinds.append(replace(meaning, things=kept, link="and" if len(kept) > 1 else ""))
    for row, one in enumerate(meaning.things):
        kinds += [changed(meaning, row, **{name: ""}) for name in ("colour", "quality", "pose") if getattr(one, name)]
    return random.choice(kinds) if kinds else refuse()


def refuse() -> Meaning:
    """Nothing to add or drop."""
    raise NotHere


ALIKE_NOUNS = (
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
ALIKE_COLOURS = ({"golden", "yellow"}, {"orange", "golden"}, {"brown", "golden"}, {"pink", "purple"})
ALIKE_POSES = (
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
ALIKE_VERBS = (
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
    # kind: (edit, how often)
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
    "added": (add, 0.8),
    "dropped": (drop, 0.8),
}


def pairs(random: Random, same: float = 0.5) -> Iterator[Pair]:
    """Pairs without end, that share of them of one meaning."""
    while True:
        meaning = draw(random)
        if random.random() < same:
            a, b = say(random, meaning), say(random, meaning)
            if a != b:
                yield Pair(a, b, 1, "said again")
            continue
        kind, edited = another(random, meaning)
        seed = random.random()
        a, b = (
            said_alike(seed, meaning, edited)
            if random.random() < 0.5
            else (say(random, meaning), say(random, edited))
        )
        if a != b:
            yield Pair(a, b, 0, kind)


def another(random: Random, meaning: Meaning) -> tuple[str, Meaning]:
    """An edit that finds something to change, and what it makes of the meaning."""
    while True:
        kind = random.choices(tuple(EDITS), [often for _, often in EDITS.values()])[0]
        with contextlib.suppress(NotHere):
            return kind, EDITS[kind][0](random, meaning)


def said_alike(seed: float, meaning: Meaning, edited: Meaning) -> tuple[str, str]:
    """Both in the same wording, as far as it goes."""
    return say(Random(seed), meaning), say(Random(seed), edited)
