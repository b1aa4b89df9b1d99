"""Pairs by rule from prompts that people wrote: what changes nothing, and what makes it another picture.

Works on words and phrases that the lexicon knows, without parsing; an edit that finds nothing to change refuses.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from memo.judge.labelled_pairs import Pair
from worker.stickers.nouns import add_article, plural

from .grammar import ALIKE_COLOURS, ALIKE_NOUNS, ALIKE_POSES, NotHere
from .lexicon import (
    ALIKE_RELATIONS,
    ALIKE_SETTINGS,
    ANIMALS,
    COLOURS,
    FOOD,
    FRAMES,
    FURNITURE,
    OPPOSITES,
    PEOPLE,
    POSES,
    RELATIONS,
    SCENERY,
    SETTINGS,
    SMALL,
    STYLES,
    SYMMETRIC,
    TAGS,
    VEHICLES,
    WORDED,
)

Edit = Callable[[Random, str], str]
STYLE_WORDS = re.compile(
    r"\b(photo|photograph|painting|painted|watercolou?r|sketch|drawing|drawn|cartoon|anime|render|rendering|3d|art|"
    r"illustration|style|logo|statue|sculpture|icon|emoji|poster|pixel|black and white|portrait|origami|by [a-z]+)\b",
    re.I,
)
NP = r"(?:an?|the|one|two|three|four|five|six|some|several|[2-6]) (?:[a-z-]+ ){0,2}?[a-z-]+"
SIMPLE = re.compile(rf"^({NP}) (and|with) ({NP})$")
PLACE = re.compile(
    r"^(.{8,}?)[,]? ((?:in|on|at|near|by|behind|beside|under|inside) (?:an?|the|his|her|its|some) [^,.]{3,40})$"
)
IS = re.compile(r"\b(man|woman|boy|girl|person|child|dog|cat|bird|horse|bear|train|bus|car|it|he|she) is (\w+ing)\b")
ING = re.compile(
    r"\b(an?|the|one) ((?:[a-z-]+ )?(?:man|woman|boy|girl|person|child|dog|cat|bird|horse|bear|bus|car)) (\w+ing)\b"
)
SAME_WORDS: tuple[tuple[str, ...], ...] = (
    ("a group of", "a bunch of"), ("gray", "grey"), ("color", "colour"), ("colored", "coloured"),
    ("picture", "image"), ("lots of", "many"), ("person", "individual"), ("ocean", "sea"), ("close up", "closeup"),
    ("next to", "beside", "adjacent to"), ("on top of", "atop"), ("several", "multiple"),
    ("a couple of", "a pair of", "two"), ("large", "big"), ("small", "little"), ("near", "close to"),
    ("is holding", "holds"), ("is sitting", "sits", "is seated"), ("is standing", "stands"), ("is lying", "lies"),
    ("is walking", "walks"), ("is wearing", "wears"), ("wearing", "dressed in"), ("is riding", "rides"),
    ("people", "persons", "individuals"), ("photo", "photograph"), ("television", "tv"), ("forest", "woods"),
    ("street", "road"), ("rocks", "stones"), ("is playing", "plays"), ("is eating", "eats"), ("is flying", "flies"),
    ("is looking at", "looks at"), ("filled with", "full of"), ("covered in", "covered with"), ("trousers", "pants"),
    ("sitting", "seated"), ("beautiful", "pretty"), ("kids", "children"), ("men", "guys"), ("women", "ladies"),
    ("at night", "at nighttime", "during the night"), ("under", "beneath", "underneath"), ("inside", "within"),
    ("watching", "observing"), ("looking at", "gazing at"), ("made of", "made out of"), ("very", "really"),
    ("sunglasses", "shades"), ("road", "roadway"), ("container", "receptacle"), ("holding", "grasping"),
    ("positioned", "placed", "located", "situated"), ("lays", "lies"), ("laying", "lying"), ("jumping", "leaping"),
)  # fmt: skip


def groups() -> Iterator[tuple[list[tuple[str, ...]], Sequence[set[str]]]]:
    """Kinds of words, each with the pairs of it that may pass for one another."""
    yield [(colour,) for colour in (*COLOURS, "silver", "beige", "turquoise")], ALIKE_COLOURS
    for nouns in (PEOPLE, ANIMALS, VEHICLES, FURNITURE, SMALL, FOOD, SCENERY):
        yield list(nouns), ALIKE_NOUNS
        yield [tuple(plural(word) for word in forms) for forms in nouns], ALIKE_NOUNS
    yield list(POSES.values()), ALIKE_POSES
    yield list(RELATIONS.values()), ALIKE_RELATIONS
    yield list(SETTINGS.values()), ALIKE_SETTINGS
    yield [("large", "big", "huge", "giant"), ("small", "little", "tiny")], ()
    yield [("young",), ("old", "elderly")], ()
    yield [("wooden",), ("metal", "metallic"), ("glass",), ("plastic",), ("stone",), ("leather",), ("fabric",)], ()
    yield [("round",), ("square",), ("triangular",), ("oval",)], ()
    yield [("happy", "smiling"), ("sad",), ("angry",), ("scared",)], ()
    yield [("left",), ("right",)], ()
    yield [("inside",), ("outside",)], ()
    yield [("with",), ("without",)], ()
    yield [("open",), ("closed", "shut")], ()
    yield [("full",), ("empty",)], ()
    yield [("spring",), ("summer",), ("autumn",), ("winter",)], ()
    yield [("holding",), ("throwing",), ("eating",), ("washing",)], ()
    yield [("riding",), ("chasing",), ("feeding",), ("petting",), ("leading",)], ()


KINDS = tuple(groups())
KIND_OF: dict[str, list[tuple[int, int]]] = {}
for kind_number, (entries, _) in enumerate(KINDS):
    for entry_number, entry in enumerate(entries):
        for form in entry:
            KIND_OF.setdefault(form, []).append((kind_number, entry_number))
KNOWN = re.compile(rf"\b({'|'.join(map(re.escape, sorted(KIND_OF, key=len, reverse=True)))})\b")
NOUNS = tuple(range(1, 15))  # the kinds that are nouns
NOUN = "|".join(
    sorted(
        (form for kind in NOUNS for entry in KINDS[kind][0] for form in entry), key=lambda form: (-len(form), form)
    )
)
PHRASE = re.compile(rf"\b(?:an?|the|two|three|four) (?:[a-z-]+ )?(?:{NOUN})\b")
NUMBER = re.compile(r"\b(one|two|three|four|five|six|seven|eight|[2-9])\b(?! ?(?:\d|k\b|mm|d\b|:|\.|/))")
SAME_AS = {word: words for words in SAME_WORDS for word in words}
SAME = re.compile(rf"\b({'|'.join(map(re.escape, sorted(SAME_AS, key=len, reverse=True)))})\b")


def one_of(random: Random, found: Sequence[re.Match[str]]) -> re.Match[str]:
    """One by chance; refuses when there is none."""
    if not found:
        raise NotHere
    return random.choice(found)


def put(text: str, match: re.Match[str], words: str) -> str:
    """The text with these words for those found, and the article before them as it must be."""
    before, after = text[: match.start()], text[match.end() :]
    if (article := re.search(r"\b([Aa])n? $", before)) and (right := add_article(words)) != words:
        before = before[: article.start()] + article[1] + right.partition(" ")[0][1:] + " "
    return before + words + after


# --- the same picture


def synonym(random: Random, text: str) -> str:
    """Another word for one or two of the words."""
    for _ in range(random.choice((1, 1, 2))):
        matches = [match for match in SAME.finditer(text)]
        matches += [
            match for match in KNOWN.finditer(text) if any(len(KINDS[k][0][e]) > 1 for k, e in KIND_OF[match[0]])
        ]
        match = one_of(random, matches)
        ways = {*SAME_AS.get(match[0], ())}
        for kind, row in KIND_OF.get(match[0], ()):
            ways |= set(KINDS[kind][0][row])
        ways -= {match[0], "huge", "giant", "tiny"}
        if not ways:
            raise NotHere
        text = put(text, match, random.choice(sorted(ways)))
    return text


def framed(random: Random, text: str) -> str:
    """With words around that ask for nothing; they take away such words first."""
    bare = re.sub(r"^(?:an? )?(?:picture|image) of ", "", text)
    return random.choice(FRAMES).format(bare)


def tagged(random: Random, text: str) -> str:
    """With words of praise behind, as people write them."""
    return f"{text}, {', '.join(random.sample(TAGS, random.randint(1, 5)))}"


def fronted(random: Random, text: str) -> str:
    """Where it is comes first."""
    if not (match := PLACE.match(text)) or " and " in match[2]:
        raise NotHere
    return f"{match[2]}, {match[1].rstrip(' ,')}"


def verbal(random: Random, text: str) -> str:
    """ "a man is riding" ↔ "a man riding" ↔ "a man that is riding"."""
    if match := IS.search(text):
        return text[: match.start()] + f"{match[1]} {match[2]}" + text[match.end() :]
    if match := ING.search(text):
        how = random.choice(
            ("is", "that is", "who is" if re.search("man|woman|boy|girl|person|child", match[2]) else "is")
        )
        return text[: match.start()] + f"{match[1]} {match[2]} {how} {match[3]}" + text[match.end() :]
    raise NotHere


def turned_round(random: Random, text: str) -> str:
    """ "a and b" → "b and a"; what is left of b has b on its right."""
    if match := SIMPLE.match(text):
        return f"{match[3]} and {match[1]}"
    for name, ways in RELATIONS.items():
        if name not in SYMMETRIC and name not in OPPOSITES:
            continue
        for how in ways:
            if found := re.match(rf"^({NP})(?: is)? {how} ({NP})$", text):
                back = random.choice(RELATIONS[OPPOSITES.get(name, name)])
                return f"{found[2]} {back} {found[1]}"
    raise NotHere


def mistyped(random: Random, text: str) -> str:
    """One or two slips of the finger in longer words that the lexicon does not tell apart."""
    for _ in range(random.choice((1, 1, 2))):
        match = one_of(random, [match for match in re.finditer(r"\b[a-z]{6,}\b", text)])
        word, at = match[0], random.randrange(1, len(match[0]) - 1)
        slip = random.choice(
            (
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
            )
        )
        text = text[: match.start()] + slip + text[match.end() :]
    return text


def dressed(random: Random, text: str) -> str:
    """Capitals, full stops, articles: nothing that is seen in a picture."""
    way = random.randrange(5)
    if way == 0:
        return text[0].upper() + text[1:] + "."
    if way == 1:
        return text.upper()
    if way == 2:
        return text.replace(",", "")
    if way == 3:
        return re.sub(r"^(?:an?|the) ", "", text)
    return re.sub(r"^an? ", "the ", text) if re.match(r"^an? ", text) else f"  {text} "


def restyled(random: Random, text: str) -> str:
    """The same style in other words."""
    for ways in STYLES.values():
        for way in ways:
            begin, _, end = way.partition("{}")
            if text.startswith(begin) and text.endswith(end) and len(text) > len(begin) + len(end) and (begin or end):
                bare = text[len(begin) : len(text) - len(end)]
                return random.choice([other for other in ways if other != way]).format(bare)
    raise NotHere


def shuffled_tags(random: Random, text: str) -> str:
    """Long prompts: what stands behind the third comma in another order, or without a tag."""
    head, *tags = text.split(", ")
    if len(tags) < 3:
        raise NotHere
    if random.random() < 0.4 and (praise := [tag for tag in tags if tag.lower() in TAGS]):
        tags.remove(random.choice(praise))
    else:
        one, two = sorted(random.sample(range(len(tags)), 2))
        tags[one], tags[two] = tags[two], tags[one]
    return ", ".join([head, *tags])


# --- another picture


def replaced(kinds: Sequence[int]) -> Edit:
    """Exchanges a word for another one of its kind."""

    def edit(random: Random, text: str) -> str:
        places = [
            (match, kind, row) for match in KNOWN.finditer(text) for kind, row in KIND_OF[match[0]] if kind in kinds
        ]
        if not places:
            raise NotHere
        match, kind, row = random.choice(places)
        entries, alike = KINDS[kind]
        mine = entries[row]
        near = {word for pair in alike if pair & set(mine) for word in pair}
        others = [
            entry
            for entry in entries
            if entry is not mine and not near & set(entry) and not set(entry[0].split()) & set(mine[0].split())
        ]
        return put(text, match, random.choice(others)[0]) if others else refuse()

    return edit


def recounted(random: Random, text: str) -> str:
    """Another number."""
    match = one_of(random, list(NUMBER.finditer(text)))
    now = int(match[0]) if match[0].isdigit() else WORDED.index(match[0])
    if now == 1:
        raise NotHere
    new = random.choice([number for number in range(2, 9) if number != now])
    return put(text, match, str(new) if match[0].isdigit() else WORDED[new])


def swapped_words(random: Random, text: str) -> str:
    """Two words of a kind in each other's place: "a red car and a blue bus" → "a blue car and a red bus"."""
    found = [(match, kind, row) for match in KNOWN.finditer(text) for kind, row in KIND_OF[match[0]]]
    twos = [
        (one, two)
        for one in found
        for two in found
        if one[0].start() < two[0].start() and one[1] == two[1] and one[2] != two[2]
    ]
    if not twos:
        raise NotHere
    (one, _, _), (two, _, _) = random.choice(twos)
    if one.end() > two.start() or re.fullmatch(
        r"(?:,| and| or| with)* (?:an? |the )?", text[one.end() : two.start()]
    ):
        raise NotHere  # "a cat and a dog" says the same the other way round
    return put(put(text, two, one[0]), one, two[0])


def swapped_phrases(random: Random, text: str) -> str:
    """Two phrases in each other's place, round a verb or a relation."""
    found = list(PHRASE.finditer(text))
    twos = [
        (one, two)
        for one in found
        for two in found
        if one.end() < two.start() and one[0].split()[-1] != two[0].split()[-1]
    ]
    if not twos:
        raise NotHere
    one, two = random.choice(twos)
    between = text[one.end() : two.start()].strip()
    if between in ("and", "or", "with", ",", "next to", "beside", "near", "", "of", "by the side of"):
        raise NotHere
    return text[: one.start()] + two[0] + text[one.end() : two.start()] + one[0] + text[two.end() :]


def restyle(random: Random, text: str) -> str:
    """In a style that it does not say; only where none is said."""
    if STYLE_WORDS.search(text):
        raise NotHere
    names = [name for name in STYLES if name not in ("photo",)]
    return random.choice(STYLES[random.choice(names)]).format(text)


def extended(random: Random, text: str) -> str:
    """With one thing more."""
    if "," in text and len(text.split()) > 12:
        raise NotHere
    thing = add_article(random.choice(random.choice((ANIMALS, VEHICLES, FURNITURE, SMALL, FOOD, SCENERY)))[0])
    if thing.partition(" ")[2] in text:
        raise NotHere
    how = random.choice(("and {}", "with {}", "next to {}", "and {} in the background"))
    return f"{text.rstrip('.')} {how.format(thing)}"


def placed(random: Random, text: str) -> str:
    """In a place or at a time that it does not say."""
    if any(way in text for ways in SETTINGS.values() for way in ways) or len(text.split()) > 14:
        raise NotHere
    return f"{text.rstrip('.')} {random.choice(random.choice(list(SETTINGS.values())))}"


def shortened(random: Random, text: str) -> str:
    """Without a colour, or without where it is."""
    colours = list(re.finditer(rf"\b({'|'.join(COLOURS)}) (?=[a-z])", text))
    if colours and random.random() < 0.5:
        match = random.choice(colours)
        return put(text, match, "") if not re.search(r"\ban? $", text[: match.start()]) else refuse()
    if where := PLACE.match(text):
        return where[1].rstrip(" ,")
    raise NotHere


def negated(random: Random, text: str) -> str:
    """What was with it is not."""
    match = one_of(random, list(re.finditer(r"\b(with|has|have|wearing|and) (an?|some|two|three) ", text)))
    if match[1] == "and":
        return text[: match.start()] + f"without {match[2]} " + text[match.end() :]
    new = {"with": "without", "has": "has no", "have": "have no", "wearing": "not wearing"}[match[1]]
    return (
        text[: match.start()]
        + new
        + (f" {match[2]} " if match[1] in ("with", "wearing") else " ")
        + text[match.end() :]
    )


def refuse() -> str:
    """Nothing to change here."""
    raise NotHere


SAME_PICTURE: Mapping[str, Edit] = {
    "synonym": synonym,
    "boilerplate": framed,
    "praise": tagged,
    "place first": fronted,
    "verb form": verbal,
    "order": turned_round,
    "typo": mistyped,
    "letters": dressed,
    "style worded": restyled,
    "tags in order": shuffled_tags,
}
OTHER_PICTURE: Mapping[str, Edit] = {
    "colour": replaced((0,)),
    "thing": replaced(NOUNS),
    "pose": replaced((15,)),
    "relation": replaced((16, 23, 24)),
    "place": replaced((17,)),
    "quality": replaced((18, 19, 20, 21, 22, 26, 27, 28)),
    "action": replaced((29, 30)),
    "number": recounted,
    "swapped words": swapped_words,
    "swapped phrases": swapped_phrases,
    "style": restyle,
    "added thing": extended,
    "added place": placed,
    "dropped": shortened,
    "negation": negated,
}


def plain(text: str) -> str:
    """As the edits want it: small first letter, no full stop."""
    text = " ".join(text.split()).rstrip(" .")
    return text[:1].lower() + text[1:]


def edited(random: Random, text: str, edits: Mapping[str, Edit], y: int, tries: int = 8) -> Pair | None:
    """One edit by chance, or None when none of some finds anything; now and then `a` is the edited one."""
    text = plain(text)
    for kind in random.sample(list(edits), min(tries, len(edits))):
        try:
            new = edits[kind](random, text)
        except NotHere:
            continue
        if new != text:
            return Pair(text, new, y, kind) if random.random() < 0.6 else Pair(new, text, y, kind)
    return None


def twice(random: Random, text: str) -> Pair | None:
    """Two harmless edits on top of each other, or a harmful one among harmless ones."""
    y = int(random.random() < 0.5)
    first = edited(random, text, SAME_PICTURE if y else OTHER_PICTURE, y)
    if first is None:
        return None
    second = edited(random, first.b, SAME_PICTURE, 1)
    if second is None or len(second.a) > 600:
        return None
    new = second.b if second.a == plain(first.b) else second.a
    return Pair(first.a, new, y, first.kind) if new != first.a else None
