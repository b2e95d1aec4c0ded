"""What spreadsheets and editors do to a text that nobody meant to change. Pure.

They write typographic quotes and dashes for plain ones, double a quote, put non-breaking spaces, show a number in
another form, and cut a cell at 32,767 characters. A date is not undone: many texts become the same one.
"""

from __future__ import annotations

import re
from contextlib import suppress

from abs_core.text import visible_cell

__all__ = ["ERROR_CELL", "conversion", "is_date", "retyping"]

# Characters that a cell of a spreadsheet holds; what is longer is cut without a word, perhaps within an escape.
_CELL_LIMIT, _ESCAPE_LENGTH = 32_767, 12

#: What a spreadsheet writes where a formula has no value.
ERROR_CELL = re.compile(r"#(?:NAME\?|REF!|VALUE!|N/A|DIV/0!|NULL!|NUM!|SPILL!|CALC!)|Err:[0-9]{3}")

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u0060\u00b4", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        "\u2026": "...",
    }
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(
    r"[0-9]{1,4}[-./][0-9]{1,2}(?:[-./][0-9]{1,4})?(?:[ T][0-9:]{4,8})?"
    r"|[0-9]{1,2}[-. ]{1,2}[^\W\d]{3,9}\.?(?:[-. ][0-9]{2,4})?"
    r"|[^\W\d]{3,9}\.?[- ][0-9]{1,4}"
)


def conversion(cell: str, text: str) -> str | None:
    """How a spreadsheet made ``cell`` of ``text`` by itself, as a phrase; None if that is not certain."""
    if cell.strip() == text:
        return "with spaces around it" if cell != text else None
    if _is_cut(cell, text):
        return "cut to the length of a cell"
    value = _number(cell)
    if value is not None and value == _number(text):
        return "in another form of the same number"
    return None


def retyping(cell: str, text: str) -> str | None:
    """As ``conversion``, also by autocorrection: other quotes, dashes, spaces or capitals of true and false."""
    how = conversion(cell, text)
    if how is not None or cell == text:
        return how
    if " ".join(cell.split()) == " ".join(text.split()):
        return "with other spaces"
    if _plain(cell) == _plain(text):
        return "with other quotes, apostrophes or dashes"
    is_truth = text.lower() in ("true", "false") and cell.strip().lower() == text.lower()
    return "as a truth value" if is_truth else None


def is_date(cell: str) -> bool:
    """Whether a cell looks like a date that a spreadsheet made of a text."""
    return _DATE.fullmatch(cell.strip()) is not None


def _is_cut(cell: str, text: str) -> bool:
    # Only a text that is written with escapes can be so long.
    whole, length = visible_cell(text), max(len(cell), len(visible_cell(cell)))
    is_beginning = whole.startswith(cell) or text.startswith(cell)
    return len(whole) > _CELL_LIMIT and is_beginning and length > _CELL_LIMIT - _ESCAPE_LENGTH


def _plain(text: str) -> str:
    plain = " ".join(text.translate(_PLAIN).split()).lstrip("'")
    return re.sub(r"-{2,}", "-", re.sub(r'"{2,}|\'\'', '"', plain))


def _number(text: str) -> float | None:
    if _NUMBER.fullmatch(text.strip()) is None:
        return None
    with suppress(ValueError):
        return float(text.strip().replace(",", "."))
    return None
