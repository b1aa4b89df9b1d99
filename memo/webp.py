"""A kept picture as WebP, a third as large: its recipe in XMP, and in EXIF what other tools read.

Knows no store and no index.
"""

import io
import json
import re
import xml.sax.saxutils as xml

from PIL import Image, UnidentifiedImageError

from .errors import BadKey
from .picture import Picture, from_record, parameters, read_png, record
from .recipe import from_text, to_text

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
UNICODE = b"UNICODE\0"  # Exif 2.32, table 9: how a comment's characters are coded
NAMESPACE = "urn:memoaized:picture"
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:m={namespace} m:recipe={recipe} m:record={record}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""  # ISO 16684-1; its first line is the same in every file
LARGEST_XMP = 64 * 1024  # bytes
METHOD = 2  # of 6: a tenth larger than the slowest, in a fifth of the time


def write_webp(png: bytes, quality: int | None = None) -> bytes:
    """WebP bytes of a kept PNG, lossless or of a quality from 1 to 100; raises BadKey when it carries no recipe."""
    picture = read_png(png)
    buffer = io.BytesIO()
    how = {"lossless": True} if quality is None else {"quality": quality}
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.convert("RGB").save(buffer, "WEBP", method=METHOD, xmp=xmp(picture), exif=exif(picture), **how)
    return buffer.getvalue()


def read_webp(data: bytes) -> Picture:
    """The picture that `write_webp` described; raises BadKey when the file carries no intact recipe."""
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            found = image.info.get("xmp", b"")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise BadKey(f"not a readable WebP file: {error}") from error
    text = found[:LARGEST_XMP].decode(errors="replace") if isinstance(found, bytes) else str(found)[:LARGEST_XMP]
    told = {name: xml.unescape(value, {"&quot;": '"'}) for name, value in re.findall(r'm:(\w+)="([^"]*)"', text)}
    if "recipe" not in told:
        raise BadKey("this WebP carries no recipe: it was not painted here, or its metadata was stripped")
    try:
        return from_record(from_text(told["recipe"]), json.loads(told.get("record", "{}")))
    except ValueError as error:
        raise BadKey(f"this WebP's record cannot be read: {error}") from error


def read_picture(data: bytes) -> Picture:
    """Of a PNG or WebP file; raises BadKey when it carries no intact recipe."""
    return read_webp(data) if data[:4] == b"RIFF" else read_png(data)


def xmp(picture: Picture) -> bytes:
    """The recipe text and the record as attributes in double quotes; whose memory it is stays in the store."""
    facts = {name: value for name, value in record(picture).items() if name != "scope"}
    values = {"recipe": to_text(picture.recipe), "record": json.dumps(facts, sort_keys=True)}
    quoted = {name: '"' + xml.escape(value, {'"': "&quot;"}) + '"' for name, value in values.items()}
    return XMP.format(namespace=f'"{NAMESPACE}"', **quoted).encode()


def exif(picture: Picture) -> bytes:
    """The recipe as AUTOMATIC1111 writes and reads it beside pictures that are no PNG."""
    tags = Image.Exif()
    tags.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + parameters(picture.recipe).encode("utf-16-be")
    return tags.tobytes()
