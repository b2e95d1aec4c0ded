"""Text from outside cannot move a cursor, reorder a line or hide itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.text import (
    escape_formula,
    format_duration,
    parse_bytes,
    printable,
    text_of_cell,
    unescape_formula,
    visible_cell,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://me:p@ss@host/x", "s3://***@host/x"),
        ("ASIAEXAMPLEEXAMPLE01", "***"),
        ("github_pat_11EXAMPLE_abcdef", "***"),
        ("hf_abcdefghijklmnopq", "***"),
        ("csv:/x@y.csv: no such file", "csv:/x@y.csv: no such file"),
        ("s3:/key:secret@bucket/a", "s3:/***@bucket/a"),
        ("/data/sk-learn-descriptions-2", "/data/sk-learn-descriptions-2"),
        ("File file_download.py, in hf_hub_download", "File file_download.py, in hf_hub_download"),
        ("hf://datasets/team/birds@v1.0 of ann@example.org", "hf://datasets/team/birds@v1.0 of ann@example.org"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


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


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("a\ufe01b", "a\\ufe01b"),
        ("cat\ufe0f", "cat\\ufe0f"),
        ("cat\U000e0101\U000e0102", "cat\\U000e0101\\U000e0102"),
        ("猫\U000e0100\U000e0101", "猫\U000e0100\\U000e0101"),
        ("a\u3164b\u2800c\uffa0", "a\\u3164b\\u2800c\\uffa0"),
        ("cat\u200d\u200c", "cat\\u200d\\u200c"),
        ("\u200dcat", "\\u200dcat"),
        ("Z" + "\u0310" * 6, "Z" + "\u0310" * 4 + "\\u0310\\u0310"),
        ("\u0301a", "\\u0301a"),
        ("a\u034fb", "a\\u034fb"),
    ],
)
def test_what_hides_or_leaves_its_line_is_written_as_an_escape(hidden: str, shown: str) -> None:
    assert printable(hidden) == shown


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d🚀",
        "❤️\u200d🔥",
        "1\ufe0f\u20e3",
        "می\u200cخواهم",
        "क्\u200dष",
        "שָׁלוֹם",
        "Việt Nam",
        "葛\U000e0100城",
        "ᠠ\u180b",
        "กี่",
        "☺\ufe0e",
    ],
)
def test_what_writing_and_emoji_need_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("A cat;=1+1", "A cat;'=1+1"),
        ("A cat; =1+1", "A cat; '=1+1"),
        ("a|@b\t-c", "a|'@b\t'-c"),
        ("\t=a", "'\t'=a"),
        ("＝1+1", "'＝1+1"),
        ("﹦SUM", "'﹦SUM"),
        ("'=a", "''=a"),
        ("black-and-white; tall", "black-and-white; tall"),
    ],
)
def test_no_part_of_a_cell_is_a_formula_behind_any_separator(text: str, cell: str) -> None:
    assert escape_formula(text) == cell
    assert unescape_formula(cell) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("A cat.", "A cat."),
        ("\x1b[2Jx", "\\\\x1b[2Jx"),
        ("a\ufe01\\b", "\\a\\ufe01\\\\b"),
        ("\\n", "\\\\\\n"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_a_visible_cell_shows_what_is_there(text: str, cell: str) -> None:
    assert visible_cell(text) == cell
    assert text_of_cell(cell) == text


def test_a_cell_of_another_hand_is_its_own_text() -> None:
    for cell in ("\\cat", "\\", "a\\x1b", "\\x1"):
        assert text_of_cell(cell) == cell


_ODD = st.text(alphabet="a'=+-@;|\t\r\n \\x1bu\x1b\ufe0f\u200d\u0301\u3164＝猫", max_size=12)


@pytest.mark.fuzz
@given(_ODD | st.text(max_size=30))
def test_cells_come_back_exactly(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text
    assert text_of_cell(visible_cell(text)) == text
    assert printable(visible_cell(text)) == visible_cell(text)


@pytest.mark.parametrize(
    ("size", "count"),
    [("0", 0), ("4096", 4096), ("500M", 500_000_000), ("1.5 gb", 1_500_000_000), ("2TB", 2 * 10**12), ("3 k", 3000)],
)
def test_a_size_is_a_number_of_bytes(size: str, count: int) -> None:
    assert parse_bytes(size) == count


@pytest.mark.parametrize("size", ["", "much", "-1", "1e3", "5X", "5 MM", "1.", "none"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="must be a size such as 500M or 5G, got"):
        parse_bytes(size)
