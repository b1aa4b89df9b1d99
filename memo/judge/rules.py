"""What makes two prompts ask for different pictures beyond doubt: vetoes, each with its reason in words.

Knows English words, no networks. A veto compares what is said of one matter (numbers, colours, negation, style, left
and right, quoted text, names); where only one prompt speaks of the matter, or none can be made out, it says nothing
unless silence is itself the difference. Right for captions and for long prompts of tags.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, takewhile

Veto = Callable[[str, str], str | None]

NUMBERS: Mapping[str, int] = {
    **dict(zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True)),
    "pair": 2,
    "couple": 2,
    "both": 2,
    "twin": 2,
    "twins": 2,
    "trio": 3,
    "dozen": 12,
}
COLOURS: Mapping[str, str] = {
    word: words.split("/")[0]
    for words in (
        "red/reddish",
        "orange",
        "yellow/yellowish",
        "green/greenish",
        "blue/bluish",
        "purple/violet",
        "pink",
        "brown",
        "black",
        "white",
        "gray/grey",
        "golden/gold",
        "silver",
        "beige",
        "turquoise/teal",
        "maroon",
        "cyan",
        "magenta",
        "coral",
        "lavender",
        "mauve",
    )
    for word in words.split("/")
}
THINGS = frozenset(("coral", "lavender"))  # that colours have their names of: "red coral" is a thing
NOT = re.compile(  # "hatless" is without a hat, "seamless" without nothing that is seen
    r"\b(?:no|not|without|none|never|cannot|nobody|nothing|lacks?|lacking|absent|absence|barefoot|\w+n't|"
    r"(?!seam|wire|time|end|count|flaw|price|home|tire|un)\w{3,}less)\b"
)
ABSENT = re.compile(r"\b(?:no|without|lacking)\s+(?:any\s+|an?\s+|the\s+)?([a-z]+?)s?\b")
STYLES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{words})\b")
    for name, words in {
        "a photograph": r"photos?|photographs?|photograph(?:y|ed)|photorealistic|dslr|polaroid",
        "an oil painting": r"oil painting|oil on canvas|painted in oils?|in oils",
        "a watercolour": r"watercolou?rs?",
        "a painting": r"paintings?|acrylic|gouache|fresco",
        "a sketch": r"sketch(?:es|ed)?|charcoal|pencil drawing|pencil|line art",
        "a drawing": r"drawings?|hand[- ]drawn|drawn in (?:pencil|ink|crayon|charcoal)|doodle|crayon",
        "a cartoon": r"cartoons?|comic|comics",
        "anime": r"anime|manga",
        "a 3D render": r"3d render(?:ing)?|3d|render(?:ing|ed)?|octane|blender",
        "pixel art": r"pixel art|pixelart|8-?bit|16-?bit",
        "a statue": r"statues?|sculptures?",
        "a logo": r"logos?",
        "an icon": r"icons?|emojis?",
        "a sticker": r"stickers?(?= of)",
        "black and white": r"black(?:[- ]and[- ]| ?& ?)white (?:photo|picture|image|style|film|drawing)\w*|"
        r"in black (?:and|&) white(?! (?!of )\w)|b&w|monochrome|grayscale|greyscale",
        "origami": r"origami|papercraft",
        "embroidery": r"embroider(?:y|ed)|knitted|crochet(?:ed)?",
        "stained glass": r"stained glass",
        "clay": r"claymation|made of clay",
        "a poster": r"posters?",
        "a tattoo": r"tattoos?(?= of| design)",
        "a mosaic": r"mosaics?",
        "cyberpunk": r"cyberpunk",
        "steampunk": r"steampunk",
        "low poly": r"low[- ]poly",
        "flat": r"flat (?:icon|design|style|vector)",
        "ukiyo-e": r"ukiyo-?e|woodblock|woodcut",
        "engraving": r"engraving|etching|lithograph",
    }.items()
}
KIN = (  # the first says more than the second, and may be said for it
    ("an oil painting", "a painting"),
    ("a watercolour", "a painting"),
    ("a sketch", "a drawing"),
    ("black and white", "a photograph"),
)
PHOTOGRAPH = "a photograph"  # what many mean who say nothing of style
QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']{2,})'(?!\w)")
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
SEEN = re.compile(rf"{WORD.pattern}|(?<=\w)-(?=\w)|[^\w\s.,;:!?()\"'“”‘’…–—-]")  # man-eating, C#, 50%, emoji
SIDES = re.compile(r"\b(left|right)\b(?! (?:hand|handed|leg|arm|foot|eye|ear|paw|wing|now|there))")
NO_COUNT = re.compile(  # 4k, 50 mm, 16:9, f/1.8, 1 6 6 7, 1984
    r"\b\d+ ?(?:k|d|mm|cm|p|x|fps|bit|px|%)\b|\d+[/:.]\d+|\b[a-z]+/\d\S*|(?:\b\d\b ){2,}\d\b|\b\d{3,}\b|%"
)
SINGLE = re.compile(r"\b(?:exactly one|only one|just one|an? single|single)\b")
GROUPED = re.compile(
    r"\b(?:group|herd|flock|pack|bunch|couple|pair|several|many|some|few|types?|variety|number|lots?|set|rows?)\b"
)
SINGLE_NOUN = re.compile(  # "a red tulip in …": an article, at most two words, the noun, and what may follow a noun
    r"\ban? (?:[a-z]+ ){0,2}?([a-z]{3,})(?=$|[,.;]| (?:in|on|at|with|and|of|by|near|behind|under|next|is|are|"
    r"standing|sitting|drifting|lying|that|which|who|from|over)\b)"
)
PLURALS: Mapping[str, str] = dict(
    pair.split(":")
    for pair in "man:men woman:women child:children person:people mouse:mice wolf:wolves knife:knives leaf:leaves "
    "goose:geese foot:feet policeman:policemen fireman:firemen sheep:sheep fish:fish deer:deer".split()
)
SEVERAL = frozenset(PLURALS.values())
BEFORE_NOUN = 3  # words behind a number among which its noun is
ROOT, ENDING = 5, 3  # letters that a name and its derivation share, and that the longer one may have besides
NO_NAME = frozenset("the this that these those there here his her its their and but with two three some one".split())
READ = 1024  # prompts whose words and styles are remembered: the one asked for is compared with many
SHORT = 3  # words of a prompt in which each one counts
FEW = 25  # words up to which every number counts; long prompts carry numbers that no one counts


def exclusive(groups: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Any two sides of each group, each of words that mean the same here: "rainy/stormy:foggy:sunny wet:dry".

    A narrow group beside a wider one speaks where a prompt says both of the wider one's sides.
    """
    sides = ([frozenset(side.split("/")) for side in group.split(":")] for group in groups.split())
    return [pair for group in sides for pair in combinations(group, 2)]


OPPOSITES = exclusive("""
    daytime/daylight:night/nighttime morning:evening/night sunrise:sunset sunny:rainy/cloudy/snowy
    open/opened:closed/shut wet:dry empty:full/filled young:old/elderly big/large/huge/giant:small/tiny/little
    daytime/daylight/dawn/sunrise/daybreak/morning/noon/midday/afternoon:night/nighttime/midnight
    dawn/sunrise/daybreak/morning:noon/midday/afternoon:dusk/sunset/nightfall/evening dusk:night/nighttime
    dusk/sunset/evening:midnight indoors/indoor:outdoors/outdoor inside:outside asleep/sleeping:awake clean:dirty
    happy/smiling:sad/crying/frowning standing:sitting/seated/lying/kneeling hot:cold/icy
    summer:winter sharp:blurry/blurred dark:bright dress/dresses:skirt/skirts gloves:mittens ancient/old:modern
    rainy/rain/raining/stormy:foggy/fog/misty/mist/hazy:cloudy/overcast:snowy/snow/snowing:sunny thick:thin
    wooden:metal/plastic/glass/stone rough:smooth soft:hard wide:narrow transparent/translucent:opaque
    male/man/men/boy/boys:female/woman/women/girl/girls crowded:deserted/empty burning/lit:extinguished
    vertical/vertically:horizontal/horizontally colorful/colourful:colorless/monochrome alive:dead
    arriving:leaving/departing giving:receiving on:off up:down complete/completed:incomplete visible:invisible
    alligator/alligators:crocodile/crocodiles
    leopard/leopards:tiger/tigers:lynx:jaguar/jaguars:panther/panthers:puma/pumas/cougar/cougars
    ogre/ogres:goblin/goblins:gnome/gnomes:zombie/zombies:dwarf/dwarfs/dwarves:troll/trolls:wizard/wizards
""")
GROWING = exclusive("""
    puppy/puppies/pup/pups:dog/dogs kitten/kittens:cat/cats foal/foals/colt/colts:horse/horses lamb/lambs:sheep
    calf/calves:cow/cows/bull/bulls duckling/ducklings:duck/ducks gosling/goslings:goose/geese
    chick/chicks:chicken/chickens/hen/hens piglet/piglets:pig/pigs fawn/fawns:deer tadpole/tadpoles:frog/frogs
""")
YOUNG = frozenset("young baby little small tiny newborn infant juvenile".split())
UNDONE = 4  # letters of a word before which "un" may stand
HEIGHTS: Mapping[str, str] = {
    **dict.fromkeys("under below beneath underneath".split(), "under"),
    **dict.fromkeys("on onto atop above over".split(), "on or above"),
}


@lru_cache(READ)
def words(prompt: str) -> tuple[str, ...]:
    """Lower-case words in order."""
    return tuple(WORD.findall(prompt.casefold().replace("’", "'")))


def numbers(prompt: str) -> Counter[int]:
    """How often each number is said: "two dogs and 3 cats" → {2: 1, 3: 1}; one only where it is counted."""
    text = prompt.casefold()
    found: Counter[int] = Counter(1 for _ in SINGLE.findall(text))
    for word in WORD.findall(SINGLE.sub(" ", NO_COUNT.sub(" ", text))):
        if (number := as_number(word)) is not None:
            found[number] += 1
    return found


def as_number(word: str) -> int | None:
    """What a word counts."""
    return int(word) if word.isdecimal() else NUMBERS.get(word)


def other_number(old: str, new: str) -> str | None:
    """Another number of things; a number where there was none, too."""
    before, after = numbers(old), numbers(new)
    if before == after or max(len(words(old)), len(words(new))) > FEW:
        return None
    missing, added = before - after, after - before
    if missing and added:
        return f"it has {spoken(missing)}, not {spoken(added)}"
    return None


def other_share(old: str, new: str) -> str | None:
    """Other numbers of the same things, though the numbers themselves may be the same."""
    before, after = counted(old), counted(new)
    for noun in before:
        if noun in after and not before[noun] & after[noun]:
            return f"it has {spoken(sorted(before[noun]))} {noun}, not {spoken(sorted(after[noun]))}"
    return None


def counted(prompt: str) -> dict[str, set[int]]:
    """How many there are of what: "two cats and three big dogs" → {"cats": {2}, "dogs": {3}}."""
    found: dict[str, set[int]] = {}
    said = WORD.findall(NO_COUNT.sub(" ", prompt.casefold()))
    for place, word in enumerate(said, 1):
        if (number := as_number(word)) is not None:
            if noun := next(filter(is_plural, said[place : place + BEFORE_NOUN]), None):
                found.setdefault(noun, set()).add(number)
    return found


def is_plural(word: str) -> bool:
    """By its ending, or known."""
    return word in SEVERAL or (word.endswith("s") and not word.endswith("ss"))


def one_or_several(old: str, new: str) -> str | None:
    """A single thing where the other has several, neither of them counted or grouped."""
    if GROUPED.search(f"{old} {new}".casefold()) or numbers(old) != numbers(new):
        return None
    for one, many, told in ((old, new, "one {}, not several"), (new, old, "several of {}, not one")):
        known = set(words(many))
        for noun in SINGLE_NOUN.findall(one.casefold()):
            if noun not in known and several(noun) in known and several(noun) not in words(one):
                return f"it has {told.format(noun)}"
    return None


def several(noun: str) -> str:
    """Its plural."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou") else f"{noun}s"


def spoken(found: Iterable[object]) -> str:
    """For a sentence."""
    return " and ".join(str(part) for part in found)


def colours(prompt: str) -> set[str]:
    """The colours it names, by their usual names; that of "black and white" is a style, a coral reef has none."""
    text = STYLES["black and white"].sub(" ", prompt.casefold()).replace("coral reef", "reef")
    return {COLOURS[word] for word in words(text) if word in COLOURS}


def other_colour(old: str, new: str) -> str | None:
    """A colour in another's place, or one more, or one less."""
    before, after = colours(old), colours(new)
    if before == after:
        return None
    if after - before and before - after:
        return f"it is {spoken(sorted(before - after))}, not {spoken(sorted(after - before))}"
    if after - before:
        return f"{spoken(sorted(after - before))} is asked for, which it does not say"
    return f"it is {spoken(sorted(before - after))}, which is not asked for"


def bound(prompt: str) -> dict[str, set[str]]:
    """Which colours stand before which noun: "a red and blue car" → {"car": {"red", "blue"}}."""
    found: dict[str, set[str]] = {}
    chain: set[str] = set()
    for word in words(prompt):
        if word in COLOURS and not (chain and word in THINGS):
            chain.add(COLOURS[word])
        elif chain and word not in ("and", "or"):
            if word not in NO_NOUN:
                found.setdefault(word, set()).update(chain)
            chain = set()
    return found


def other_owner(old: str, new: str) -> str | None:
    """The same colours on other things."""
    before, after = bound(old), bound(new)
    for noun in before:
        if noun in after and not before[noun] & after[noun]:
            return f"its {noun} is {spoken(sorted(before[noun]))}, not {spoken(sorted(after[noun]))}"
    return None


def negated(old: str, new: str) -> str | None:
    """One says that something is not so, the other does not, or says it of something else."""
    told = [prompt.casefold().replace("’", "'") for prompt in (old, new)]
    before, after = (NOT.findall(text) for text in told)
    if bool(before) != bool(after):
        return f"{(before or after)[0]!r} is said in one and not in the other"
    absent, missing = (set(ABSENT.findall(text)) for text in told)
    if absent and missing and not absent & missing:
        return f"it is without {spoken(sorted(absent))}, not without {spoken(sorted(missing))}"
    return None


@lru_cache(READ)
def styles(prompt: str) -> frozenset[str]:
    """The styles and media it names: of a watercolour painting the watercolour."""
    text = prompt.casefold()
    found = {name for name, pattern in STYLES.items() if pattern.search(text)}
    return frozenset(found - {plain for special, plain in KIN if special in found})


def other_style(old: str, new: str) -> str | None:
    """A style or medium in another's place, or where there was none."""
    before, after = styles(old), styles(new)
    missing, added = unkin(before - after, after), unkin(after - before, before)
    if missing and added:
        return f"it is {spoken(sorted(missing))}, not {spoken(sorted(added))}"
    if added - {PHOTOGRAPH}:
        return f"{spoken(sorted(added))} is asked for"
    return f"it is {spoken(sorted(missing))}, which is not asked for" if missing - {PHOTOGRAPH} else None


def unkin(some: frozenset[str], others: frozenset[str]) -> set[str]:
    """Those that no kin of is among the others."""
    return {one for one in some if not any((one, other) in KIN or (other, one) in KIN for other in others)}


def other_side(old: str, new: str) -> str | None:
    """Left for right, while what stands first stays first."""
    before, after = SIDES.findall(old.casefold()), SIDES.findall(new.casefold())
    if len(before) != 1 or len(after) != 1 or before == after or max(len(words(old)), len(words(new))) > FEW:
        return None
    first, second = (head(prompt) for prompt in (old, new))
    return f"it says {before[0]}, not {after[0]}" if first == second else None


def head(prompt: str) -> str:
    """The first word that may name a thing."""
    return next((word for word in words(prompt) if word not in LITTLE and word not in COLOURS), "")


NO_NOUN = frozenset(  # what no colour is said of, or not so that it matters
    """background a an the this that who which with without on in at of by to for from is are was beside near next
    behind before under above over below between against holding wearing standing sitting walking looking""".split()
)
LITTLE = frozenset(
    "a an the one two three four some photo picture image of there is are on in to with small large big".split()
)


def opposite(old: str, new: str) -> str | None:
    """A word in one and its opposite in the other, each without the other's."""
    before, after = set(words(old)), set(words(new))
    for one, two in OPPOSITES:
        for this, that in ((one, two), (two, one)):
            if before & this and after & that and not (before & that or after & this):
                return f"it says {spoken(sorted(before & this))}, not {spoken(sorted(after & that))}"
    return None


def undone(old: str, new: str) -> str | None:
    """A word in one, "un" before it in the other: "a finished puzzle" and "an unfinished puzzle"."""
    before, after = set(words(old)), set(words(new))
    for said, told in ((before - after, after - before), (after - before, before - after)):
        if word := next((word for word in sorted(said) if len(word) >= UNDONE and f"un{word}" in told), None):
            return f"one says {word!r}, the other {f'un{word}'!r}"
    return None


def other_age(old: str, new: str) -> str | None:
    """A young animal in one, a grown one in the other, which does not say that it is young."""
    before, after = set(words(old)), set(words(new))
    for young, grown in GROWING:
        for some, others in ((before, after), (after, before)):
            if some & young and others & grown and not (some & grown or others & (young | YOUNG)):
                return f"one says {spoken(sorted(some & young))}, the other {spoken(sorted(others & grown))}"
    return None


def other_height(old: str, new: str) -> str | None:
    """Under a thing in one, on or above it in the other."""
    before, after = heights(old), heights(new)
    for noun in before:
        if noun in after and not before[noun] & after[noun]:
            return f"it is {spoken(before[noun])} the {noun}, not {spoken(after[noun])} it"
    return None


def heights(prompt: str) -> dict[str, set[str]]:
    """How high above what: "a cat under a green table" → {"green": {"under"}, "table": {"under"}}."""
    found: dict[str, set[str]] = {}
    said = [word for word in words(prompt.replace("on top of", "on")) if word not in ("a", "an", "the")]
    for place, height in enumerate(said, 1):
        if height in HEIGHTS:
            for word in takewhile(is_noun, said[place : place + BEFORE_NOUN]):
                found.setdefault(word, set()).add(HEIGHTS[height])
    return found


def is_noun(word: str) -> bool:
    """Whether it may name a thing, or stand before what does."""
    return word not in NO_NOUN and word not in HEIGHTS


def other_text(old: str, new: str) -> str | None:
    """Another wording in quotation marks."""
    before, after = (quoted(prompt) for prompt in (old, new))
    before, after = unwritten(before - after, new), unwritten(after - before, old)
    if not (before or after):
        return None
    return f"the words to be read are {spoken(sorted(before)) or 'none'}, not {spoken(sorted(after)) or 'none'}"


def quoted(prompt: str) -> set[str]:
    """The words in quotation marks, in lower case."""
    return {" ".join(words(text)) for text in letters(prompt)} - {""}


def letters(prompt: str) -> list[str]:
    """What stands in quotation marks, letter by letter."""
    return ["".join(parts) for parts in QUOTED.findall(prompt)]


LETTERING = (
    r"(?:say|says|saying|said|read|reads|reading|titled|entitled|called|named|labell?ed|label|spell|spells|spelling|"
    r"sign|signs|word|words|letter|letters|lettering|text|written|writing|inscription|inscribed|caption|slogan|title|"
    r"logo|printed|engraved)"
)


def unwritten(texts: set[str], prompt: str) -> set[str]:
    """Those that the prompt does not say to be written, without quotation marks: "a sign that says open"."""
    said = " ".join(words(prompt))
    return {text for text in texts if not written(re.escape(text), said)}


def written(text: str, said: str) -> bool:
    """Whether a word of lettering stands at most two words before a text, or right behind it."""
    before, behind = rf"\b{LETTERING} (?:\S+ ){{0,2}}{text}(?!\S)", rf"(?<!\S){text} (?:is )?{LETTERING}\b"
    return re.search(rf"{before}|{behind}", said) is not None


def other_signs(old: str, new: str) -> str | None:
    """Other pictograms, or other letters of a script that is not Latin: text models hardly tell them apart."""
    before, after = signs(old), signs(new)
    return f"it has {before or 'no signs'}, not {after or 'none'}" if before != after else None


def signs(prompt: str) -> str:
    """Pictograms and letters of other scripts, in their order."""
    return "".join(char for char in prompt if not char.isascii() and is_sign(char))


def is_sign(char: str) -> bool:
    """Whether it is a pictogram, or a letter that is not Latin."""
    if unicodedata.category(char) == "So":
        return char not in "©®°™"
    return char.isalpha() and not unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH LATIN"))


def other_name(old: str, new: str) -> str | None:
    """A name (a capital letter inside a sentence) that the other does not have at all, in whatever letters."""
    known, said = ({word.removesuffix("'s") for word in words(prompt)} for prompt in (old, new))
    for name in names(new):
        if not named(name, known):
            return f"{name.title()} is asked for"
    for name in names(old):
        if not named(name, said):
            return f"it shows {name.title()}"
    return None


def named(name: str, said: set[str]) -> bool:
    """Whether a name is said, or what is derived from it: Africa and African, Japan and Japanese."""
    return name in said or any(
        len(short) >= ROOT and long.startswith(short) and len(long) - len(short) <= ENDING
        for short, long in (sorted((name, word), key=len) for word in said)
    )


def names(prompt: str) -> list[str]:
    """Words with a capital letter that does not begin a sentence; none where every word has one."""
    found = re.findall(r"(?<![.!?:\"“] )(?<!^)(?<=\s)[A-Z][a-z]{2,}\b(?!-)", prompt)
    return [name.casefold() for name in found if name.casefold() not in NO_NAME] if few(found, prompt) else []


def few(names: Sequence[str], prompt: str) -> bool:
    """Whether fewer than half of the words are names: else capitals say nothing."""
    return len(names) < len(prompt.split()) / 2


GROUND = (  # what one stands on, in or at unless more is said
    r"(?:(?:a|an|the|some|tall|high|deep|fresh|thick|white|green|dry|wet|snowy|grassy|sandy|muddy|rocky|dusty|busy|"
    r"empty|city|open|big|large|small|wide|narrow|top of an?|top of the) )*(?:snow|grass|hay|sand|mud|dirt|gravel|"
    r"ground|floor|field|meadow|pasture|lawn|garden|yard|park|forest|woods|jungle|desert|savanna|swamp|beach|shore|"
    r"coast|riverbank|hill|hilltop|hillside|mountain|cliff|rock|valley|street|road|sidewalk|pavement|path|trail|"
    r"corner|crosswalk|intersection|square|plaza|town|city|village|farm|barn|stable|pen|platform|stage|bridge|pier|"
    r"dock|porch|balcony|roof|rooftop|terrace|room|kitchen|hallway|corridor|doorway|door|gate|rain|fog|mist|"
    r"wind|storm|sun|sunlight|moonlight|shade|shadow|dark|line|row|circle|crowd)s?(?=$|[,.;:!?]| (?:and|with|in|on|"
    r"at|by|near|next|beside|behind|under|during|while|as|is|are|holding|wearing|looking)\b)"  # no park bench
)
BESIDE = r"(?:next to|beside|near|by|close to|adjacent to|in front of|behind|under|outside|among|between|against)"
STANDING = re.compile(rf"(?<![\w-])standing(?=$|,| {BESIDE} | (?:on|in|at) {GROUND})")
NOT_STANDING = re.compile(  # where it may be that whatever is shown does not stand: on a horse, at a desk, a baby
    rf"\b(?:on|in|into|at|atop|inside|aboard|astride)\b(?! front of | {GROUND})|"
    r"\b(?:last|only|still|left|half|sitting|sits?|seated|lying|lies|laying|kneeling|sleeping|riding|rides|hanging|"
    r"bab(?:y|ies)|infants?|riders?|cyclists?|beds?|blankets?|wheels?|desks?|tables?|computers?|laptops?|pianos?|"
    r"televisions?|tv|screens?)\b"
)
FRAME = re.compile(  # "paint a can" asks for a can, "a paint can" for paint
    r"^(?:(?:please|can you|could you|i want|i would like|give me|show me|draw|create|generate|this is|there is|"
    r"there are|me|(?:paint|make)(?= (?:me|an?|the)\b)|(?:(?:an?|the) )?(?:image shows|(?:picture|image)s? "
    r"(?:of|showing))|please\?)[ ,]+)+"
)
PRAISE = frozenset(
    """highly detailed, very detailed, extremely detailed, intricate details, 4k, 8k, hd, uhd, high quality,
    best quality, masterpiece, sharp focus, trending on artstation, artstation, high resolution, award winning,
    professional, beautiful, stunning, please""".replace("\n    ", " ").split(", ")
)


@lru_cache(READ)
def core(prompt: str) -> tuple[str, ...]:
    """The words that ask for something to be seen: no politeness, no articles, no praise behind commas.

    Nor "standing" on the ground, which whatever does nothing else does anyway.
    """
    text = " ".join(prompt.casefold().replace("’", "'").split()).strip(" .!?")
    head, *tags = (part.strip() for part in text.split(","))
    kept = ", ".join([FRAME.sub("", f"{head} ").strip() or head, *(tag for tag in tags if tag not in PRAISE)])
    kept = kept if NOT_STANDING.search(kept) else STANDING.sub(" ", kept)
    seen = [word for word in SEEN.findall(kept) if word not in ("a", "an", "the", "please")]
    return tuple(COLOURS.get(word, word) for word in seen)


def same_words(old: str, new: str) -> bool:
    """The same words in the same order, up to what no one sees; what is quoted must be the same letter by letter."""
    return bool(core(old)) and core(old) == core(new) and letters(old) == letters(new)


def more_or_less(old: str, new: str) -> str | None:
    """In a few words one more: "a train" and "a subway train", "a chair" and "an armchair"."""
    if max(len(core(prompt)) - core(prompt).count(POSE) for prompt in (old, new)) > SHORT:
        return None
    before, after = counting(old), counting(new)
    return one_more(before, after, old, new) or one_more(before - {POSE}, after - {POSE}, old, new)


def one_more(before: set[str], after: set[str], old: str, new: str) -> str | None:
    """A word that counts in one, with all that count in the other."""
    lost, added = before - after, after - before
    if before < after or longer(added, lost, old):
        return f"{spoken(sorted(added))} is asked for, which it does not say"
    if after < before or longer(lost, added, new):
        return f"it shows {spoken(sorted(lost))}, which is not asked for"
    return None


def counting(prompt: str) -> set[str]:
    """The words of a few that name what is seen."""
    said = [word.removesuffix("'s") for word in core(prompt)]
    return {word for word in said if word.isalpha()} - UNSEEN


def longer(some: set[str], others: set[str], prompt: str) -> bool:
    """Whether it is one word, made of the other prompt's only other one and something that does not stand there."""
    if len(some) != 1 or len(others) != 1:
        return False
    [long], [short] = some, others
    before = long.removesuffix(short)
    return min(len(short), len(before)) >= ENDING and before != long and before not in core(prompt)


POSE = "standing"  # of the things that one prompt has more it tells nothing
UNSEEN = LITTLE | frozenset(  # what changes nothing that is seen, and what other rules and the networks look at
    " ".join(PRAISE).split()
    + """amazing gorgeous lovely nice perfect pretty little positioned placed located and under behind near by at
    beside above below next over group couple pair flock herd pack bunch several many some few lot set row dozen
    twelve photograph painting oil open""".split()
)


WHOLE = 254  # pieces that the text model reads of a prompt; embed.LONGEST and its two marks
PIECE = re.compile(  # at most so many: its vocabulary has all letters, and inside a word these pairs of them
    r"(?<=[a-z])(?:[aeiou][bcdfghjklmnprstyz]|[bcdfghjklmnprstyz][aeiou])|\S"
)


def unread(old: str, new: str) -> str | None:
    """Another wording behind what the text model surely reads of a long prompt."""
    before, after = old.split(), new.split()
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    if max(pieces(old), pieces(new)) <= WHOLE or max(map(pieces, map(" ".join, (before, after)))) <= WHOLE:
        return None
    return "they differ behind what is read of prompts as long as these"


def pieces(text: str) -> int:
    """No fewer than the text model makes of it."""
    return len(PIECE.findall(unicodedata.normalize("NFD", text).lower()))


VETOES: Mapping[str, Veto] = {
    "number": other_number,
    "plural": one_or_several,
    "share": other_share,
    "colour": other_colour,
    "owner": other_owner,
    "negation": negated,
    "style": other_style,
    "opposite": opposite,
    "undone": undone,
    "age": other_age,
    "height": other_height,
    "side": other_side,
    "text": other_text,
    "name": other_name,
    "signs": other_signs,
    "more": more_or_less,
    "unread": unread,
}


def veto(old: str, new: str) -> str | None:
    """The first reason why the picture of `old` is not right for `new`, or None when no rule knows one."""
    return next((reason for rule in VETOES.values() if (reason := rule(old, new)) is not None), None)
