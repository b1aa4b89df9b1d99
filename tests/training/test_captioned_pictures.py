"""Captioned pictures: read from a folder with a table, checked, saved and opened."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from memo.errors import BadSetup
from training.captioned_pictures import CaptionedPictures, open_captioned_pictures, read_captioned_pictures

NINE = tuple(f"{number}.png,picture number {number}" for number in range(9))


@pytest.fixture
def folder(tmp_path):
    """Nine readable pictures of different shapes and a table that names them."""
    for number in range(9):
        Image.new("RGBA", (40 + number, 30), (number * 20, 0, 0, 255)).save(tmp_path / f"{number}.png")
    write_table(tmp_path, *NINE)
    return tmp_path


def write_table(folder, *rows, header="file,caption"):
    (folder / "captions.csv").write_text("\n".join([header, *rows]))


def read_folder(folder):
    return read_captioned_pictures(folder, folder / "captions.csv", side=16)


def test_a_folder_with_a_table_becomes_square_pictures(folder):
    pairs = read_folder(folder)
    assert pairs.images.shape == (9, 16, 16, 3)
    assert pairs.captions[3] == "picture number 3"


def test_a_table_of_labels_becomes_classes(folder):
    write_table(
        folder, *(f"{number}.png,{'odd' if number % 2 else 'even'}" for number in range(9)), header="file,label"
    )
    pairs = read_folder(folder)
    assert pairs.labelled and pairs.captions[:3] == ("even", "odd", "even")
    pairs.save(folder / "saved")
    assert open_captioned_pictures(folder / "saved").labelled
    write_table(folder, *NINE)
    read_folder(folder).save(folder / "saved")
    assert not open_captioned_pictures(folder / "saved").labelled


def test_transparent_parts_become_white(folder):
    Image.new("RGBA", (40, 40)).save(folder / "0.png")
    assert (read_folder(folder).images[0] == 255).all()


def test_saved_pictures_open_unchanged(folder):
    pairs = read_folder(folder)
    pairs.save(folder / "saved")
    opened = open_captioned_pictures(folder / "saved")
    assert opened.captions == pairs.captions and opened.side == 16
    assert np.array_equal(opened.images, pairs.images)


def test_all_bad_rows_are_counted_and_named_at_once(folder):
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "cut.png").write_bytes((folder / "8.png").read_bytes()[:60])
    Image.new("RGB", (40, 15)).save(folder / "small.png")
    bad = ["1.png, ", "gone.png,lost", "bad.png,broken", "cut.png,half", "small.png,small", ",nothing", "2.png,a,b"]
    write_table(folder, "0.png,good", *bad, "0.png,good")
    with pytest.raises(BadSetup) as error:
        read_folder(folder)
    assert str(error.value).split(": ", 1)[1].split("; row") == [
        "row 2: '1.png' has no caption",
        " 3: 'gone.png' is missing",
        " 4: 'bad.png' is not a picture in a known format: send a PNG, JPEG or WebP picture",
        " 5: 'cut.png' is a damaged, incomplete or unusual PNG file: save it again as PNG or JPEG",
        " 6: 'small.png' has 40×15 px; at least 16×16 are needed",
        " 7: the column file is empty",
        " 8: '2.png' has more fields than columns; put quotes around a caption with a comma",
        " 9: '0.png' is in row 1 already",
    ]
    assert "8 of 9 rows" in str(error.value)


def test_a_file_that_only_looks_like_a_picture_is_named_by_what_it_is(folder):
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "._0.png").write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    Image.fromarray(np.zeros((30, 30), np.float32)).save(folder / "depth.tif")
    write_table(folder, *NINE, "photo.heic,a", "._0.png,b", "Thumbs.db,c", "depth.tif,d", f"{'very ' * 99}long,e")
    with pytest.raises(BadSetup) as error:
        read_folder(folder)
    for fault in (
        "row 10: 'photo.heic' is a HEIC picture: save it as PNG, JPEG or WebP",
        "row 11: '._0.png' is the companion file that macOS writes beside a picture",
        "row 12: 'Thumbs.db' is a Windows thumbnail cache",
        "row 13: 'depth.tif' has 32-bit floats as pixels, not shades: save it with 8 or 16 bits",
        "row 14: 'very very",
    ):
        assert fault in str(error.value)


def test_pictures_of_every_common_format_are_taken(folder):
    shades = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    Image.fromarray(shades).save(folder / "0.png")
    Image.fromarray(shades).save(folder / "1.tif")
    for number, kind in enumerate(("jpg", "webp", "bmp", "gif", "avif"), 2):
        Image.fromarray((shades >> 8).astype(np.uint8)).save(folder / f"{number}.{kind}")
    names = ("0.png", "1.tif", "2.jpg", "3.webp", "4.bmp", "5.gif", "6.avif", "7.png", "8.png")
    write_table(folder, *(f"{name},a ramp" for name in names))
    assert all(abs(int(image.mean()) - 126) < 3 for image in read_folder(folder).images[:7])


def test_a_malformed_tag_beside_the_orientation_does_no_harm(folder):
    turned, width = struct.pack("<HHII", 0x0112, 3, 1, 6), struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + turned + width + b"\0\0\0\0"
    left_red = Image.new("RGB", (40, 40))
    left_red.paste("red", (0, 0, 20, 40))
    left_red.save(folder / "0.png", exif=exif)
    assert read_folder(folder).images[0, 0, 8].tolist() == [255, 0, 0]


TABLES = {
    "semicolons": "file;caption\n" + "\n".join(row.replace(",", ";") for row in NINE),
    "tabs": "file\tcaption\n" + "\n".join(row.replace(",", "\t") for row in NINE),
    "Excel's first line": "sep=;\r\nfile;caption\r\n" + "\r\n".join(row.replace(",", ";") for row in NINE),
    "trailing commas": "file,caption,,\n" + "\n".join(f"{row},," for row in NINE) + "\n,,,\n",
    "a comma too many": "file,caption\n" + "\n".join(f"{row}," for row in NINE),
    "capital letters": "File, Caption\n" + "\n".join(NINE),
    "Hugging Face": "file_name,text\n" + "\n".join(NINE),
    "old line ends": "\r".join(["file,caption", *NINE]),
    "bars": "file|caption\n" + "\n".join(row.replace(",", "|") for row in NINE),
    "Excel's first line in capitals": "SEP=;\nfile;caption\n" + "\n".join(row.replace(",", ";") for row in NINE),
    "blanks before quotes": "file, caption\n"
    + "\n".join(f'"{row.replace(",", chr(34) + ", " + chr(34))}"' for row in NINE),
    "an invisible mark": "\u200bfile,caption\n" + "\n".join(NINE),
    "Windows paths": "file,caption\n" + "\n".join(f".\\{row}" for row in NINE),
    "JSON Lines": "\n".join(
        json.dumps({"file_name": row.split(",")[0], "text": row.split(",")[1], "width": 30}) for row in NINE
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_as_other_programs_write_it(folder, name):
    (folder / "captions.csv").write_bytes(TABLES[name].encode("utf-8-sig" if "sep" in TABLES[name] else "utf-8"))
    pairs = read_folder(folder)
    assert pairs.captions == tuple(row.split(",")[1] for row in NINE) and not pairs.labelled


UNREADABLE = {
    "cp1252": (
        ("file,caption", *NINE[:3], "3.png,a café"),
        "cp1252",
        "not UTF-8 in row 4, 'a caf\ufffd': save it as UTF-8",
    ),
    "GBK": (("file,caption", "0.png,一只狐狸"), "gbk", "not UTF-8 in row 1, .*: save it as UTF-8"),
    "a header in GBK": (("file,caption,说明", "0.png,a,b"), "gbk", "not UTF-8 in its header, .*: save it as UTF-8"),
    "UTF-16": (("file,caption", *NINE), "utf-16", "is UTF-16 from its first row on.*: save it as UTF-8"),
    "UTF-16 without a mark": (
        ("file,caption", *NINE),
        "utf-16-le",
        "is UTF-16 from its first row on.*: save it as UTF-8",
    ),
    "an open quote": (("file,caption", "0.png,one", '1.png,"two'), "utf-8", "cannot be read in row 2: .*quotes"),
    "a column twice": (("file,caption,text", "0.png,one,two"), "utf-8", "has the column caption twice; remove one"),
    "broken JSON": (('{"file": "0.png"}', '{"file"'), "utf-8", "cannot be read in row 2: it is no line of JSON"),
    "JSON without lines": (('[{"file": "0.png", "caption": "a"}]',), "utf-8", "one object a line"),
    "captions in a list": (('{"file": "0.png", "text": ["a", "b"]}',), "utf-8", r"row 1: .*'b'.* is no text"),
    "half of a pair": (('{"file": "0.png", "text": "a \\ud83e"}',), "utf-8", "row 1: .* surrogate pair"),
    "a workbook": (("PK\x03\x04",), "utf-8", r"is an archive \(ZIP\), not a table: save it as CSV in UTF-8"),
    "a picture": (("GIF89a",), "utf-8", "is a GIF picture, not a table"),
    "a list in JSON": (('{"file": "0.png"}', "[1]"), "utf-8", "cannot be read in row 2: it is no JSON object"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_table_says_in_which_row_and_what_to_do(folder, name):
    lines, coding, message = UNREADABLE[name]
    (folder / "captions.csv").write_bytes("\n".join(lines).encode(coding))
    with pytest.raises(BadSetup, match=message):
        read_folder(folder)


def test_beyond_ten_faults_the_rest_are_only_counted(folder):
    write_table(folder, *(f"gone{number}.png,lost" for number in range(13)))
    with pytest.raises(BadSetup, match="13 of 13 rows.*and 3 more"):
        read_folder(folder)


def test_a_picture_may_have_several_captions_but_one_label(folder):
    write_table(folder, *NINE, "0.png,another caption")
    assert len(read_folder(folder).captions) == 10
    write_table(
        folder, *(f"{number}.png,a" for number in range(7)), "7.png,b", "8.png,b", "0.png,b", header="file,label"
    )
    with pytest.raises(BadSetup, match=r"1 of 10.*row 10: '0\.png' is in row 1 already"):
        read_folder(folder)


def test_a_label_with_one_picture_is_refused(folder):
    write_table(folder, *(f"{number}.png,{'cat' if number else 'caat'}" for number in range(9)), header="file,label")
    with pytest.raises(BadSetup, match=r"row 1: '0\.png' is the only picture with the label 'caat'"):
        read_folder(folder)


def test_a_single_label_is_refused(folder):
    write_table(folder, *(f"{number}.png,cat" for number in range(9)), header="file,label")
    with pytest.raises(BadSetup, match="all pictures have the label 'cat'"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,title", r"lacks the column caption \(sentences\) or label \(classes\); it has file, title"),
        ("image,caption", "lacks the column file; it has image, caption"),
        ("file,caption,label", "both a column caption and a column label"),
        ("", "lacks the column file and caption"),
    ],
)
def test_a_table_without_its_two_columns_is_refused(folder, header, message):
    write_table(folder, "0.png,one", header=header)
    with pytest.raises(BadSetup, match=message):
        read_folder(folder)


def test_a_changed_picture_changes_the_fingerprint(folder):
    before = read_folder(folder).fingerprint
    assert read_folder(folder).fingerprint == before
    Image.new("RGB", (40, 40), "blue").save(folder / "0.png")
    assert read_folder(folder).fingerprint != before


def test_a_missing_table_is_refused(folder):
    (folder / "captions.csv").unlink()
    with pytest.raises(BadSetup, match=r"captions\.csv"):
        read_folder(folder)


@pytest.mark.parametrize("count", [0, 7])
def test_too_few_pictures_are_refused(folder, count):
    write_table(folder, *(f"{number}.png,picture" for number in range(count)))
    with pytest.raises(BadSetup, match=f"{count} pictures are too few"):
        read_folder(folder)


def test_a_folder_without_saved_pictures_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="no captioned pictures"):
        open_captioned_pictures(tmp_path)


@pytest.mark.parametrize(
    ("shape", "captions", "fault"),
    [
        ((8, 16, 12, 3), ("x",) * 8, "side"),
        ((8, 16, 16, 3), ("x",) * 7, "7 captions"),
        ((8, 16, 16, 3), ("x",) * 7 + (" ",), "empty captions in rows 8"),
    ],
)
def test_pictures_and_captions_that_do_not_fit_are_refused(shape, captions, fault):
    with pytest.raises(BadSetup, match=fault):
        CaptionedPictures(np.zeros(shape, np.uint8), captions)
