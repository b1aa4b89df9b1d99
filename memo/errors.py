"""Everything memo can raise.

MemoError
├── BadRecipe      the caller asked for something that no painter can follow; names field, value and remedy
├── BadKey         a key or recipe text that is not one: wrong length, wrong checksum, unknown version
├── Forgotten      a picture that memory does not hold
├── Unavailable    the index or the store cannot be reached now; trying again later may help
└── BadSetup       a configuration that cannot work; says what to install or change
    └── OtherEmbedder  the index holds vectors of another text model; Unavailable, too, until they are re-embedded
"""


class MemoError(Exception):
    """Base of all errors raised by memo."""


class BadRecipe(MemoError):
    """A field of the recipe cannot be followed.

    `field` names it, `value` is what was given (shortened), `remedy` says what would be accepted.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, shorten(value), remedy
        super().__init__(f"{field}: {self.value} cannot be used; {remedy}")


class BadKey(MemoError):
    """Text that should be a key or a recipe and is not."""


class Forgotten(MemoError):
    """No picture is kept under this key."""


class Unavailable(MemoError):
    """A part of memory does not answer at the moment."""


class BadSetup(MemoError):
    """The configuration names something that is missing or cannot work."""


class OtherEmbedder(BadSetup, Unavailable):
    """The index was filled by another text model than the one that would search it.

    Nothing starts like this. What started while the index was down goes on as if it still were.
    """


def shorten(value: object, limit: int = 80) -> str:
    """The value as one printable line of at most `limit` characters, for error messages."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
