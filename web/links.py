"""Links to pictures that work for a limited time, for anybody who has them, with or without an API key."""

import io
import time

from flask import Blueprint, abort, current_app, send_file, url_for
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeTimedSerializer

from memo.picture import without_scope

from .extensions import api_keys, memory
from .formats import MIME_TYPES, OutputFormat, convert
from .limits.gates import conversion_turn

bp = Blueprint("links", __name__)

LINK_SECONDS = 3600
LONG_LINK_SECONDS = 7 * 24 * 3600  # of a link made before its picture is painted: as long as jobs are kept


@bp.get("/v1/images/files/<token>")
def file(token: str) -> ResponseReturnValue:
    """The picture that a link leads to; the link itself is the permission."""
    key, output = read_token(token)
    with conversion_turn():
        data = io.BytesIO(convert(without_scope(memory().image(key)), output))
    name = f"{key}.{output.format}"
    response = send_file(data, output.mime_type, download_name=name, etag=False, conditional=True)
    response.headers["Cache-Control"] = f"private, max-age={LINK_SECONDS}, immutable"
    return response


def link_to(key: str, output: OutputFormat, *, long: bool = False) -> str:
    """An absolute URL of a picture, valid for LINK_SECONDS, or for LONG_LINK_SECONDS if `long`.

    Hand it only to users who may see the picture. Raises Unavailable.
    """
    token = token_serializer().dumps([key, output.format, output.quality, output.size, long])
    return url_for("links.file", token=token, _external=True)


def read_token(token: str) -> tuple[str, OutputFormat]:
    """The picture's key and format in a link; aborts with 410 if it has expired, with 404 for a false signature."""
    try:
        (key, kind, quality, size, long), signed_at = token_serializer().loads(token, return_timestamp=True)
    except BadSignature:
        abort(404, "this link is not valid")
    if time.time() - signed_at.timestamp() > (LONG_LINK_SECONDS if long else LINK_SECONDS):
        abort(410, "this link has expired: request the picture again")
    return key, OutputFormat(kind if kind in MIME_TYPES else "png", quality, tuple(size) if size else None)


def token_serializer() -> URLSafeTimedSerializer:
    """The signer of links; all web processes share its secret."""
    return URLSafeTimedSerializer(current_app.secret_key or api_keys().signing_secret(), salt="links to pictures")
