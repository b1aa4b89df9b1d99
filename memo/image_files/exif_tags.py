"""Reads two EXIF tags, orientation and comment, whatever the others hold (Exif 2.32; TIFF 6.0, section 2).

Pillow decodes every tag of a directory, so one malformed tag loses them all, and many entries that point to the same
long value fill the memory.
"""

import struct
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

ORIENTATION, EXIF_IFD, USER_COMMENT = 0x0112, 0x8769, 0x9286
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4}  # bytes per value, for the TIFF types that the three tags may have
PREFIX = b"Exif\0\0"
LARGEST_COMMENT = 2**20  # bytes
CODES = (b"UNICODE\0", b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"\0" * 8)  # Exif 2.32, table 9: a comment's first 8 bytes
BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True)
class ExifTags:
    """The tags of an EXIF block, with or without the prefix that it has in JPEG files. Nothing here raises."""

    block: bytes

    @property
    def data(self) -> bytes:
        """The TIFF file in the block."""
        return self.block.removeprefix(PREFIX).removeprefix(PREFIX)  # some programs write it twice

    @property
    def order(self) -> str:
        """The byte order of numbers, as `struct` writes it."""
        return "<" if self.data[:2] == b"II" else ">"

    @property
    def orientation(self) -> int:
        """From 1 to 8; 1, upright, if there is no valid tag."""
        value = self.number(self.find(self.read_offset(4), ORIENTATION))
        return value if 1 <= value <= 8 else 1

    @property
    def comment(self) -> str:
        """The user's comment, or ""."""
        directory = self.number(self.find(self.read_offset(4), EXIF_IFD))
        return decode_comment(self.find(directory, USER_COMMENT), self.order)

    def read_offset(self, position: int) -> int:
        """The four-byte number at a position; 0 beyond the end."""
        return self.number(self.data[position : position + 4])

    def number(self, value: bytes) -> int:
        """The number in two or four bytes; 0 for any other length."""
        return int.from_bytes(value, "little" if self.order == "<" else "big") if len(value) in (2, 4) else 0

    def find(self, directory: int, tag: int) -> bytes:
        """The value of a tag in the directory at an offset; empty if there is none."""
        data, order = self.data, self.order
        if not 8 <= directory <= len(data) - 2:
            return b""
        (count,) = struct.unpack_from(f"{order}H", data, directory)
        table = data[directory + 2 : directory + 2 + 12 * count]
        entries = struct.iter_unpack(f"{order}HHI4s", table[: len(table) // 12 * 12])
        for number, kind, length, value in entries:
            if number == tag and kind in SIZES:
                size = SIZES[kind] * length
                return value[:size] if size <= 4 else data[(place := self.number(value)) : place + size]
        return b""


def decode_comment(comment: bytes, order: str) -> str:
    """The text of a comment, whose encoding many programs name wrongly or not at all.

    `order`, the byte order of the file's numbers, decides only between equally likely texts.
    """
    code = next((code for code in CODES if comment[:8].upper() == code), b"")
    text = comment[len(code) : LARGEST_COMMENT]
    if code.startswith(b"JIS"):
        return text.decode("iso2022_jp", errors="replace").strip("\0 ")
    for mark, coding in BYTE_ORDER_MARKS:
        if text.startswith(mark):
            return text[len(mark) :].decode(coding, errors="replace").strip("\0 ")
    readings = list_readings(text, code, order)
    return min((reading.strip("\0 ") for reading in readings), key=count_oddities, default="")


def list_readings(text: bytes, code: bytes, order: str) -> Iterator[str]:
    """The possible texts of a comment, the likeliest first.

    The code UNICODE means UTF-16 in either byte order, or UTF-8. The other codes mean one byte a letter, unless the
    text holds zero bytes.
    """
    if not code.startswith(b"UNICODE") and b"\0" not in text.strip(b"\0"):
        yield decode_utf8_or_latin1(text)
        return
    for coding in ("utf-16-le", "utf-16-be") if order == "<" else ("utf-16-be", "utf-16-le"):
        yield text[: len(text) // 2 * 2].decode(coding, errors="replace")
    with suppress(UnicodeDecodeError):
        yield text.decode()


def decode_utf8_or_latin1(text: bytes) -> str:
    """Decode bytes as UTF-8 if that is possible, else as Latin-1."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def count_oddities(text: str) -> int:
    """A score of how unlikely a text is: characters that nobody types, plus the blocks of 256 code points it uses.

    Text decoded in the wrong byte order, or with the bytes of two letters taken for one, spreads over many blocks.
    """
    odd = sum(unicodedata.category(sign) in ("Cc", "Cn", "Co", "Cs") and sign not in "\t\n\r" for sign in text)
    return odd + text.count("\ufffd") + len({ord(sign) >> 8 for sign in text})
