"""What a remembered prompt says beyond what is asked for, where leaving it out surprises nobody.

"A red fox sitting in deep snow at dusk" serves who asks for "a fox in snow", never the other way round.
`without_more` leaves out of a remembered prompt the harmless words that the new one does not have: qualities,
natural colours, poses, places, times and light. Further things, numbers, styles, names, negations and quoted text
are never left out, so that a judge of equal meaning can decide on what is left. Knows English words, no networks.
"""

import re
from itertools import compress, pairwise

from .rules import PRAISE, words

QUALITIES = frozenset(
    """
    adorable attractive beautiful big bright calm charming clean clear cosy cozy crisp curly cute deep delicate
    delicious dense detailed elegant empty fine fluffy fresh friendly furry gentle glossy gorgeous graceful
    grassy happy large leafy little lone lonely long lovely lush magnificent majestic mossy neat nice peaceful
    plain playful pleasant polished pretty proud quiet realistic rocky round rustic sandy serene shaggy shiny
    short silky sleek small smooth snowy soft solitary stunning sunlit sunny tall tasty thick tidy
    traditional vibrant vintage warm weathered wild wise wonderful young
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
    white wide windy wooden
    """.split()
)
NAMES = frozenset(  # other things than without their first word: a red panda is no panda that happens to be red
    f"{first} {second}"
    for row in """
    big:apple/ben/bird/cat/top/wheel
    black:bean/bear/belt/berry/bird/board/box/cherry/coffee/currant/hole/knight/magic/mamba/olive/panther/pepper
    black:pudding/sheep/swan/tea/widow brown:bear/bread/rice/sugar curly:fries/kale
    dark:chocolate/elf/elves/knight/lord deep:dish/sea/space fine:art friendly:ghost
    golden:apple/eagle/fleece/gate/globe/goose/hour/jackal/oriole/pheasant/plover/retriever/snitch/temple
    gray:fox/foxes/heron/seal/whale/wolf/wolves grey:fox/foxes/heron/seal/whale/wolf/wolves
    happy:birthday/meal leafy:seadragon little:mermaid/owl/prince/red/women long:boat/jump/jumper
    orange:blossom/cake/grove/juice/marmalade/peel/sauce/slice/soda/tree
    red:cabbage/carpet/cross/deer/devil/dragon/dwarf/giant/kangaroo/kite/light/meat/onion/panda/pepper/planet
    red:snapper/squirrel/wine rocky:mountain/road silver:birch/fish/fox/foxes/medal/surfer
    snowy:egret/leopard/owl/plover soft:drink/pretzel/serve/shell/toy tall:ship
    white:board/bread/chocolate/christmas/dwarf/elephant/house/lion/meat/pepper/rabbit/rhino/rice/shark/tea/tiger
    white:walker/whale/wine wild:berry/boar/card/cat/dog/flower/fire/goose/geese/rice/turkey/west wise:man/men
    yellow:cab/jacket/submarine
    gazing:ball/globe looking:glass/glasses playing:card/field/ground resting:place
    running:board/gear/machine/short/shoe/track/water sitting:bull/duck/room
    sleeping:bag/beauty/car/giant/mask/mat/pad/pill/policeman
    standing:desk/lamp/mirror/stone/water/wave steaming:basket/pot
    waiting:area/line/list/room walking:boot/cane/dead/frame/palm/shoe/stick
    """.split()
    for first, seconds in [row.split(":")]
    for second in seconds.split("/")
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
            found = [extra(word, behind, asked) for word, behind in pairwise([*phrase, ""])]
            extras += compress(phrase, found)
            kept.append([word for word, more in zip(phrase, found, strict=True) if not more])
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


def extra(word: str, behind: str, asked: set[str]) -> bool:
    """Whether a single word describes, harmlessly, and is not asked for, nor makes a name with the one behind it."""
    low, noun = word.casefold(), behind.casefold()
    if f"{low} {noun}" in NAMES or f"{low} {noun.removesuffix('s')}" in NAMES:
        return False
    return low in DESCRIBING | POSES and low not in asked and stem(low) not in asked


def stem(word: str) -> str:
    """Roughly: snowy and snow, woods and wood, sitting and sit are the same here."""
    for ending in ("ing", "es", "s", "y"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return re.sub(r"(.)\1$", r"\1", word.removesuffix(ending))
    return word
