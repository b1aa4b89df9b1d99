"""Reads the body of a request as a JSON object."""

import json

from flask import abort, request


def read_object() -> dict[str, object]:
    """The body as a JSON object; aborts with 415 for another content type, with 400 for anything but an object."""
    if not request.is_json:
        abort(415, "send the request as JSON, with the header Content-Type: application/json")
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        abort(400, f"the body is not valid JSON: {error}")
    if not isinstance(body, dict):
        abort(400, 'the body must be a JSON object such as {"prompt": "a red fox in the snow"}')
    return body
