"""What a remembered prompt says beyond what is asked for, where leaving it out surprises nobody.

"A red fox sitting in deep snow at dusk" serves who asks for "a fox in snow", never the other way round.
`without_more` leaves out of a remembered prompt the harmless words that the new one does not have: qualities,
natural colours, poses, places, times and light. Further things, numbers, styles, names, negations and quoted text
are never left out, so that a judge of equal meaning can decide on what is left. Knows English words, no networks.
"""

import re

from .rules import PRAISE, words

QUALITIES = frozenset(
    """
    adorable attractive beautiful big bright calm charming clean clear cosy cozy crisp curly cute deep delicate
    delicious dense detailed elegant empty fine fluffy fresh friendly furry gentle glossy gorgeous graceful
    grassy happy large leafy little lone lonely long lovely lush magnificent majestic mossy neat nice peaceful
    plain playful pleasant polished pretty proud quiet realistic rocky round rustic sandy serene shaggy shiny
    short silky sleek small smooth snowy soft solitary stunning sunlit sunny sweet tall tasty thick tidy
    traditional vibrant vintage warm weathered wild wise wonderful wooden young
    """.split()
)
COLOURS = frozenset("beige black blond brown dark golden gray grey orange red silver tan white yellow".split())
POSES = frozenset(
    """
    standing sitting lying resting sleeping walking running grazing looking posing perched parked playing
    steaming waiting gazing smiling seated relaxing facing staring strolling
    """.split()
)
PLACES = frozenset(
    """
    afternoon autumn backdrop background beach bush bushes cabin clearing cliff cloud clouds coast countryside
    dawn day daylight daytime desert dune dunes dusk evening fall field fields floor flowers fog forest garden
    glade glow grass ground grove harbor harbour haze hill hills hillside home horizon house indoors kitchen
    lake lakeside lawn leaves light lighting living meadow midday mist moonlight morning mountain mountains
    night noon ocean outdoors outside park path pasture pavement plain plains pond rain ridge river riverbank
    road roadside rock rocks room sand savanna sea seaside shade shore sidewalk sky snow spring square stone
    storm stream street summer summit sun sunlight sunrise sunset sunshine swamp table trail tree trees twilight
    valley village water waves weather wind winter wood woods yard
    """.split()
)
PREPOSITIONS = frozenset(
    """
    above across against along amid among around at atop before behind below beneath beside between by during in
    inside near next on outside over past through to towards under underneath within
    """.split()
)
SMALL = frozenset("a an the of its his her their some very really quite with".split())
OF_PLACES = frozenset(
    """
    ancient blue bluish brick busy city cloudy cobbled cold country distant dusty flowery foggy front frozen
    full green hot muddy narrow old open overcast paved purple rainy smoky starry stormy turquoise warm wet
    white wide windy
    """.split()
)
DESCRIBING = QUALITIES | COLOURS
TOKEN = re.compile(r"[\w'’-]+|[^\w\s]")


def without_more(old: str, wanted: str) -> tuple[str, list[str]]:
    """The remembered prompt without harmless extras, and these; the prompt itself where there are none."""
    if re.search(r"[\"“”]", old):
        return old, []
    asked = set(words(wanted)) | {stem(word) for word in words(wanted)}
    phrases = split(old)
    kept, extras = [], []
    for number, phrase in enumerate(phrases):
        if number and harmless(phrase, asked):
            extras.append(" ".join(phrase).strip(" ,"))
        else:
            left = [word for word in phrase if not extra(word, asked)]
            extras += [word for word in phrase if extra(word, asked)]
            kept.append(left)
    text = re.sub(r"\s+([,.;!?])", r"\1", " ".join(word for phrase in kept for word in phrase)).strip(" ,")
    return (text, extras) if extras and words(text) else (old, [])


def split(prompt: str) -> list[list[str]]:
    """Words by phrase; a phrase begins with a preposition, a pose or a comma."""
    found: list[list[str]] = [[]]
    for word in TOKEN.findall(prompt):
        low = word.casefold()
        behind = found[-1]
        together = len(behind) == 1 and behind[0].casefold() in PREPOSITIONS | {"and", ","}  # "next to", ", in"
        if (low in PREPOSITIONS or low == "," or low == "and") and behind and not together:
            found.append([])
        found[-1].append(word)
    return found


def harmless(phrase: list[str], asked: set[str]) -> bool:
    """Whether a phrase only tells a place, a time or light, or praises, of which nothing is asked for."""
    said = [word.casefold() for word in phrase]
    if said[0] == "and":
        return False
    if said[0] == "," and " ".join(said[1:]) in PRAISE:
        return True
    telling = [word for word in said if word.isalpha() and word not in SMALL | PREPOSITIONS]
    if not telling or any(word in asked or stem(word) in asked for word in telling):
        return False
    return telling[-1] in PLACES and all(word in PLACES | DESCRIBING | POSES | OF_PLACES for word in telling)


def extra(word: str, asked: set[str]) -> bool:
    """Whether a single word describes, harmlessly, and is not asked for."""
    low = word.casefold()
    return low in DESCRIBING | POSES and low not in asked and stem(low) not in asked


def stem(word: str) -> str:
    """Roughly: snowy and snow, woods and wood, sitting and sit are the same here."""
    for ending in ("ing", "es", "s", "y"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return re.sub(r"(.)\1$", r"\1", word.removesuffix(ending))
    return word
