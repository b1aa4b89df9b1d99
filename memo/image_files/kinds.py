"""Names the format of a file by its first bytes: picture formats, and what people send instead of a picture."""

import re

from memo.errors import BadPicture

UPLOADS = ("PNG", "JPEG", "WebP")  # formats that a browser shows and every tool writes
TRAINING = (*UPLOADS, "TIFF", "BMP", "GIF", "AVIF")  # for training pictures: the user's own files, read locally
SIGNATURES = (  # WHATWG MIME Sniffing, section 6, and the formats' own specifications
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("JPEG", rb"\xff\xd8\xff"),
    ("WebP", rb"RIFF....WEBP"),
    ("AVIF", rb"....ftypavi[fs]|....ftyp(?:mif1|msf1).{0,40}avi[fs]"),
    ("HEIC", rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)"),
    ("GIF", rb"GIF8[79]a"),
    ("BigTIFF", rb"II\x2b\0|MM\0\x2b"),
    ("Canon raw", rb"II\*\0....CR\x02"),
    ("TIFF", rb"II\*\0|MM\0\*"),
    ("BMP", rb"BM.{4}\0\0\0\0"),
    ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL "),
    ("JPEG 2000", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    ("Photoshop", rb"8BPS"),
    ("ICO", rb"\0\0[\x01\x02]\0(?!\0\0)"),  # a TGA picture begins alike
    ("GIMP", rb"gimp xcf "),
    ("SVG", rb"(?:\xef\xbb\xbf)?\s{0,99}(?:<\?xml[^>]{0,200}>\s{0,99})?(?:<!--[^>]{0,200}-->\s{0,99})?"
            rb"(?:<!DOCTYPE svg[^>]{0,200}>\s{0,99})?<svg"),
)  # fmt: skip
NOT_PICTURES = (  # the names include an article: each completes "it is …"
    ("a web page (HTML)", rb"(?i:(?:\xef\xbb\xbf)?\s{0,99}<(?:!doctype html|html|head|body|script|!--))"),
    ("a PDF document", rb"%PDF-"),
    ("a PostScript document", rb"%!PS"),
    ("a video", rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI "),
    ("an archive (ZIP)", rb"PK\x03\x04"),
    ("the companion file that macOS writes beside a picture", rb"\0\x05\x16\x07"),
    ("a Windows thumbnail cache (Thumbs.db)", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("a macOS file of folder settings (.DS_Store)", rb"\0\0\0\x01Bud1"),
    ("a Git LFS pointer, not the picture itself", rb"version https://git-lfs"),
)
START = 512  # bytes of a file that are searched for a signature


def find_kind(data: bytes) -> str:
    """The name of a picture's format, such as "PNG" or "HEIC"; "" for anything else."""
    return search(SIGNATURES, data)


def check_kind(data: bytes, kinds: tuple[str, ...]) -> str:
    """The format of a file, if it is one of `kinds`; else raises BadPicture, which names what the file is."""
    kind = find_kind(data)
    if kind in kinds:
        return kind
    advice = "save it as PNG, JPEG or WebP" if kind else "send a PNG, JPEG or WebP picture"
    raise BadPicture(f"it is {describe_file(data)}: {advice}")


def describe_file(data: bytes) -> str:
    """What a file is, such as "a HEIC picture", "a PDF document" or "empty"."""
    if kind := find_kind(data):
        return f"{'an' if kind[0] in 'AIS' else 'a'} {kind} picture"
    return "empty" if not data else search(NOT_PICTURES, data) or "not a picture in a known format"


def search(signatures: tuple[tuple[str, bytes], ...], data: bytes) -> str:
    """The first name whose signature the file begins with, or ""."""
    start = data[:START]
    return next((name for name, pattern in signatures if re.match(pattern, start, re.DOTALL)), "")
