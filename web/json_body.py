"""Reads the body of a request as a JSON object, and the values in it that clients write in more than one way."""

import json
import re
from collections.abc import Mapping
from typing import Any

from flask import abort, request

from memo import BadRecipe

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # an escaped half of a surrogate pair: JSON can hold one in no other way
LARGEST_BODY = 64 * 1024  # bytes of a body without a picture, and of all but the picture in a larger one
MAX_VALUES = LARGEST_BODY // 2  # in a body: a larger body may not hold more of them than one of this size
LONGEST_SCALAR = 100  # characters of a text that is a number or a switch
MAX_LEVELS = 32  # of nested objects and lists
MAX_DIGITS = 1000  # of a whole number
NUMBER = re.compile(r"\s*[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})\s*", re.ASCII)
ON, OFF = ("true", "1", "on", "yes", "y", "t"), ("false", "0", "off", "no", "n", "f", "")  # as pydantic reads them
SWITCHES = {**dict.fromkeys(ON, True), **dict.fromkeys(OFF, False)}


def read_object(*pictures: str) -> dict[str, object]:
    """The body as a JSON object; only the fields named in `pictures` may make it larger than LARGEST_BODY.

    Aborts with 415 for another content type, with 400 for anything but an object, and with 413 for a large body that
    holds more than a picture and its settings.
    """
    if not request.is_json:
        abort(415, "send the request as JSON, with the header Content-Type: application/json")
    try:
        text = decode_body()
        check_count(text)
        body = parse_json(text)
    except ValueError as error:
        abort(400, f"the body is not valid JSON: {error}")
    if not isinstance(body, dict):
        abort(400, 'the body must be a JSON object such as {"prompt": "a red fox in the snow"}')
    if HALF_PAIR.search(text):
        refuse_half_pairs(body)
    if len(text) > LARGEST_BODY:
        check_rest({name: value for name, value in body.items() if name not in pictures})
    return body


def decode_body() -> str:
    """The body as text, of which the request keeps no copy; raises ValueError."""
    data = request.get_data(cache=False)
    return data.decode(json.detect_encoding(data))


def check_count(text: str) -> None:
    """Abort with 413 for JSON with too many values to be parsed: millions of them would stop all other threads."""
    if len(text) > LARGEST_BODY and sum(map(text.count, ",[{")) > MAX_VALUES:
        abort(413, f"the body holds over {MAX_VALUES:,} values: send one picture and its settings")


def check_rest(rest: Mapping[str, object]) -> None:
    """Abort with 413 if what a body holds beside its picture is too large."""
    size = len(json.dumps(rest, ensure_ascii=False, separators=(",", ":")))
    if size > LARGEST_BODY:
        abort(413, f"the body holds {size:,} characters beside its picture: shorten them to {LARGEST_BODY:,}")


def refuse_half_pairs(body: Mapping[str, object]) -> None:
    """Raise BadRecipe for a field with half of a surrogate pair, which is not a character and cannot be stored."""
    for name, value in body.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            remedy = "remove the half of a surrogate pair: it is not a character"
            raise BadRecipe(name, value, remedy) from error


def parse_json(text: str) -> object:
    """The JSON value; raises ValueError, also for NaN and Infinity, which JSON does not have, and for deep nesting.

    A value that passes can be written as JSON again without exceeding Python's limits.
    """
    try:
        value = json.loads(text, parse_constant=refuse_constant, parse_int=parse_whole)
    except RecursionError:
        raise ValueError(f"objects and lists are nested more than {MAX_LEVELS} levels deep") from None
    check_levels(value)
    return value


def refuse_constant(name: str) -> None:
    """Raise ValueError for NaN, Infinity or -Infinity."""
    raise ValueError(f"{name} is not a JSON number")


def parse_whole(text: str) -> int:
    """The digits as an int; raises ValueError for too many of them."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits; at most {MAX_DIGITS} are allowed")
    return int(text)


def check_levels(value: object) -> None:
    """Raise ValueError for objects and lists that are nested too deeply."""
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        level = [inner for outer in level for inner in parts_of(outer)]
        if not level:
            return
    raise ValueError(f"objects and lists are nested more than {MAX_LEVELS} levels deep")


def parts_of(value: object) -> list[Any]:
    """The values in an object or a list; none for other values."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def to_number(value: Any) -> Any:
    """Text as the number that it contains, and 2.0 as 2; anything else unchanged."""
    if isinstance(value, str) and len(value) <= LONGEST_SCALAR and NUMBER.fullmatch(value):
        value = float(value) if "." in value else int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_switch(value: Any) -> Any:
    """True or False for text or a number that means it, such as "on" or 0; anything else unchanged."""
    if isinstance(value, str) and len(value) > LONGEST_SCALAR:
        return value
    text = str(to_number(value)).strip().casefold() if isinstance(value, str | int | float) else None
    return value if isinstance(value, bool) or text is None else SWITCHES.get(text, value)
