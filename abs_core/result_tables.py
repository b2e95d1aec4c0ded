"""Results as data frames, and as the HTML that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any

from abs_core.errors import UsageError
from abs_core.text import printable

__all__ = ["data_frame", "html_table"]


def data_frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """A pandas ``DataFrame`` with these columns, also where there are no rows.

    Raises:
        UsageError: pandas, which no extra brings, is not installed.
    """
    try:
        pandas: Any = import_module("pandas")
    except ModuleNotFoundError as error:
        raise UsageError(
            "the package 'pandas' is needed for data frames and is not installed", remedy="Run: pip install pandas"
        ) from error
    return pandas.DataFrame(list(rows), columns=list(columns))


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table. File names, class names and sentences come from outside, so every value is escaped."""

    def cells(tag: str, values: Iterable[object]) -> str:
        return "".join(f"<{tag}>{escape(printable(str(value)))}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    return f"<table><caption>{escape(printable(caption))}</caption>{head}<tbody>{body}</tbody></table>"
