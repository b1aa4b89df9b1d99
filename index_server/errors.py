"""What goes wrong in the embedded index, by whose fault it is.

EdgeError
├── Refused      the request is wrong, or asks for something that is not supported
├── Missing      no such collection or point
├── Exists       a collection of this name is there already
├── Broken       the engine failed; the request may be right
└── CannotStart  a setting is missing, the folder is in use or a collection in it cannot be read
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class EdgeError(Exception):
    """Base of this module's errors; the message is meant for the caller."""


class Refused(EdgeError):
    """The request is wrong or asks for something unsupported; the message names it."""


class Missing(EdgeError):
    """A collection or point that is not there."""


class Exists(EdgeError):
    """A collection that would be created twice."""


class Broken(EdgeError):
    """The engine failed."""


class CannotStart(EdgeError):
    """Settings or files with which there is nothing to serve; says what to change."""


def guarded(call: Callable[[], T]) -> T:
    """The engine's answer, its errors sorted by whose fault they are."""
    try:
        return call()
    except BaseException as error:  # a panic of the engine is no Exception, and would end the server's main loop
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = str(error)
        if message.startswith("No point with id"):
            raise Missing(f"Not found: {message}") from error
        if message.startswith(("No range index for", "Validation failed")):
            raise Refused(f"Bad request: {message}") from error
        raise Broken(f"Service internal error: {message}") from error
