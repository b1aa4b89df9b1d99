"""POST /api/v1/starts: upload a picture that others are to be started from (image to image)."""

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from web.picture_requests import start_of

from .documents import StartDocument
from .openapi import Answer, described

bp = Blueprint("starts", __name__)

LARGEST_UPLOAD = 16 * 2**20  # bytes
ROOM = {"starts.upload": LARGEST_UPLOAD, "pages.ask": LARGEST_UPLOAD * 3 // 2}  # a form says itself what is too large


def make_room() -> None:
    """Let requests that bring a picture be larger than others."""
    if request.endpoint in ROOM:
        request.max_content_length = ROOM[request.endpoint]


@bp.post("/api/v1/starts")
@described(
    {201: Answer("It is kept.", StartDocument)},
    refused=(400, 413, 422),
    upload=("image/png", "image/jpeg", "image/webp"),
)
def upload() -> ResponseReturnValue:
    """The body is a PNG, JPEG or WebP picture, or a form with one as `image`; 201 with the value of `start`."""
    data = request.files["image"].read() if "image" in request.files else request.get_data()
    if not data:
        abort(400, "send a picture as the body, or as the field image of a multipart form")
    return {"start": start_of(data)}, 201
