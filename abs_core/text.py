"""Text from outside, made harmless for a terminal or a log."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

__all__ = ["counted", "delimiter", "format_bytes", "guarded", "json_text", "printable", "unguarded", "valid_unicode"]


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
    # Joiner and non-joiner shape emoji, Indic and Persian words; they are needed and move nothing.
    if char in "\u200c\u200d":
        return char
    return char.encode("unicode_escape").decode("ascii")


def json_text(value: Any) -> str:
    """JSON on one line; what is no valid Unicode, as file names may be, becomes JSON's own escape."""
    return valid_unicode(json.dumps(value, ensure_ascii=False))


def valid_unicode(text: str) -> str:
    """``text`` with lone surrogates, which stand for bytes of file names that are no text, as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def counted(number: int, one: str, many: str) -> str:
    """A number and what is counted: "1 class", "2 classes"."""
    return f"{number} {one if number == 1 else many}"


_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def format_bytes(count: int) -> str:
    """A number of bytes with one decimal: "1.5 GB", "20.0 kB", "12 B"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def delimiter(text: str) -> str:
    """What stands between the cells of a CSV, by its first row: a comma, a semicolon or a tab."""
    first = re.split("[\r\n]", text, maxsplit=1)[0]
    return max(",;\t", key=first.count)


def guarded(cell: str) -> str:
    """A cell that no spreadsheet runs: an apostrophe before what it would."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """What ``guarded`` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
