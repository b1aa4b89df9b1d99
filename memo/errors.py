"""All errors that memo raises.

MemoError
├── BadRecipe      a field of a recipe is invalid; names the field, the value and the remedy
├── BadKey         a malformed key or recipe text, or a file without an intact recipe
├── BadPicture     a file is not a picture, or cannot be read; says what it is and what to do
├── Forgotten      memory does not hold this picture
├── Unavailable    the index, the store or the judge cannot be reached now; trying again later may help
└── BadSetup       the configuration cannot work; says what to install or change
    └── OtherEmbedder  the index holds vectors of another text model; also Unavailable until they are re-embedded
"""

from collections.abc import Mapping
from itertools import islice
from reprlib import Repr


class MemoError(Exception):
    """Base class of all errors that memo raises."""


class BadRecipe(MemoError):
    """A field of a recipe is invalid.

    `field` is its name, `value` what it held (shortened), and `remedy` says what would be accepted.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, shorten(value), remedy
        super().__init__(f"{field}: {self.value} cannot be used; {remedy}")


class BadKey(MemoError):
    """A text is not a valid key or recipe, or a picture's file carries no intact recipe."""


class BadPicture(MemoError):
    """A file is not a readable picture. The message is a clause that begins with "it", the file."""


class Forgotten(MemoError):
    """Memory holds no picture or other object of this name."""


class Unavailable(MemoError):
    """A part of memory does not answer."""


class BadSetup(MemoError):
    """The configuration names something that is missing or cannot work."""


class OtherEmbedder(BadSetup, Unavailable):
    """The index holds vectors of another text model than the configured one.

    A process refuses to start with such an index; one that started while the index was down treats it as Unavailable.
    """


def shorten(value: object, limit: int = 80) -> str:
    """The value as one printable line of at most `limit` characters, for error messages.

    It takes bounded time: only the beginning of a long value is read.
    """
    if isinstance(value, str):
        text = repr(value[: limit + 1])
        text = text if value[: limit + 1].isprintable() else to_ascii(text)
    else:
        text = to_ascii(BEGINNINGS.repr(value))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def to_ascii(text: str) -> str:
    """The text with escapes for all but ASCII."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


class BeginningRepr(Repr):
    """Writes the first items of a value, in their order; `reprlib` sorts all keys of a dictionary first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 4, 12, 12, 12
        self.maxstring = self.maxlong = self.maxother = 200

    def repr_dict(self, value: Mapping[object, object], level: int) -> str:
        """See Repr."""
        if level <= 0 and value:
            return "{...}"
        items = [
            f"{self.repr1(key, level - 1)}: {self.repr1(value[key], level - 1)}"
            for key in islice(value, self.maxdict)
        ]
        return "{" + ", ".join(items + ["..."] * (len(value) > self.maxdict)) + "}"


BEGINNINGS = BeginningRepr()
