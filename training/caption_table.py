"""Reads the table that gives each picture its caption or label, as spreadsheets and Hugging Face write it."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from memo.errors import BadSetup
from memo.image_files.kinds import describe_file, find_kind
from memo.recipe import drop_invisible

TEXT_COLUMNS = ("caption", "label")  # a table has exactly one of these columns
OTHER_NAMES = {"file_name": "file", "text": "caption"}  # Hugging Face's ImageFolder, by our own
DELIMITERS = ",;\t|"  # spreadsheets write semicolons where the comma is the decimal sign
EXCEL_DELIMITER = re.compile(r'\A"?sep=(.)"?\r?\n', re.I)  # a first line that Excel writes and hides
HALF_PAIR = re.compile("[\ud800-\udfff]")  # no character; JSON can hold one
ARCHIVE = b"PK"  # such as a workbook of Excel
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks


@dataclass(frozen=True)
class Row:
    """A row of a table: `text` is its caption or label, `extra_fields` are those beyond the last column."""

    file: str
    text: str
    extra_fields: tuple[str, ...] = ()


def read_rows(table: Path) -> tuple[str, Mapping[int, Row]]:
    """The text column ("caption" or "label") and the rows by number, counted from 1 after the header.

    Empty rows are counted and left out. Raises BadSetup if the table cannot be read, if a column is missing or stands
    there twice, or if the table has both text columns.
    """
    header, *records = read_records(table)
    columns = [OTHER_NAMES.get(name, name) for name in (drop_invisible(name).strip().lower() for name in header)]
    column = find_text_column(table, columns)
    places = columns.index("file"), columns.index(column)
    rows = {number: make_row(record, places, len(columns)) for number, record in enumerate(records, 1)}
    return column, {number: row for number, row in rows.items() if row != Row("", "")}


def make_row(record: Sequence[str], places: tuple[int, int], columns: int) -> Row:
    """The row of a record, whose file and text stand at two places; a short record lacks them.

    Files in folders may be written as on Windows.
    """
    file, text = (record[place].strip() if place < len(record) else "" for place in places)
    return Row(file.replace("\\", "/"), text, tuple(field for field in record[columns:] if field.strip()))


def find_text_column(table: Path, columns: Sequence[str]) -> str:
    """The text column of a table; raises BadSetup unless there is exactly one, and one column `file`."""
    text_columns = [name for name in TEXT_COLUMNS if name in columns]
    if len(text_columns) == 2:
        raise BadSetup(f"{table} has both a column caption and a column label; remove one of them")
    missing = [] if "file" in columns else ["file"]
    missing += [] if text_columns else ["caption (sentences) or label (classes)"]
    if missing:
        present = ", ".join(filter(None, columns)) or "none"
        raise BadSetup(f"{table} lacks the column {' and '.join(missing)}; it has {present}")
    if double := [name for name in ("file", *text_columns) if columns.count(name) > 1]:
        raise BadSetup(f"{table} has the column {double[0]} twice; remove one")
    return text_columns[0]


def read_records(table: Path) -> list[list[str]]:
    """The fields of each line, the header first; raises BadSetup."""
    try:
        data = table.read_bytes()
    except OSError as error:
        raise BadSetup(f"{table} cannot be read: {error.strerror}") from error
    if data.startswith(ARCHIVE) or find_kind(data):
        raise BadSetup(f"{table} is {describe_file(data)}, not a table: save it as CSV in UTF-8")
    if data.startswith(UTF_16) or b"\0" in data:
        raise BadSetup(f"{table} is UTF-16 from its first row on, or no table: save it as UTF-8")
    text = data.decode("utf-8-sig", errors="replace").lstrip("\r\n")
    if text.lstrip().startswith("["):
        raise BadSetup(f"{table} is one list in JSON: write one object a line (JSON Lines)")
    records = split_json(table, text) if text.lstrip().startswith("{") else split_csv(table, text)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BadSetup(f"{table} is not UTF-8 {find_damage(records)}: save it as UTF-8") from error
    return records or [[]]


def find_damage(records: Sequence[Sequence[str]]) -> str:
    """The first row with a character that could not be decoded, as "in row n, …"."""
    for number, record in enumerate(records):
        if damaged := next((field for field in record if "\ufffd" in field), ""):
            return f"in {f'row {number}' if number else 'its header'}, {damaged[:60]!r}"
    return "everywhere"


def split_csv(table: Path, text: str) -> list[list[str]]:
    """The fields of each line of a CSV, whatever its delimiter; raises BadSetup."""
    first = EXCEL_DELIMITER.match(text)
    body = text[first.end() :] if first else text
    delimiter = first[1] if first else max(DELIMITERS, key=body.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    records: list[list[str]] = []
    try:
        records.extend(reader)
    except csv.Error as error:
        raise BadSetup(f"{table} cannot be read in row {len(records)}: {error}; look at its quotes") from error
    return records


def split_json(table: Path, text: str) -> list[list[str]]:
    """The columns, and the fields of each line of JSON Lines (https://jsonlines.org); raises BadSetup."""
    objects = [parse_line(table, number, line) for number, line in enumerate(text.split("\n"), 1)]
    columns = list(dict.fromkeys(chain.from_iterable(objects)))
    numbered = enumerate(objects, 1)
    return [columns, *([as_text(table, n, fields.get(name)) for name in columns] for n, fields in numbered)]


def parse_line(table: Path, number: int, line: str) -> Mapping[str, object]:
    """The object in a line of JSON, empty for an empty line; raises BadSetup."""
    try:
        fields = json.loads(line.strip() or "{}")
    except (ValueError, RecursionError) as error:
        raise BadSetup(f"{table} cannot be read in row {number}: it is no line of JSON ({error})") from error
    if not isinstance(fields, dict):
        raise BadSetup(f"{table} cannot be read in row {number}: it is no JSON object")
    return fields


def as_text(table: Path, number: int, value: object) -> str:
    """The value of a JSON field as the text that a CSV would hold; numbers may be labels. Raises BadSetup."""
    text = "" if value is None else str(value)
    if isinstance(value, list | dict):
        raise BadSetup(f"{table} cannot be read in row {number}: {text[:60]!r} is no text")
    if not text.isascii() and HALF_PAIR.search(text):
        raise BadSetup(f"{table} cannot be read in row {number}: {text[:60]!r} has half of a surrogate pair")
    return text
