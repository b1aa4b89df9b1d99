"""A random name for each browser, in a cookie."""

import secrets

from flask import Response, request

from web.auth import VISITOR, cookie_name, visitor

COOKIE_SECONDS = 365 * 24 * 3600


def name_visitor(response: Response) -> Response:
    """Name a browser that has no name yet, so that "Another one" never shows it the same picture twice."""
    if not visitor():
        name = secrets.token_hex(16)
        options = {"secure": request.is_secure, "httponly": True, "samesite": "Lax"}
        response.set_cookie(cookie_name(VISITOR), name, max_age=COOKIE_SECONDS, **options)
    return response
