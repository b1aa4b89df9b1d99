"""English noun forms: plurals, and "a" or "an". Knows no drawings."""

from memo.judge.english import IRREGULAR_PLURALS

IRREGULAR = {
    **IRREGULAR_PLURALS,
    "spaceman": "spacemen",
    "snowman": "snowmen",
    "tooth": "teeth",
    "die": "dice",
    "scarf": "scarves",
    "loaf": "loaves",
    "elf": "elves",
    "shelf": "shelves",
    "cactus": "cacti",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "volcano": "volcanoes",
    "tornado": "tornadoes",
    "ox": "oxen",
}
SAME = frozenset("jellyfish aircraft dice squid shrimp".split())  # one squid, two squid
# Nouns that take no "a": PAIRS come in twos or in numbers, MASS nouns are substances.
PAIRS = frozenset(
    "scissors glasses eyeglasses spectacles sunglasses pants jeans trousers skis gloves headphones fries grapes "
    "pancakes eyes clothes shorts goggles briefs socks books flowers chopsticks bubbles fireworks lungs lips".split()
)
MASS = frozenset(
    "popcorn bacon bread cheese coffee milk wine beer champagne lightning luggage baggage chocolate candy fire "
    "spaghetti butter salt sushi water yarn wood soap money".split()
)
UNIQUE = frozenset(
    "santa,santa claus,father christmas,statue of liberty,earth,planet earth,saturn,mrs. claus,mount fuji".split(",")
)


def plural(name: str) -> str:
    """The plural of a noun phrase: "fox" → "foxes", "cup of tea" → "cups of tea", "scissors" → "scissors"."""
    if name in UNIQUE:
        return name
    if (parts := name.partition(" of "))[1]:
        return plural(parts[0]) + " of " + parts[2]
    head, gap, last = name.rpartition(" ")
    return head + gap + plural_word(last)


def plural_word(word: str) -> str:
    """The plural of one word."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in SAME or word in PAIRS or word in MASS:
        return word
    if word.endswith(("s", "x", "ch", "sh", "z")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in ("a", "e", "i", "o", "u", ""):
        return f"{word[:-1]}ies"
    return f"{word}s"


def is_countable(name: str) -> bool:
    """Whether a noun can follow a number, as in "three foxes"."""
    return name not in UNIQUE and head_word(name) not in MASS | PAIRS


def add_article(noun: str) -> str:
    """The noun with "a" or "an", as in "a fox", "an owl", "a unicorn"; "jeans" and "bread" stay as they are."""
    if not is_countable(noun):
        return noun
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith(('uni', 'ufo', 'eu')) else 'a'} {noun}"


def head_word(name: str) -> str:
    """The head of a noun phrase: "loaf of bread" → "loaf", "fire truck" → "truck"."""
    return name.partition(" of ")[0].rpartition(" ")[2]


# Names of drawings that are adjectives or verbs in most prompts: "a relaxed bear", "a walking bear", "a sunny day".
# They are drawn only if a prompt names nothing else.
NOT_NOUNS = frozenset(
    """
    angry anxious art astonished biking blush calling camping censored cheers climbing cloudy cold compression
    confused construction cool date disappointed disguised drooling exhale exhaling expressionless fencing flags
    flushed frowning grimacing grin grinning growing hooray horns hot hug hugging hushed innocent joy kissing
    laughing levitate levitating lmao locked lol low lying mag mega melt metal mute nauseated neutral notes party
    partying peek pensive pinch pleading pour pout punch quiet rage rainy relaxed relieved rofl royalty running
    salute satisfied scream shaking shush sleeping sleepy smile smirk smirking smoking sneezing snowy sob sound
    standing stormy sunny sweat tada thinking tired triumph unamused unlock unlocked victory vulcan walking weary
    wedding wink wood woozy worried worry wrestling wtf yawn yawning yes yum zany
    """.split()
)
BODY_PARTS = frozenset("eye eyes ear ears nose mouth lips tongue tooth teeth leg legs foot feet muscle smile".split())
