"""Texts from outside in the cells of a CSV: no spreadsheet runs them, and they come back as they were. Pure."""

from __future__ import annotations

import re

__all__ = ["delimiter", "guarded", "unguarded"]

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


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
