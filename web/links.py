"""Links to pictures that work for a while for whoever has them, with a key or without. Knows no dialect."""

import io
import time

from flask import Blueprint, abort, current_app, send_file, url_for
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeTimedSerializer

from memo.picture import without_scope

from .auth import keys
from .formats import MIME, Form, converted
from .services import memory

bp = Blueprint("links", __name__)

LINK_SECONDS = 3600
KEPT_SECONDS = 7 * 24 * 3600  # of a link that is made before its picture is painted: as long as jobs are kept


@bp.get("/v1/images/files/<token>")
def file(token: str) -> ResponseReturnValue:
    """The picture that a link leads to; the link itself is the permission."""
    key, form = opened(token)
    data = io.BytesIO(converted(without_scope(memory().image(key)), form))
    answer = send_file(data, form.mime, download_name=f"{key}.{form.format}", etag=False, conditional=True)
    answer.headers["Cache-Control"] = f"private, max-age={LINK_SECONDS}, immutable"
    return answer


def link_to(key: str, form: Form, kept: bool = False) -> str:
    """An absolute URL of a picture in a form; give it to those only who may see the picture. Raises Unavailable.

    It is good for LINK_SECONDS, or `kept` for KEPT_SECONDS.
    """
    token = signer().dumps([key, form.format, form.quality, form.size, kept])
    return url_for("links.file", token=token, _external=True)


def opened(token: str) -> tuple[str, Form]:
    """The picture's key and the form that a link was made for; aborts with 410 after its time, else with 404."""
    try:
        (key, kind, quality, size, kept), made = signer().loads(token, return_timestamp=True)
    except BadSignature:
        abort(404, "there is no such link")
    if time.time() - made.timestamp() > (KEPT_SECONDS if kept else LINK_SECONDS):
        abort(410, "this link was good for a while only: ask for the picture again")
    return key, Form(kind if kind in MIME else "png", quality, tuple(size) if size else None)


def signer() -> URLSafeTimedSerializer:
    """Signs with the secret that all web processes share."""
    return URLSafeTimedSerializer(current_app.secret_key or keys().secret(), salt="links to pictures")
