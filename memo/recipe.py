"""A recipe holds everything that decides a picture, and its key is the picture's only name.

Which models exist and which sizes they can paint is checked by `jobs.models`.
"""

import base64
import binascii
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import groupby

from .errors import BadKey, BadRecipe

SAMPLERS = ("dpm++2m", "ddim", "euler", "euler-a", "lcm")
SCHEDULES = ("native", "karras")
MODES = ("fast", "reproducible")
LONGEST_PROMPT = 2000  # characters, after white space is normalized
LONGEST_RAW = 4 * LONGEST_PROMPT  # before; a letter may be sent as several characters
LONGEST_BLANK = 100_000  # the same for a text that is mostly white space
MAX_MARKS = 30  # on one letter
LETTERS = ("Lu", "Ll", "Lt", "Lo", "Nl", "Nd")
INVISIBLE = re.compile(  # characters without visible effect, which are dropped; `unprintable` refuses others
    # https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e001f]"
    # selectors of a variant, except after an emoji, a sign or a letter that has variants
    "|(?<![0-9#*\u00a9\u00ae\u0300-\U0010ffff])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
    # joiners shape emoji and the letters of some scripts, but have no effect beside Latin letters and spaces
    "|(?<![\u0300-\u1fff\u2100-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\u1fff\u2100-\U0010ffff])"
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"  # tags, except after the flag that they change
)
SIDE = range(64, 2049)  # pixels
STEPS = range(1, 151)
GUIDANCE = (0.0, 30.0)
STRENGTH = 0.6  # how much an initial picture changes: 1 leaves nothing of it
LARGEST_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
TEXT_PREFIX = "memo1."
LARGEST_CANONICAL = 32_768  # bytes of canonical JSON that a recipe text may unpack to


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to paint. Checks its fields when created: BadRecipe names the field, the value and the remedy.

    `seed=None` makes it a wish ("any seed will do"), which can be looked up and queued; a painted picture always has
    a seed. Defaults can never change: a field at its default is left out of the canonical bytes, so that a new field
    with a default changes no key.
    """

    prompt: str
    model: str
    revision: str
    negative_prompt: str = ""
    adapter: str = ""
    width: int = 256  # pixels
    height: int = 256  # pixels
    steps: int = 20
    guidance_scale: float = 5.0
    sampler: str = "dpm++2m"
    schedule: str = "native"
    seed: int | None = None
    mode: str = "fast"
    init_image: str = ""  # the name of an initial picture, see Memory.keep_init_image
    strength: float = STRENGTH

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            object.__setattr__(self, name, check_text(name, getattr(self, name)))
        if not self.prompt:
            raise BadRecipe("prompt", self.prompt, "describe what to paint")
        for name in ("model", "revision"):
            check_name(name, getattr(self, name))
        check_name("adapter", self.adapter, may_be_empty=True)
        for name in ("width", "height"):
            object.__setattr__(self, name, read_side(name, getattr(self, name)))
        object.__setattr__(self, "steps", read_whole("steps", self.steps, STEPS.start, STEPS.stop - 1))
        object.__setattr__(self, "guidance_scale", round_guidance(self.guidance_scale))
        check_choice("sampler", self.sampler, SAMPLERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("mode", self.mode, MODES)
        check_init_image(self.init_image)
        object.__setattr__(self, "strength", round_strength(self.strength) if self.init_image else STRENGTH)
        if self.seed is not None:
            object.__setattr__(self, "seed", read_whole("seed", self.seed, 0, LARGEST_SEED))

    @property
    def key(self) -> str:
        """32 hex digits (128 bits of BLAKE2b): the name of the stored object, the index point and the URL."""
        return hashlib.blake2b(canonical_bytes(self), digest_size=16).hexdigest()

    @property
    def wish(self) -> "Recipe":
        """This recipe without its seed."""
        return replace(self, seed=None)


CANONICAL_NAMES = {"init_image": "start"}  # fields with another name in the canonical form, which must not change
FIELD_NAMES = {canonical: name for name, canonical in CANONICAL_NAMES.items()}


def canonical_bytes(recipe: Recipe) -> bytes:
    """The canonical form as UTF-8 JSON with sorted keys: equal on every machine, and hashed to make keys."""
    return json.dumps(to_canonical(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def to_canonical(recipe: Recipe) -> dict[str, object]:
    """The fields that differ from their defaults, JSON-able; `from_canonical` returns an equal recipe."""
    values = ((field.name, getattr(recipe, field.name), field.default) for field in fields(recipe))
    return {CANONICAL_NAMES.get(name, name): value for name, value, default in values if value != default}


def from_canonical(values: Mapping[str, object]) -> Recipe:
    """The recipe of a canonical form; raises BadRecipe for unknown, missing or invalid fields."""
    return from_mapping({FIELD_NAMES.get(name, name): value for name, value in values.items()})


def from_mapping(mapping: Mapping[str, object]) -> Recipe:
    """A recipe with these fields; raises BadRecipe for unknown, missing or invalid ones."""
    known = {field.name for field in fields(Recipe)}
    for name, value in mapping.items():
        if name not in known:
            raise BadRecipe(str(name), value, f"the fields of a recipe are {', '.join(sorted(known))}")
    for name in ("prompt", "model", "revision"):
        if name not in mapping:
            raise BadRecipe(name, None, "it is required")
    return Recipe(**mapping)  # type: ignore[arg-type]  # the recipe checks each value


def to_text(recipe: Recipe) -> str:
    """The whole recipe as URL-safe text with a 40-bit checksum; `from_text` returns an equal recipe."""
    packed = base64.urlsafe_b64encode(zlib.compress(canonical_bytes(recipe), 9)).decode().rstrip("=")
    return f"{TEXT_PREFIX}{packed}.{checksum(packed)}"


def from_text(text: str) -> Recipe:
    """The recipe that `to_text` wrote; raises BadKey for anything else, even a single mistyped character."""
    prefix, _, rest = text.strip().partition(".")
    packed, _, check = rest.partition(".")
    if prefix + "." != TEXT_PREFIX or not packed:
        raise BadKey(f"a recipe text begins with {TEXT_PREFIX!r}, this one with {text[:12]!r}")
    if check != checksum(packed):
        raise BadKey(f"the checksum of this recipe text is {checksum(packed)}, not {check!r}: mistyped or cut off?")
    try:
        return from_canonical(json.loads(unpack(packed)))
    except (BadRecipe, ValueError, zlib.error) as error:
        raise BadKey(f"this recipe text holds no recipe: {error}") from error


def checksum(packed: str) -> str:
    """The checksum of a packed recipe: eight base32 characters."""
    return base64.b32encode(hashlib.blake2b(packed.encode(errors="replace"), digest_size=5).digest()).decode().lower()


def unpack(packed: str) -> bytes:
    """Inflate a packed recipe to at most LARGEST_CANONICAL bytes; raises ValueError or zlib.error."""
    try:
        data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    inflater = zlib.decompressobj()
    unpacked = inflater.decompress(data, LARGEST_CANONICAL)
    if not inflater.eof:
        raise ValueError(f"it is longer than {LARGEST_CANONICAL} bytes")
    return unpacked


def tidy(field: str, text: object) -> str:
    """Normalize a text from a user: drop invisible characters, compose letters (NFC), leave single spaces.

    Letters in other forms (`coﬀee`, `Ⅳ`, full width, bold) become plain ones; other signs stay as they are. Raises
    BadRecipe for characters that no prompt may contain. A recipe does not do this by itself, so that the keys of
    older recipes never change.
    """
    if isinstance(text, str):
        text = drop_invisible(bound(field, text))
        text = text if text.isascii() else plain_letters(check_marks(field, text))
    return check_text(field, text)


def check_text(field: str, text: object) -> str:
    """The text in Unicode NFC with single spaces.

    Raises BadRecipe for a value that is not text or too long, and for characters that no prompt may contain.
    """
    if not isinstance(text, str):
        raise BadRecipe(field, text, "it must be text")
    text = bound(field, text)
    for character in text:
        if fault := unprintable(character):
            remedy = f"remove the character U+{ord(character):04X} ({fault})"
            raise BadRecipe(field, text, remedy)
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if len(text) > LONGEST_PROMPT:
        raise BadRecipe(field, text, f"shorten it from {len(text)} to at most {LONGEST_PROMPT} characters")
    return text


def bound(field: str, text: str) -> str:
    """The text, with single spaces if it is very long; raises BadRecipe if it is too long even to be read."""
    if len(text) <= LONGEST_RAW:
        return text
    if len(text) > LONGEST_BLANK or len(text := " ".join(text.split())) > LONGEST_RAW:
        raise BadRecipe(field, text, f"shorten it from {len(text)} to at most {LONGEST_PROMPT} characters")
    return text


def drop_invisible(text: str) -> str:
    """The text without its INVISIBLE characters."""
    return INVISIBLE.sub("", text)


def check_marks(field: str, text: str) -> str:
    """The text; raises BadRecipe for more marks over one letter than any script has.

    Normalizing takes time quadratic in their number (https://www.unicode.org/reports/tr15/#Stream_Safe_Text_Format).
    """
    for is_mark, marks in groupby(text, lambda character: unicodedata.combining(character) > 0):
        if is_mark and (count := len(list(marks))) > MAX_MARKS:
            raise BadRecipe(field, text, f"write at most {MAX_MARKS} marks over one letter, not {count}")
    return text


def plain_letters(text: str) -> str:
    """The text with ligatures, full-width, bold and other forms of letters in their plain form (NFKC)."""
    return "".join(plain_letter(character) if character > "\u00ba" else character for character in text)


def plain_letter(character: str) -> str:
    """The Latin letters or digits that a letter, digit or Roman numeral is a form of; others as they are."""
    plain = unicodedata.normalize("NFKC", character)
    is_letter = unicodedata.category(character) in LETTERS
    return plain if is_letter and plain.isascii() and plain.isalnum() else character


def unprintable(character: str) -> str | None:
    """The reason why a prompt may not contain a character; None if it may."""
    category = unicodedata.category(character)
    if category == "Cs":
        return "half of a surrogate pair"
    if category == "Cc" and character not in "\t\n\r":
        return "a control character"
    if unicodedata.bidirectional(character) in {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }:
        return "an invisible change of writing direction"
    return None


def check_name(field: str, value: object, *, may_be_empty: bool = False) -> None:
    """Raise BadRecipe unless the value is a short printable name."""
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable() or value != value.strip():
        raise BadRecipe(field, value, "it must be a name of at most 200 printable characters")
    if not value and not may_be_empty:
        raise BadRecipe(field, value, f"name a {field}")


def read_side(field: str, value: object) -> int:
    """The width or height in pixels as an int; raises BadRecipe for one that no picture may have."""
    side = read_whole(field, value, SIDE.start, SIDE.stop - 1)
    if side % 8:
        nearest = max(SIDE.start, round(side / 8) * 8)
        raise BadRecipe(field, value, f"it must be a multiple of 8, for example {nearest}")
    return side


def read_whole(field: str, value: object, least: int, most: int) -> int:
    """Return the value as an int; accepts 12.0, which many JSON writers use for 12.

    Raises BadRecipe unless it is a whole number from `least` to `most`, both included.
    """
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool) or not least <= whole <= most:
        raise BadRecipe(field, value, f"it must be a whole number from {least} to {most}")
    return whole


def round_guidance(value: object) -> float:
    """The guidance scale to six decimals; raises BadRecipe outside GUIDANCE."""
    least, most = GUIDANCE
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadRecipe("guidance_scale", value, f"it must be a number from {least:g} to {most:g}")
    return round(float(value), 6) + 0.0  # no index returns all 17 digits of a float; -0.0 becomes 0.0


def check_init_image(value: object) -> None:
    """Raise BadRecipe unless the value is empty or a valid name of an initial picture."""
    if value != "" and (not isinstance(value, str) or not re.fullmatch("[0-9a-f]{32}", value)):
        raise BadRecipe("init_image", value, "it must be a picture's key, or the name that an upload returned")


def round_strength(value: object) -> float:
    """The strength to six decimals; raises BadRecipe unless it is above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise BadRecipe("strength", value, "it must be a number above 0 and at most 1")
    return round(float(value), 6) or 1e-6


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise BadRecipe unless the value is one of the choices."""
    if value not in choices:
        raise BadRecipe(field, value, f"choose one of {', '.join(choices)}")
