"""The file in which a colleague accepts, rejects or edits the sentences of a bundle: CSV out and in. Pure.

A row is one record of the bundle. These columns are read back, in any order; others, such as ``class`` and ``name``,
are for the reader alone:

    bundle     the pinned reference of the bundle, the same in every row
    row        what names the record: a digest of class and text, so that no sorting or counting can move it
    text       as in the bundle; a file whose texts no longer belong to their rows is refused
    decision   empty (keep, not looked at), accept, reject, edit
    new_text   with edit: what the text should be
    reason     with reject or edit: why

Spreadsheets write semicolons or tabs for commas, carriage returns, and a byte order mark; all are read. What a
spreadsheet would run as a formula has an apostrophe before it, and a text with characters that hide or move others is
written with escapes, behind a backslash.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

from abs_core.descriptions import Description
from abs_core.text import csv_table, quoted, text_of_cell, visible_cell
from abs_core.text_files import ExternalFormatError

__all__ = [
    "COLUMNS",
    "Decision",
    "ReviewRow",
    "parse_review_file",
    "row_id",
    "serialize_review_file",
]

Decision = Literal["", "accept", "reject", "edit"]
_DECISIONS: tuple[Decision, ...] = ("", "accept", "reject", "edit")
COLUMNS = ("bundle", "row", "class", "name", "kind", "text", "decision", "new_text", "reason")
_READ = ("bundle", "row", "text", "decision", "new_text", "reason")


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One row as it was read. ``line`` is the one in the file that it begins on."""

    line: int
    bundle: str
    row: str
    text: str
    decision: Decision
    new_text: str
    reason: str


def row_id(record: Description) -> str:
    """What names a record in a review file: ``r`` and 64 bits of the sha256 of class and text, unique together."""
    return "r" + hashlib.sha256(f"{record.class_id}\0{record.text}".encode()).hexdigest()[:16]


def serialize_review_file(reference: str, names: Mapping[str, str], records: Iterable[Description]) -> Iterator[bytes]:
    """The review file of a bundle: commas, CRLF, UTF-8 with a byte order mark, without which Excel guesses.

    Args:
        reference: pinned, of the bundle.
        names: class id to name.
        records: of the bundle.
    """
    yield b"\xef\xbb\xbf" + _serialize_row(COLUMNS)
    for record in records:
        yield _serialize_row(
            (reference, row_id(record), record.class_id, names[record.class_id], record.kind, record.text, "", "", "")
        )


def _serialize_row(cells: Sequence[str]) -> bytes:
    row = io.StringIO()
    csv.writer(row, lineterminator="\r\n").writerow([visible_cell(cell) for cell in cells])
    return row.getvalue().encode()


def parse_review_file(text: str) -> Iterator[ReviewRow]:
    """The rows of a review file.

    Raises:
        ExternalFormatError: no CSV, a column is missing, or a row that says nothing clear; with its line.
    """
    content, delimiter = csv_table(text)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        places = _places(next(filter(None, rows), []))
        last_line = rows.line_num
        for cells in rows:
            line, last_line = last_line + 1, rows.line_num
            if any(cell.strip() for cell in cells):
                yield _row(cells, places, line)
    except csv.Error as error:
        raise ExternalFormatError(f"invalid CSV: {error}", rows.line_num) from None


def _places(header: Sequence[str]) -> dict[str, int]:
    names = [cell.strip().lower() for cell in header]
    for column in _READ:
        if names.count(column) != 1:
            number = "no column" if column not in names else "more than one column"
            raise ExternalFormatError(f"the first row has {number} {quoted(column)}", 1)
    return {column: names.index(column) for column in _READ}


def _row(cells: Sequence[str], places: dict[str, int], line: int) -> ReviewRow:
    # Spreadsheets may leave out empty cells at the end of a row.
    values = {
        column: normalize("NFC", text_of_cell(cells[place])) if place < len(cells) else ""
        for column, place in places.items()
    }
    decision = values["decision"].strip().lower()
    if decision not in _DECISIONS:
        raise ExternalFormatError(
            f"unknown decision {quoted(decision)}; valid: accept, reject, edit, or an empty cell", line
        )
    new_text, reason = values["new_text"].strip(), values["reason"].strip()
    if decision == "edit" and not new_text:
        raise ExternalFormatError("the decision is edit and new_text is empty", line)
    if decision != "edit" and new_text:
        raise ExternalFormatError(f"there is a new_text and the decision is {quoted(decision)}, not 'edit'", line)
    if reason and decision not in ("reject", "edit"):
        raise ExternalFormatError(
            f"there is a reason and the decision is {quoted(decision)}, not 'reject' or 'edit'", line
        )
    return ReviewRow(line, values["bundle"].strip(), values["row"].strip(), values["text"], decision, new_text, reason)
