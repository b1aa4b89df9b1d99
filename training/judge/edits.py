"""Pairs of a human-written prompt and its edit: harmless edits, and edits that ask for another picture.

Edits work on words and phrases of the lexicon, without parsing. An edit raises NothingToEdit when none applies.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from memo.judge.labelled_pairs import Pair
from worker.stickers.nouns import add_article, plural

from .grammar import SIMILAR_COLOURS, SIMILAR_NOUNS, SIMILAR_POSES, NothingToEdit
from .lexicon import (
    ANIMALS,
    COLOURS,
    FOOD,
    FRAMES,
    FURNITURE,
    NUMBER_WORDS,
    OPPOSITES,
    PEOPLE,
    PHOTO_STYLE,
    POSES,
    RELATIONS,
    SCENERY,
    SETTINGS,
    SIMILAR_RELATIONS,
    SIMILAR_SETTINGS,
    SMALL,
    STYLES,
    SYMMETRIC,
    TAGS,
    VEHICLES,
)

Edit = Callable[[Random, str], str]
STYLE_WORDS = re.compile(
    r"\b(photo|photograph|painting|painted|watercolou?r|sketch|drawing|drawn|cartoon|anime|render|rendering|3d|art|"
    r"illustration|style|logo|statue|sculpture|icon|emoji|poster|pixel|black and white|portrait|origami|by [a-z]+)\b",
    re.I,
)
NOUN_PHRASE = r"(?:an?|the|one|two|three|four|five|six|some|several|[2-6]) (?:[a-z-]+ ){0,2}?[a-z-]+"
TWO_PHRASES = re.compile(rf"^({NOUN_PHRASE}) (and|with) ({NOUN_PHRASE})$")
PLACE_AT_END = re.compile(
    r"^(.{8,}?)[,]? ((?:in|on|at|near|by|behind|beside|under|inside) (?:an?|the|his|her|its|some) [^,.]{3,40})$"
)
IS_DOING = re.compile(
    r"\b(man|woman|boy|girl|person|child|dog|cat|bird|horse|bear|train|bus|car|it|he|she) is (\w+ing)\b"
)
DOING = re.compile(
    r"\b(an?|the|one) ((?:[a-z-]+ )?(?:man|woman|boy|girl|person|child|dog|cat|bird|horse|bear|bus|car)) (\w+ing)\b"
)
SYNONYMS: tuple[tuple[str, ...], ...] = (
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


def list_word_kinds() -> Iterator[tuple[list[tuple[str, ...]], Sequence[set[str]]]]:
    """(entries, similar pairs) of each kind of words; similar entries never replace each other."""
    yield [(colour,) for colour in (*COLOURS, "silver", "beige", "turquoise")], SIMILAR_COLOURS
    for nouns in (PEOPLE, ANIMALS, VEHICLES, FURNITURE, SMALL, FOOD, SCENERY):
        yield list(nouns), SIMILAR_NOUNS
        yield [tuple(plural(word) for word in forms) for forms in nouns], SIMILAR_NOUNS
    yield list(POSES.values()), SIMILAR_POSES
    yield list(RELATIONS.values()), SIMILAR_RELATIONS
    yield list(SETTINGS.values()), SIMILAR_SETTINGS
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


WORD_KINDS = tuple(list_word_kinds())
KINDS_OF_WORD: dict[str, list[tuple[int, int]]] = {}
for kind_number, (entries, _) in enumerate(WORD_KINDS):
    for entry_number, entry in enumerate(entries):
        for form in entry:
            KINDS_OF_WORD.setdefault(form, []).append((kind_number, entry_number))
KNOWN_WORDS = re.compile(rf"\b({'|'.join(map(re.escape, sorted(KINDS_OF_WORD, key=len, reverse=True)))})\b")
NOUN_KINDS = tuple(range(1, 15))  # numbers of the kinds that are nouns
NOUN_PATTERN = "|".join(
    sorted(
        (form for kind in NOUN_KINDS for entry in WORD_KINDS[kind][0] for form in entry),
        key=lambda form: (-len(form), form),
    )
)
NOUN_WITH_DETERMINER = re.compile(rf"\b(?:an?|the|two|three|four) (?:[a-z-]+ )?(?:{NOUN_PATTERN})\b")
NUMBER = re.compile(r"\b(one|two|three|four|five|six|seven|eight|[2-9])\b(?! ?(?:\d|k\b|mm|d\b|:|\.|/))")
SYNONYMS_OF = {word: words for words in SYNONYMS for word in words}
SYNONYM_PATTERN = re.compile(rf"\b({'|'.join(map(re.escape, sorted(SYNONYMS_OF, key=len, reverse=True)))})\b")


def choose_match(random: Random, matches: Sequence[re.Match[str]]) -> re.Match[str]:
    """A random one of the matches; raises NothingToEdit if there are none."""
    if not matches:
        raise NothingToEdit
    return random.choice(matches)


def replace_match(text: str, match: re.Match[str], words: str) -> str:
    """The text with the match replaced and the article before it corrected ("a" or "an")."""
    before, after = text[: match.start()], text[match.end() :]
    if (article := re.search(r"\b([Aa])n? $", before)) and (right := add_article(words)) != words:
        before = before[: article.start()] + article[1] + right.partition(" ")[0][1:] + " "
    return before + words + after


# --- edits that keep the picture


def replace_by_synonym(random: Random, text: str) -> str:
    """Replace one or two words by synonyms."""
    for _ in range(random.choice((1, 1, 2))):
        matches = [match for match in SYNONYM_PATTERN.finditer(text)]
        matches += [
            match
            for match in KNOWN_WORDS.finditer(text)
            if any(len(WORD_KINDS[kind][0][row]) > 1 for kind, row in KINDS_OF_WORD[match[0]])
        ]
        match = choose_match(random, matches)
        synonyms = {*SYNONYMS_OF.get(match[0], ())}
        for kind, row in KINDS_OF_WORD.get(match[0], ()):
            synonyms |= set(WORD_KINDS[kind][0][row])
        synonyms -= {match[0], "huge", "giant", "tiny"}
        if not synonyms:
            raise NothingToEdit
        text = replace_match(text, match, random.choice(sorted(synonyms)))
    return text


def add_frame(random: Random, text: str) -> str:
    """Put a frame without content around the prompt ("please draw …"), which replaces an existing one."""
    bare = re.sub(r"^(?:an? )?(?:picture|image) of ", "", text)
    return random.choice(FRAMES).format(bare)


def add_tags(random: Random, text: str) -> str:
    """Append one to five quality tags ("masterpiece, 4k"), as people do."""
    return f"{text}, {', '.join(random.sample(TAGS, random.randint(1, 5)))}"


def move_place_to_front(random: Random, text: str) -> str:
    """Move the place to the front: "a dog in the park" → "in the park, a dog"."""
    if not (match := PLACE_AT_END.match(text)) or " and " in match[2]:
        raise NothingToEdit
    return f"{match[2]}, {match[1].rstrip(' ,')}"


def change_verb_form(random: Random, text: str) -> str:
    """ "a man is riding" ↔ "a man riding" ↔ "a man that is riding"."""
    if match := IS_DOING.search(text):
        return text[: match.start()] + f"{match[1]} {match[2]}" + text[match.end() :]
    if match := DOING.search(text):
        how = random.choice(
            ("is", "that is", "who is" if re.search("man|woman|boy|girl|person|child", match[2]) else "is")
        )
        return text[: match.start()] + f"{match[1]} {match[2]} {how} {match[3]}" + text[match.end() :]
    raise NothingToEdit


def reverse_order(random: Random, text: str) -> str:
    """ "a and b" → "b and a", "a left of b" → "b right of a"."""
    if match := TWO_PHRASES.match(text):
        return f"{match[3]} and {match[1]}"
    for name, ways in RELATIONS.items():
        if name not in SYMMETRIC and name not in OPPOSITES:
            continue
        for how in ways:
            if match := re.match(rf"^({NOUN_PHRASE})(?: is)? {how} ({NOUN_PHRASE})$", text):
                back = random.choice(RELATIONS[OPPOSITES.get(name, name)])
                return f"{match[2]} {back} {match[1]}"
    raise NothingToEdit


def add_typos(random: Random, text: str) -> str:
    """Put one or two typos into words of six letters or more."""
    for _ in range(random.choice((1, 1, 2))):
        match = choose_match(random, [match for match in re.finditer(r"\b[a-z]{6,}\b", text)])
        word, at = match[0], random.randrange(1, len(match[0]) - 1)
        misspelt = random.choice(
            (
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
            )
        )
        text = text[: match.start()] + misspelt + text[match.end() :]
    return text


def change_letters(random: Random, text: str) -> str:
    """Change capitals, punctuation, spaces or the first article."""
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


def reword_style(random: Random, text: str) -> str:
    """Word the same style differently."""
    for ways in STYLES.values():
        for way in ways:
            prefix, _, suffix = way.partition("{}")
            longer = len(text) > len(prefix) + len(suffix)
            if longer and text.startswith(prefix) and text.endswith(suffix) and (prefix or suffix):
                bare = text[len(prefix) : len(text) - len(suffix)]
                return random.choice([other for other in ways if other != way]).format(bare)
    raise NothingToEdit


def shuffle_tags(random: Random, text: str) -> str:
    """In a list of tags, swap two tags or drop a quality tag."""
    head, *tags = text.split(", ")
    if len(tags) < 3:
        raise NothingToEdit
    if random.random() < 0.4 and (praise := [tag for tag in tags if tag.lower() in TAGS]):
        tags.remove(random.choice(praise))
    else:
        first, second = sorted(random.sample(range(len(tags)), 2))
        tags[first], tags[second] = tags[second], tags[first]
    return ", ".join([head, *tags])


# --- edits that ask for another picture


def replace_word(kinds: Sequence[int]) -> Edit:
    """An edit that replaces a word of one of these kinds, numbers of WORD_KINDS, by another word of the same kind."""

    def edit(random: Random, text: str) -> str:
        candidates = [
            (match, kind, row)
            for match in KNOWN_WORDS.finditer(text)
            for kind, row in KINDS_OF_WORD[match[0]]
            if kind in kinds
        ]
        if not candidates:
            raise NothingToEdit
        match, kind, row = random.choice(candidates)
        entries, similar = WORD_KINDS[kind]
        old = entries[row]
        similar_words = {word for pair in similar if pair & set(old) for word in pair}
        others = [
            entry
            for entry in entries
            if entry is not old and not similar_words & set(entry) and not set(entry[0].split()) & set(old[0].split())
        ]
        return replace_match(text, match, random.choice(others)[0]) if others else refuse()

    return edit


def change_number(random: Random, text: str) -> str:
    """Replace a number above one with another one."""
    match = choose_match(random, list(NUMBER.finditer(text)))
    old = int(match[0]) if match[0].isdigit() else NUMBER_WORDS.index(match[0])
    if old == 1:
        raise NothingToEdit
    new = random.choice([number for number in range(2, 9) if number != old])
    return replace_match(text, match, str(new) if match[0].isdigit() else NUMBER_WORDS[new])


def swap_words(random: Random, text: str) -> str:
    """Swap two words of a kind: "a red car and a blue bus" → "a blue car and a red bus"."""
    words = [(match, kind, row) for match in KNOWN_WORDS.finditer(text) for kind, row in KINDS_OF_WORD[match[0]]]
    candidates = [
        (first, second)
        for first in words
        for second in words
        if first[0].start() < second[0].start() and first[1] == second[1] and first[2] != second[2]
    ]
    if not candidates:
        raise NothingToEdit
    (first, _, _), (second, _, _) = random.choice(candidates)
    if first.end() > second.start() or re.fullmatch(
        r"(?:,| and| or| with)* (?:an? |the )?", text[first.end() : second.start()]
    ):
        raise NothingToEdit  # "a cat and a dog" means the same with both swapped
    return replace_match(replace_match(text, second, first[0]), first, second[0])


def swap_phrases(random: Random, text: str) -> str:
    """Swap two phrases around a verb or a relation: "a man bites a dog" → "a dog bites a man"."""
    phrases = list(NOUN_WITH_DETERMINER.finditer(text))
    candidates = [
        (first, second)
        for first in phrases
        for second in phrases
        if first.end() < second.start() and first[0].split()[-1] != second[0].split()[-1]
    ]
    if not candidates:
        raise NothingToEdit
    first, second = random.choice(candidates)
    between = text[first.end() : second.start()].strip()
    if between in ("and", "or", "with", ",", "next to", "beside", "near", "", "of", "by the side of"):
        raise NothingToEdit
    return text[: first.start()] + second[0] + text[first.end() : second.start()] + first[0] + text[second.end() :]


def add_style(random: Random, text: str) -> str:
    """Add a style to a prompt without one."""
    if STYLE_WORDS.search(text):
        raise NothingToEdit
    names = [name for name in STYLES if name != PHOTO_STYLE]
    return random.choice(STYLES[random.choice(names)]).format(text)


def add_thing(random: Random, text: str) -> str:
    """Add one more thing."""
    if "," in text and len(text.split()) > 12:
        raise NothingToEdit
    thing = add_article(random.choice(random.choice((ANIMALS, VEHICLES, FURNITURE, SMALL, FOOD, SCENERY)))[0])
    if thing.partition(" ")[2] in text:
        raise NothingToEdit
    how = random.choice(("and {}", "with {}", "next to {}", "and {} in the background"))
    return f"{text.rstrip('.')} {how.format(thing)}"


def add_setting(random: Random, text: str) -> str:
    """Add a place or time to a short prompt without one."""
    if any(way in text for ways in SETTINGS.values() for way in ways) or len(text.split()) > 14:
        raise NothingToEdit
    return f"{text.rstrip('.')} {random.choice(random.choice(list(SETTINGS.values())))}"


def drop_detail(random: Random, text: str) -> str:
    """Remove a colour or the place."""
    colours = list(re.finditer(rf"\b({'|'.join(COLOURS)}) (?=[a-z])", text))
    if colours and random.random() < 0.5:
        match = random.choice(colours)
        return replace_match(text, match, "") if not re.search(r"\ban? $", text[: match.start()]) else refuse()
    if where := PLACE_AT_END.match(text):
        return where[1].rstrip(" ,")
    raise NothingToEdit


def negate(random: Random, text: str) -> str:
    """Negate an attribute or a part: "with a hat" → "without a hat"."""
    match = choose_match(random, list(re.finditer(r"\b(with|has|have|wearing|and) (an?|some|two|three) ", text)))
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
    """Raise NothingToEdit, as an expression."""
    raise NothingToEdit


SAME_PICTURE: Mapping[str, Edit] = {
    "synonym": replace_by_synonym,
    "boilerplate": add_frame,
    "praise": add_tags,
    "place first": move_place_to_front,
    "verb form": change_verb_form,
    "order": reverse_order,
    "typo": add_typos,
    "letters": change_letters,
    "style worded": reword_style,
    "tags in order": shuffle_tags,
}
OTHER_PICTURE: Mapping[str, Edit] = {  # the numbers follow the order in `list_word_kinds`
    "colour": replace_word((0,)),
    "thing": replace_word(NOUN_KINDS),
    "pose": replace_word((15,)),
    "relation": replace_word((16, 23, 24)),
    "place": replace_word((17,)),
    "quality": replace_word((18, 19, 20, 21, 22, 26, 27, 28)),
    "action": replace_word((29, 30)),
    "number": change_number,
    "swapped words": swap_words,
    "swapped phrases": swap_phrases,
    "style": add_style,
    "added thing": add_thing,
    "added place": add_setting,
    "dropped": drop_detail,
    "negation": negate,
}


def normalize(text: str) -> str:
    """The prompt in the form that edits expect: single spaces, small first letter, no full stop."""
    text = " ".join(text.split()).rstrip(" .")
    return text[:1].lower() + text[1:]


def make_pair(random: Random, text: str, edits: Mapping[str, Edit], y: int, tries: int = 8) -> Pair | None:
    """A pair with label `y` by one random edit; None if none of `tries` edits applies. Either side may be edited."""
    text = normalize(text)
    for kind in random.sample(list(edits), min(tries, len(edits))):
        try:
            new = edits[kind](random, text)
        except NothingToEdit:
            continue
        if new != text:
            return Pair(text, new, y, kind) if random.random() < 0.6 else Pair(new, text, y, kind)
    return None


def make_twice_edited_pair(random: Random, text: str) -> Pair | None:
    """A pair by two edits, the second of which is harmless; None if they do not apply or cancel each other."""
    y = int(random.random() < 0.5)
    first = make_pair(random, text, SAME_PICTURE if y else OTHER_PICTURE, y)
    if first is None:
        return None
    second = make_pair(random, first.b, SAME_PICTURE, 1)
    if second is None or len(second.a) > 600:
        return None
    new = second.b if second.a == normalize(first.b) else second.a
    return Pair(first.a, new, y, first.kind) if new != first.a else None
