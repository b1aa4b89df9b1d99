"""Splits PNG, JPEG and WebP files into their parts, and leaves out those that pixels do not need.

Colour profiles, comments and thumbnails are not kept, so they are not parsed either: a decoder that stumbles over one
of them, or spends minutes on a million, would lose the picture for nothing.
"""

import struct
import zlib
from collections.abc import Iterator

from memo.errors import BadPicture

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
CHUNK_ENDS = 12  # bytes of a PNG chunk besides its body: length, type and checksum
SOI, EOI, SOS, APP0, APP1, ADOBE, APP15, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE  # JPEG, table B.1
WITHOUT_BODY = {0x01, *range(0xD0, 0xD8), SOI, EOI}  # markers that no length follows
START_OF_SCAN = b"\xff\xda"  # cannot occur in a scan's own data, where \xff is always followed by \0
MAX_CHUNKS = 100_000  # a PNG of 500 MB with the usual chunks of 8 KB has 64,000
MAX_SEGMENTS = 10_000
MAX_SCANS = 40  # progressive files usually have ten; a decoder goes over all pixels again for each scan


def split_png(data: bytes) -> Iterator[tuple[bytes, slice]]:
    """The type and the byte range of each complete chunk (https://www.w3.org/TR/png-3/#5Chunk-layout).

    Raises BadPicture after MAX_CHUNKS.
    """
    start, kind = len(PNG_SIGNATURE), b""
    for _ in range(MAX_CHUNKS):
        if not data.startswith(PNG_SIGNATURE) or start + CHUNK_ENDS > len(data) or kind == b"IEND":
            return
        length, kind = struct.unpack_from(">I4s", data, start)
        stop = start + CHUNK_ENDS + length
        if stop > len(data):
            return
        yield kind, slice(start, stop)
        start = stop
    raise BadPicture(f"it has over {MAX_CHUNKS:,} chunks: save it again as PNG")


def png_body(data: bytes, place: slice) -> bytes:
    """The body of a PNG chunk; empty if its checksum is wrong."""
    kind_and_body = data[place.start + 4 : place.stop - 4]
    intact = zlib.crc32(kind_and_body).to_bytes(4, "big") == data[place.stop - 4 : place.stop]
    return kind_and_body[4:] if intact else b""


def strip_png(data: bytes) -> bytes:
    """The file with only the chunks that its pixels need; of an animation, only the default image.

    A truncated last chunk stays, so that the decoder notices it.
    """
    kept, end = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    for kind, place in split_png(data):
        end = place.stop
        if kind in PNG_PIXELS:
            kept.append(data[place])
    return b"".join([*kept, data[end:]])


def split_jpeg(data: bytes) -> Iterator[tuple[int, slice]]:
    """The marker and the byte range of each segment before the first scan (ITU-T T.81, B.1).

    Raises BadPicture after MAX_SEGMENTS.
    """
    start = 0
    for _ in range(MAX_SEGMENTS):
        start = data.find(b"\xff", start)
        if start < 0 or start + 4 > len(data):
            return
        marker, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == SOS:
            return
        if marker in (0x00, 0xFF):  # a stuffed byte or padding
            start += 1
            continue
        stop = start + 2 if marker in WITHOUT_BODY else start + 2 + max(2, length)
        yield marker, slice(start, stop)
        start = stop
    raise BadPicture(f"it has over {MAX_SEGMENTS:,} segments: save it again as JPEG")


def strip_jpeg(data: bytes) -> bytes:
    """The file without metadata; raises BadPicture after MAX_SCANS."""
    kept, end = [], 0
    for marker, place in split_jpeg(data):
        end = place.stop
        if marker in (APP0, ADOBE) or not APP0 <= marker <= APP15 and marker != COM:
            kept.append(data[place])
    if data.count(START_OF_SCAN, end) > MAX_SCANS:
        raise BadPicture(f"it is a JPEG picture with over {MAX_SCANS} scans: save it again as JPEG")
    return b"".join([*kept, data[end:]])


def split_webp(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The type and the body of each chunk (RFC 9649, 2.3); raises BadPicture after MAX_CHUNKS."""
    start = 12
    for _ in range(MAX_CHUNKS):
        if start + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, start)
        yield kind, data[start + 8 : start + 8 + length]
        start += 8 + length + length % 2
    raise BadPicture(f"it has over {MAX_CHUNKS:,} chunks: save it again as WebP")
