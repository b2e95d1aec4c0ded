"""Text from outside cannot move a cursor, reorder a line or hide itself."""

from __future__ import annotations

import pytest

from abs_core.text import format_duration, printable


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("plain ä 猫 🐈", "plain ä 猫 🐈"),
    ],
)
def test_unsafe_characters_are_written_as_escapes(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown
    printable(hostile).encode("utf-8")


def test_a_limit_is_kept() -> None:
    assert printable("abcdef", 4) == "abc…"
    assert printable("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (3540, "59 min"),
        (3600, "1 h"),
        (31_134, "8 h 39 min"),
        (170_000, "47 h 13 min"),
        (172_800, "2 d"),
        (277_000, "3 d 5 h"),
    ],
)
def test_a_time_is_told_in_two_units_at_most(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
