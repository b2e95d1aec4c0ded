"""The file in which a colleague accepts, rejects or edits the sentences of a bundle: CSV out and in. Pure.

A row is one record of the bundle. These columns are read back, in any order; others, such as ``name``, are for the
reader alone:

    bundle     the pinned reference of the bundle, the same in every row
    row        what names the record: a digest of class and text, so that no sorting or counting can move it
    text       as in the bundle; a file whose texts no longer belong to their rows is refused
    decision   empty (keep, not looked at), accept, reject, edit; add: a new sentence, in a row without ``row``
    new_text   with edit and add: what the text should be
    reason     with reject or edit: why
    class      with add: the class that gets the sentence; kind, with add: sentence (also if empty) or phrase

Spreadsheets write semicolons or tabs for commas, carriage returns, and a byte order mark; all are read. What a
spreadsheet would run as a formula has an apostrophe before it, and a text with characters that hide or move others is
written with escapes, behind a backslash.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

from abs_core.descriptions import Description
from abs_core.labels import LabelSet
from abs_core.text import csv_table, quoted, text_of_cell, visible_cell
from abs_core.text_files import ExternalFormatError
from abs_descriptions.bundles.spreadsheets import ERROR_CELL, conversion

__all__ = [
    "COLUMNS",
    "Decision",
    "ReviewRow",
    "TableRow",
    "find_class",
    "normalized_text",
    "parse_review_file",
    "parse_table",
    "row_id",
    "serialize_review_file",
    "serialize_table",
]

Decision = Literal["", "accept", "reject", "edit", "add"]
_DECISIONS: Mapping[str, Decision] = {
    "": "",
    **dict.fromkeys(("accept", "accepted"), "accept"),
    **dict.fromkeys(("reject", "rejected"), "reject"),
    **dict.fromkeys(("edit", "edited"), "edit"),
    **dict.fromkeys(("add", "added"), "add"),
}
COLUMNS = ("bundle", "row", "class", "name", "kind", "text", "decision", "new_text", "reason")
_NEEDED = ("bundle", "row", "text", "decision", "new_text", "reason")


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
    class_label: str = ""
    """as it stands in the file; read with ``add`` alone, since spreadsheets write 1 for 001"""
    kind: Literal["sentence", "phrase"] = "sentence"
    """as it stands in the file, of an added text"""


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
    yield from serialize_table(
        COLUMNS,
        (
            (reference, row_id(record), record.class_id, names[record.class_id], record.kind, record.text, "", "", "")
            for record in records
        ),
    )


def serialize_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """A table as review files are written: commas, CRLF, UTF-8 with a byte order mark, every cell visible and inert."""
    yield b"\xef\xbb\xbf" + _serialize_row(columns)
    yield from map(_serialize_row, rows)


def _serialize_row(cells: Sequence[str]) -> bytes:
    row = io.StringIO()
    csv.writer(row, lineterminator="\r\n").writerow([visible_cell(cell) for cell in cells])
    return row.getvalue().encode()


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a CSV: the line that it begins on, and its cells by column; a column that the file lacks is empty."""

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """The cell as it was read."""
        return self.cells.get(column, "")


def parse_table(text: str, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[TableRow]:
    """The rows of a CSV that a spreadsheet may have saved, those without a cell left out.

    Args:
        text: of the file.
        needed: columns that it has, in any order, with any spaces and capitals.
        optional: columns that are read where it has them; others are not.

    Raises:
        ExternalFormatError: no CSV, or a column that is missing or there twice; with its line.
    """
    content, delimiter = csv_table(text)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        places = _places(next((row for row in rows if any(map(str.strip, row))), []), needed, optional)
        last_line = rows.line_num
        for cells in rows:
            line, last_line = last_line + 1, rows.line_num
            if any(cell.strip() for cell in cells):
                # Spreadsheets may leave out empty cells at the end of a row.
                values = {column: cells[place] if place < len(cells) else "" for column, place in places.items()}
                yield TableRow(line, {key: normalize("NFC", text_of_cell(cell)) for key, cell in values.items()})
    except csv.Error as error:
        raise ExternalFormatError(f"invalid CSV: {error}", rows.line_num) from None


def _places(header: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
    names = [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in header]
    for column in (*needed, *optional):
        count = names.count(column)
        if count > 1 or (count == 0 and column in needed):
            shown = ", ".join(quoted(cell, 30) for cell in header[:12] if cell.strip())
            number = f"no column {quoted(column)}" if count == 0 else f"more than one column {quoted(column)}"
            raise ExternalFormatError(f"the first row has {number}" + (f"; it has {shown}" if shown else ""), 1)
    return {column: names.index(column) for column in (*needed, *optional) if column in names}


def normalized_text(cell: str) -> str:
    """A text as a person typed it into a cell: without the line breaks and the spaces around it."""
    return re.sub(r"\s*[\r\n]+\s*", " ", cell).strip()


def find_class(label: str, line: int, labels: LabelSet) -> str:
    """The id of the class that a cell means: a spreadsheet may have written 1 for 001, and a person the name.

    Args:
        label: the cell.
        line: for messages.
        labels: of the bundle.

    Raises:
        ExternalFormatError: no class, or several.
    """
    if label in labels.names:
        return label
    equal = [entry.id for entry in labels.classes if label and conversion(label, entry.id) is not None]
    named = equal or [entry.id for entry in labels.classes if label and entry.name == label]
    if len(named) == 1:
        return named[0]
    problem = "could be several classes" if named else "is no class of the bundle"
    raise ExternalFormatError(f"the class {quoted(label)} {problem}", line)


def parse_review_file(text: str) -> Iterator[ReviewRow]:
    """The rows of a review file.

    Raises:
        ExternalFormatError: no CSV, a column is missing, or a row that says nothing clear; with its line.
    """
    for row in parse_table(text, _NEEDED, ("class", "kind")):
        yield _review_row(row)


def _review_row(row: TableRow) -> ReviewRow:
    word = row["decision"].strip().lower()
    decision = _DECISIONS.get(word)
    if decision is None:
        raise ExternalFormatError(
            f"unknown decision {quoted(word)}; valid: accept, reject, edit, add, or an empty cell", row.line
        )
    new_text, reason = row["new_text"].strip(), row["reason"].strip()
    if decision in ("edit", "add") and not new_text:
        raise ExternalFormatError(f"the decision is {decision} and new_text is empty", row.line)
    if decision not in ("edit", "add") and new_text:
        raise ExternalFormatError(
            f"there is a new_text and the decision is {quoted(decision)}, not 'edit' or 'add'", row.line
        )
    if ERROR_CELL.fullmatch(new_text):
        raise ExternalFormatError(f"the new_text {quoted(new_text)} is an error of a spreadsheet", row.line)
    if reason and decision not in ("reject", "edit"):
        raise ExternalFormatError(
            f"there is a reason and the decision is {quoted(decision)}, not 'reject' or 'edit'", row.line
        )
    identifier = row["row"].strip()
    if decision == "add" and (identifier or row["text"].strip()):
        raise ExternalFormatError(
            "the decision is add in a row of a sentence that is there; add a row with empty cells row and text",
            row.line,
        )
    kind = row["kind"].strip().lower() or "sentence"
    if decision == "add" and kind not in ("sentence", "phrase"):
        raise ExternalFormatError(f"the kind must be 'sentence' or 'phrase', got {quoted(kind)}", row.line)
    return ReviewRow(
        row.line, row["bundle"].strip(), identifier, row["text"], decision, new_text, reason,
        row["class"].strip(), "phrase" if kind == "phrase" else "sentence",
    )  # fmt: skip
