"""The file in which a colleague accepts, rejects or edits the sentences of a bundle: CSV in and out, and a page. Pure.

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

On the HTML page decisions are marked and saved as the same CSV. It loads nothing and sends nothing: styles and script
are inline and allowed by their hashes, and a content security policy forbids the rest. Every string passes through
``printable`` and ``html.escape``. It needs no package beyond the standard library, because a review happens where
descriptions are written, without the classifier.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from string import Template
from typing import Literal
from unicodedata import normalize

from abs_core.descriptions import Description
from abs_core.text import csv_table, printable, quoted, text_of_cell, visible_cell
from abs_core.text_files import ExternalFormatError
from abs_descriptions.bundles.format import BundleHeader

__all__ = [
    "COLUMNS",
    "Decision",
    "ReviewRow",
    "parse_review_file",
    "render_review_page",
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


_HEAD = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '$style_hash'; \
script-src '$script_hash'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Review of $title</title>
<style>$style</style>
</head>
<body data-bundle="$reference" data-file="$file">
<header>
<h1>Review of $title</h1>
<p class="reference">$reference</p>
<p class="lead">Accept, edit or reject each sentence, then save the decisions and send the file back. What you leave
open is kept as it is. Keys on a sentence: <kbd>a</kbd> accept, <kbd>e</kbd> edit, <kbd>r</kbd> reject, <kbd>j</kbd> and
<kbd>k</kbd> next and previous. This page sends nothing anywhere.</p>
<noscript><p class="warning">Scripts are off, so nothing can be marked here. Use the CSV file beside this
page.</p></noscript>
</header>
<div class="bar">
<span id="done"><span id="count" role="status">$count descriptions</span><progress value="0" max="1"></progress></span>
<label>Show <select id="filter"><option value="">all</option><option value="open">open</option>\
<option value="decided">decided</option></select></label>
<button id="save" type="button" disabled>Save decisions</button>
</div>
<main>
""")


def render_review_page(reference: str, header: BundleHeader, records: Iterable[Description]) -> Iterator[str]:
    """The page, class by class.

    Args:
        reference: pinned, of the bundle.
        header: of the bundle.
        records: of the bundle, grouped by class.
    """
    style, script = _shipped("page.css"), _shipped("page.js")
    yield _HEAD.substitute(
        style=style,
        style_hash=_hash(style),
        script_hash=_hash(script),
        title=_shown(f"{header.name} {header.version}"),
        reference=_shown(reference),
        file=_shown(f"{header.name}-{header.version}-decisions.csv"),
        count=header.counts.records,
    )
    names = header.label_set.names
    for class_id, group in groupby(records, key=attrgetter("class_id")):
        yield f'<section data-class="{escape(class_id)}" data-name="{escape(names[class_id])}">\n'
        yield f"<h2>{_shown(names[class_id])}<small>{_shown(class_id)}</small></h2>\n<ul>\n"
        yield "".join(map(_page_row, group))
        yield "</ul>\n</section>\n"
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


def _page_row(record: Description) -> str:
    shown = printable(record.text)
    # Where the shown text is another, because it would hide or reorder itself, the script needs the true one.
    cell = visible_cell(record.text)
    true = "" if shown == record.text else f' data-text="{escape(record.text)}" data-cell="{escape(cell)}"'
    kind = "" if record.kind == "sentence" else f' data-kind="{record.kind}"'
    tag = "" if record.kind == "sentence" else f"<small>{record.kind}</small>"
    return f'<li data-row="{row_id(record)}"{kind}{true}><p><span>{escape(shown)}</span>{tag}</p></li>\n'


def _shown(text: str) -> str:
    return escape(printable(text))


def _shipped(name: str) -> str:
    return files("abs_descriptions.bundles").joinpath(f"review_{name}").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
