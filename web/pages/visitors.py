"""A random name for each browser, in a cookie."""

import secrets

from flask import Response, request

from web.auth import VISITOR, cookie_name, visitor

COOKIE_SECONDS = 365 * 24 * 3600


def name_visitor(response: Response) -> Response:
    """Name a browser that has no name yet, so that "Another one" never shows it the same picture twice."""
    if not visitor():
        name = secrets.token_hex(16)
        full_name, secure = cookie_name(VISITOR), request.is_secure
        response.set_cookie(full_name, name, COOKIE_SECONDS, secure=secure, httponly=True, samesite="Lax")
    return response
