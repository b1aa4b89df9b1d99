"""Reads the form of an edit: its fields, and its picture in any way in which clients send one."""

from collections.abc import Iterator

from flask import abort, request
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from memo import BadRecipe
from web.uploads import decode_base64

IMAGE_NAMES = ("image", "image[]", "image[0]")
UNSUPPORTED = ("mask", "markup")  # pictures that would limit the edit to a part of the image
BASE64_STARTS = (b"data:", b"iVBORw", b"/9j/", b"UklGR")  # of a data URL, and of a PNG, JPEG or WebP in base64
PIECE = 64 * 1024  # bytes of the body that are decoded at once
LONGEST_TEXT = 64 * 1024  # bytes of a field that is not a picture


def read_form() -> tuple[dict[str, object], bytes]:
    """The fields that are not empty, as text, and the picture; aborts with 415 for another body. Raises BadRecipe."""
    if request.mimetype != "multipart/form-data":
        abort(415, "send the picture and the fields as multipart/form-data")
    parts = [(name, data) for name, data in read_parts() if data]
    for name in UNSUPPORTED:
        if name in dict(parts):
            raise BadRecipe(name, "a picture", "edits here change the whole picture: leave it out")
    images = [data for name, data in parts if name in IMAGE_NAMES]
    if len(images) != 1:
        raise BadRecipe("image", f"{len(images)} pictures", "send exactly one picture")
    return read_fields([part for part in parts if part[0] not in IMAGE_NAMES]), to_file(images[0])


def read_parts() -> list[tuple[str, bytes]]:
    """The name and the bytes of each part; aborts with 400 for a form that cannot be read, 413 for large headers.

    Flask would decode a picture as text if it came without a file name.
    """
    decoder = MultipartDecoder(
        request.mimetype_params.get("boundary", "").encode(),
        max_parts=request.max_form_parts,
        max_form_memory_size=4 * PIECE,  # of what is not decoded yet: the headers of a part
    )
    parts: list[tuple[str, bytearray]] = []
    try:
        for piece in (*read_pieces(), None):
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
                if isinstance(event, Field | File):
                    parts.append((event.name, bytearray()))
                elif isinstance(event, Data):
                    parts[-1][1].extend(event.data)
    except (ValueError, LookupError) as error:
        abort(400, f"the form cannot be read: {error}")
    return [(name, bytes(data)) for name, data in parts]


def read_pieces() -> Iterator[bytes]:
    """The body in pieces: the decoder searches all that it has with regular expressions, which stop other threads."""
    while piece := request.stream.read(PIECE):
        yield piece


def read_fields(parts: list[tuple[str, bytes]]) -> dict[str, object]:
    """The texts by name; aborts with 413 for one that is too long."""
    for name, data in parts:
        if len(data) > LONGEST_TEXT:
            abort(413, f"the field {name[:40]!r} has {len(data)} bytes; at most {LONGEST_TEXT} are read")
    values: dict[str, object] = {name: data.decode(errors="replace") for name, data in parts}
    if "memo[policy]" in values:  # the openai package writes an object into a form like this
        values["memo"] = {"policy": values.pop("memo[policy]")}
    return values


def to_file(data: bytes) -> bytes:
    """The picture's file, which may have come in base64 or as a data URL; raises BadRecipe."""
    return decode_base64("image", data.decode(errors="replace")) if data.startswith(BASE64_STARTS) else data
