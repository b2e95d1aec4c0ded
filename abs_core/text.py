"""Text for people and programs: harmless in a terminal, valid Unicode in JSON, no formula in a spreadsheet."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "JOINERS",
    "counted",
    "csv_delimiter",
    "escape_formula",
    "format_bytes",
    "format_duration",
    "json_text",
    "printable",
    "quoted",
    "unescape_formula",
    "valid_unicode",
    "validation_message",
]

#: Joiner and non-joiner shape emoji, Indic and Persian words; they are needed and move nothing.
JOINERS = "\u200c\u200d"

# Cc: control (terminal escapes), Cf: bidirectional overrides and zero-width characters, Cs: lone surrogates,
# Co/Cn: private and unassigned, Zl/Zp: line and paragraph separators.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with every character that could move a cursor, reorder a line or hide itself written as an escape.

    Args:
        text: any string, also one with lone surrogates.
        limit: cut to this many characters, the last one an ellipsis.
    """
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSAFE else c for c in text)
    if limit is not None and len(shown) > limit:
        return shown[: limit - 1] + "…"
    return shown


def _escape(char: str) -> str:
    if char in JOINERS:
        return char
    return char.encode("unicode_escape").decode("ascii")


def quoted(text: str, limit: int = 60) -> str:
    """``text`` in quotes for a message: cut to ``limit`` characters, with nothing that a terminal would obey."""
    return f"'{printable(text[: limit + 1], limit)}'"


def json_text(value: Any) -> str:
    """JSON on one line; what is not valid Unicode, as file names may be, becomes JSON's own escape."""
    return valid_unicode(json.dumps(value, ensure_ascii=False))


def valid_unicode(text: str) -> str:
    """``text`` with lone surrogates, which stand for bytes of file names that are not text, as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def validation_message(error: ValidationError) -> str:
    """The first complaint of pydantic on one line, with nothing of the input but its keys."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = printable(".".join(str(part)[:60] for part in first["loc"]), 120) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"{where}: an unknown key"
    if first["type"] in ("missing", "too_short"):
        return f"{where}: {'missing' if first['type'] == 'missing' else 'empty'}"
    return f"{where}: {printable(first['msg'].removeprefix('Value error, '), 200)}"


def counted(number: int, singular: str, plural: str) -> str:
    """A number and what is counted: "1 class", "2 classes"."""
    return f"{number} {singular if number == 1 else plural}"


def format_bytes(count: int) -> str:
    """A number of bytes with one decimal: "1.5 GB", "20.0 kB", "12 B"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def format_duration(seconds: float) -> str:
    """A time in two units at most: "45 s", "12 min", "8 h 39 min", "3 d 4 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def csv_delimiter(text: str) -> str:
    """The delimiter of a CSV text, by its first row: a comma, a semicolon or a tab."""
    first = re.split("[\r\n]", text, maxsplit=1)[0]
    return max(",;\t", key=first.count)


# a cell that begins so is a formula to a spreadsheet, or was escaped because it would be one
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_formula(cell: str) -> str:
    """A CSV cell that no spreadsheet runs as a formula: an apostrophe before those that would be one."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """The cell that ``escape_formula`` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
