"""Data frames, and the HTML that a notebook shows."""

from __future__ import annotations

import sys

import pytest

from abs_core.errors import UsageError
from abs_core.result_tables import data_frame, html_table


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"'pandas' is needed for data frames.*pip install pandas"):
        data_frame([], ("a",))


def test_a_data_frame_without_rows_has_its_columns() -> None:
    assert list(data_frame([], ("a", "b")).columns) == ["a", "b"]


def test_values_are_escaped_for_browsers_and_terminals() -> None:
    shown = html_table("a \x1b[31m", ("<b>",), [("&amp;",)])
    assert "\x1b" not in shown
    assert "<b>" not in shown
    assert "&amp;amp;" in shown
