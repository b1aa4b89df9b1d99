"""Pictures as WebP, a third the size of PNG, with the recipe in XMP, and in EXIF for other tools."""

import io
import json
import re
import xml.sax.saxutils as xml

from PIL import Image

from .errors import BadKey, BadPicture
from .image_files import find_kind, read_xmp
from .picture import Picture, from_record, parameters, read_png, read_record, record
from .recipe import from_text, to_text

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
UNICODE = b"UNICODE\0"  # Exif 2.32, table 9: how a comment's characters are coded
NAMESPACE = "urn:memoaized:picture"
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:m={namespace} m:recipe={recipe} m:record={record}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""  # ISO 16684-1; its first line is the same in every file
LARGEST_XMP = 64 * 1024  # bytes that are read
METHOD = 2  # from 0 to 6: its files are a tenth larger than those of 6, and take a fifth of the time


def write_webp(png: bytes, quality: int | None = None) -> bytes:
    """The WebP bytes of a PNG, lossless or with a quality of 1 to 100; raises BadKey if it carries no recipe."""
    picture = read_png(png)
    buffer = io.BytesIO()
    options = {"lossless": True} if quality is None else {"quality": quality}
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.convert("RGB").save(buffer, "WEBP", method=METHOD, xmp=xmp(picture), exif=exif(picture), **options)
    return buffer.getvalue()


def read_webp(data: bytes) -> Picture:
    """The picture that `write_webp` wrote into a file; raises BadKey if the file carries no intact recipe."""
    try:
        packet = read_xmp(data)
    except BadPicture as error:
        raise BadKey(f"not a readable WebP file: {error}") from error
    text = packet[:LARGEST_XMP].decode(errors="replace")
    values = {name: xml.unescape(value, {"&quot;": '"'}) for name, value in re.findall(r'm:(\w+)="([^"]*)"', text)}
    if "recipe" not in values:
        raise BadKey("this WebP carries no recipe: it was not painted here, or its metadata was stripped")
    return from_record(from_text(values["recipe"]), read_record(values.get("record", "{}")))


def read_picture(data: bytes) -> Picture:
    """The picture in a PNG or WebP file; raises BadKey if it carries no intact recipe."""
    return read_webp(data) if find_kind(data) == "WebP" else read_png(data)


def xmp(picture: Picture) -> bytes:
    """The XMP packet with recipe and record, but without the scope, which stays in the store."""
    public = {name: value for name, value in record(picture).items() if name != "scope"}
    values = {"recipe": to_text(picture.recipe), "record": json.dumps(public, sort_keys=True)}
    quoted = {name: '"' + xml.escape(value, {'"': "&quot;"}) + '"' for name, value in values.items()}
    return XMP.format(namespace=f'"{NAMESPACE}"', **quoted).encode()


def exif(picture: Picture) -> bytes:
    """The EXIF data with the recipe as AUTOMATIC1111 writes it into formats other than PNG."""
    tags = Image.Exif()
    tags.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + parameters(picture.recipe).encode("utf-16-be")
    return tags.tobytes()
