"""Reads the body of a request as a JSON object."""

import json
import re
from collections.abc import Mapping

from flask import abort, request

from memo import BadRecipe

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # of a surrogate pair; the only way to send a half


def read_object() -> dict[str, object]:
    """The body as a JSON object; aborts with 415 for another content type, with 400 for anything but an object."""
    if not request.is_json:
        abort(415, "send the request as JSON, with the header Content-Type: application/json")
    try:
        data = request.get_data()
        text = data.decode(json.detect_encoding(data))
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        abort(400, f"the body is not valid JSON: {error}")
    if not isinstance(body, dict):
        abort(400, 'the body must be a JSON object such as {"prompt": "a red fox in the snow"}')
    if HALF_PAIR.search(text):
        refuse_half_pairs(body)
    return body


def refuse_half_pairs(body: Mapping[str, object]) -> None:
    """Raise BadRecipe for a field with half of a surrogate pair, which is no character and cannot be stored."""
    for name, value in body.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            remedy = "remove the half of a surrogate pair: it is no character"
            raise BadRecipe(name, value, remedy) from error
