"""POST /api/v1/init-images: upload a picture that others are to be started from (image to image)."""

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from web.picture_requests import keep_upload

from .documents import InitImageDocument
from .openapi import Answer, described

bp = Blueprint("init_images", __name__)

LARGEST_UPLOAD = 16 * 2**20  # bytes
ROOM = {
    "init_images.upload": LARGEST_UPLOAD,
    "pages.ask": LARGEST_UPLOAD * 3 // 2,
}  # a form says itself what is too large


def make_room() -> None:
    """Let requests that bring a picture be larger than others."""
    if request.endpoint in ROOM:
        request.max_content_length = ROOM[request.endpoint]


@bp.post("/api/v1/init-images")
@described(
    {201: Answer("It is kept.", InitImageDocument)},
    refused=(400, 413, 422),
    upload=("image/png", "image/jpeg", "image/webp"),
)
def upload() -> ResponseReturnValue:
    """The body is a PNG, JPEG or WebP picture, or a form with one as `image`; 201 with the value of `start`."""
    data = request.files["image"].read() if "image" in request.files else request.get_data()
    if not data:
        abort(400, "send a picture as the body, or as the field image of a multipart form")
    return {"init_image": keep_upload(data)}, 201
