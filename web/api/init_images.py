"""POST /api/v1/init-images: upload a picture that new ones can start from (image to image)."""

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from web.uploads import keep_upload, large_body

from .documents import InitImageDocument
from .openapi import DocumentedResponse, documented

bp = Blueprint("init_images", __name__)

LONGEST_BOUNDARY = 70  # characters; RFC 2046, section 5.1.1
LARGEST_UPLOAD = 16 * 2**20  # bytes
LARGEST_BODIES = {  # of the endpoints that accept a picture
    "init_images.upload": LARGEST_UPLOAD,
    "create.submit": LARGEST_UPLOAD * 3 // 2,  # the form itself reports a picture that is too large
}


def allow_uploads() -> None:
    """Raise the limit on the body's size for requests that may carry a picture.

    A body of another type stays small: Flask would parse millions of fields of it. Aborts with 400 for a boundary
    that takes long to search.
    """
    if len(request.mimetype_params.get("boundary", "")) > LONGEST_BOUNDARY:
        abort(400, f"the boundary of the form has more than {LONGEST_BOUNDARY} characters")
    may_carry_one = request.mimetype == "multipart/form-data" or request.mimetype.startswith("image/")
    if request.endpoint in LARGEST_BODIES and may_carry_one:
        request.max_content_length = LARGEST_BODIES[request.endpoint]


@bp.post("/api/v1/init-images")
@documented(
    {201: DocumentedResponse("The picture is kept.", InitImageDocument)},
    errors=(400, 413, 422),
    upload=("image/png", "image/jpeg", "image/webp"),
)
def upload() -> ResponseReturnValue:
    """Upload an initial image (PNG, JPEG or WebP) for later jobs, as the body or as the form field `image`."""
    with large_body(LARGEST_UPLOAD):
        is_form = request.mimetype == "multipart/form-data"
        sent = request.files.get("image") if is_form else None
        data = sent.read() if sent else request.get_data(cache=False)
        if not data:
            abort(400, "no picture was sent: send one as the body, or as the field `image` of a multipart form")
        return {"init_image": keep_upload(data)}, 201
