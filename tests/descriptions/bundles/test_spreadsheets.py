"""What a spreadsheet does to a text is told from what a person does to it."""

from __future__ import annotations

import pytest

from abs_core.text import visible_cell
from abs_descriptions.bundles.spreadsheets import ERROR_CELL, conversion, is_date, retyping

HIDDEN = "\U000e0101" * 4000

#: cell, text, whether a spreadsheet does it by itself, whether autocorrection does it
CASES = [
    ("It purrs.", "It purrs.", False, False),
    (" It purrs.\u00a0", "It purrs.", True, True),
    ("1.0", "1", True, True),
    ("1,50", "1.5", True, True),
    ("12", "0012", True, True),
    ("1E+05", "100000", True, True),
    ("+3", "3", True, True),
    (visible_cell(HIDDEN)[:32767], HIDDEN, True, True),
    ("It\u00a0is  small.", "It is small.", False, True),
    ("A \u201cslit\u201d eye\u2019s edge \u2014 thin\u2026", 'A "slit" eye\'s edge - thin...', False, True),
    ('A ""dog"", brown.', 'A "dog", brown.', False, True),
    ("'It purrs.", "It purrs.", False, True),
    ("TRUE", "true", False, True),
    ("It barks.", "It purrs.", False, False),
    ("it purrs.", "It purrs.", False, False),
    ("It purrs", "It purrs.", False, False),
    ("It", "It purrs.", False, False),
    ("", "It purrs.", False, False),
    ("1.000", "1000", False, False),
    ("2", "1", False, False),
    ("05.03.2025", "5-3", False, False),
    ("true", "It is true.", False, False),
    ("nan", "inf", False, False),
]


@pytest.mark.parametrize(("cell", "text", "converted", "retyped"), CASES)
def test_a_change_is_recognized_only_where_it_is_certain(cell: str, text: str, converted: bool, retyped: bool) -> None:
    assert (conversion(cell, text) is not None) == converted
    assert (retyping(cell, text) is not None) == retyped


@pytest.mark.parametrize("cell", ["05.03.2025", "2025-03-05 00:00:00", "3/5", "05-Mar", "5. März 2025", "Mar-25"])
def test_dates_look_like_dates(cell: str) -> None:
    assert is_date(cell)


@pytest.mark.parametrize("cell", ["It purrs.", "4 legs, a tail", "", "1.5 m", "12"])
def test_sentences_do_not(cell: str) -> None:
    assert not is_date(cell)


def test_errors_of_spreadsheets() -> None:
    assert all(ERROR_CELL.fullmatch(cell) for cell in ("#NAME?", "#REF!", "Err:508"))
    assert ERROR_CELL.fullmatch("#1 pet") is None
