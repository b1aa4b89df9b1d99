"""Reads the texts in PNG, JPEG and WebP files without decoding pixels."""

import zlib
from collections.abc import Iterator

from memo.errors import BadPicture

from .containers import APP1, COM, png_body, split_jpeg, split_png, split_webp
from .exif_tags import PREFIX, ExifTags, decode_utf8_or_latin1
from .kinds import UPLOADS, check_kind

COMMENT = "comment"  # the name of a text in a JPEG's comment segment, as Pillow and AUTOMATIC1111 call it
USER_COMMENT = "exif comment"  # the name of the EXIF comment, as AUTOMATIC1111 calls it
LARGEST_TEXT = 2**20  # bytes of one text, unpacked
LARGEST_TEXTS = 4 * 2**20  # bytes of all texts of a file together


def read_texts(data: bytes) -> dict[str, str | None]:
    """The texts in a file by name; None for one that is too long to be read. Raises BadPicture for other formats.

    The EXIF comment is called "exif comment", the text of a JPEG's comment segment "comment"; PNG texts have their
    own names.
    """
    kind = check_kind(data, UPLOADS)
    texts = dict(png_texts(data)) if kind == "PNG" else {}
    if kind == "JPEG":
        comments = [data[place][4:] for marker, place in split_jpeg(data) if marker == COM]
        texts |= {COMMENT: decode_utf8_or_latin1(comments[0]).strip("\0 ")} if comments else {}
    comment = ExifTags(read_exif(data, kind)).comment
    return texts | ({USER_COMMENT: comment} if comment else {})


def read_exif(data: bytes, kind: str) -> bytes:
    """The EXIF block of a PNG, JPEG or WebP file; empty if there is none."""
    if kind == "PNG":
        return next((png_body(data, place) for chunk, place in split_png(data) if chunk == b"eXIf"), b"")
    if kind == "JPEG":
        blocks = (data[place][4:] for marker, place in split_jpeg(data) if marker == APP1)
        parts = [block.removeprefix(PREFIX) for block in blocks if block.startswith(PREFIX)]
        return b"".join(parts)
    return next((body for chunk, body in split_webp(data) if chunk == b"EXIF"), b"")


def read_xmp(data: bytes) -> bytes:
    """The XMP packet of a WebP file; empty if there is none. Raises BadPicture for other formats."""
    check_kind(data, ("WebP",))
    chunks = dict(reversed(list(split_webp(data))))  # the first of a type counts
    if not chunks:
        raise BadPicture("it is a WebP picture that is cut off")
    return chunks.get(b"XMP ", b"")


def png_texts(data: bytes) -> Iterator[tuple[str, str | None]]:
    """The name and the text of each text chunk; None for a text that is too long."""
    left = LARGEST_TEXTS
    for kind, place in split_png(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, _, rest = png_body(data, place).partition(b"\0")
            text = unpack_text(kind, rest, min(left, LARGEST_TEXT))
            left -= len(text or b"")
            if keyword:
                yield keyword.decode("latin-1"), text if text is None else decode_text(kind, text)


def unpack_text(kind: bytes, rest: bytes, most: int) -> bytes | None:
    """The text of a chunk after its keyword (https://www.w3.org/TR/png-3/#11textinfo); None if it exceeds `most`."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\x01"
        rest = rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    text = inflate(rest, most + 1) if packed else rest
    return text if len(text) <= most else None


def inflate(data: bytes, most: int) -> bytes:
    """At most `most` bytes of what a zlib stream unpacks to; empty if it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""


def decode_text(kind: bytes, text: bytes) -> str:
    """The text of a chunk; many programs write UTF-8 where the format says Latin-1."""
    return text.decode(errors="replace") if kind == b"iTXt" else decode_utf8_or_latin1(text)
