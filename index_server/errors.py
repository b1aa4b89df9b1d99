"""Errors of the embedded index, each saying whose fault it is.

IndexServerError
├── BadRequest     the request is malformed, or asks for something that is not supported
├── NotFound       no such collection or point
├── AlreadyExists  a collection of this name already exists
├── EngineFailure  the engine failed; the request may be correct
├── Damaged        the files of a collection cannot be read
└── CannotStart    a setting is missing, the folder is in use, the disk is full, or files may not be read
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class IndexServerError(Exception):
    """Base of this package's errors; the message is meant for the caller."""


class BadRequest(IndexServerError):
    """The request is malformed or asks for something unsupported; the message names it."""


class NotFound(IndexServerError):
    """The collection or point does not exist."""


class AlreadyExists(IndexServerError):
    """A collection of this name already exists."""


class EngineFailure(IndexServerError):
    """The engine failed."""


class Damaged(IndexServerError):
    """The files of a collection cannot be read."""


class CannotStart(IndexServerError):
    """The settings or files are unusable; the message says what to change."""


def call_engine(call: Callable[[], T]) -> T:
    """Return the engine's answer; raise its errors as NotFound, BadRequest or EngineFailure."""
    try:
        return call()
    except BaseException as error:  # a panic of the engine is not an Exception, and would end the server's main loop
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = str(error)
        if message.startswith("No point with id"):
            raise NotFound(f"Not found: {message}") from error
        if message.startswith(("No range index for", "Validation failed")):
            raise BadRequest(f"Bad request: {message}") from error
        raise EngineFailure(f"Service internal error: {message}") from error
