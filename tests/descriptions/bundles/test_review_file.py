"""The review file: what hides, climbs or would run in a spreadsheet is shown, guarded, and read back exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_samples import texts, write_texts
from hypothesis import given
from hypothesis import strategies as st

from abs_core.text_files import ExternalFormatError
from abs_descriptions.bundles.review import read_review_file, write_review
from abs_descriptions.bundles.review_file import COLUMNS, parse_review_file

HIDING = [
    "A cat\U000e0101\ufe01 purrs.",
    "Z" + "\u0310" * 40,
    "A\u3164cat.",
    "A cat;=1+1",
    "＝1+1",
    "\x1b[2Jcat",
    "\\x1b",
    "cat\u200d",
]


def test_texts_that_hide_or_climb_are_shown_and_come_back_exactly(tmp_path: Path) -> None:
    bundle = write_texts(tmp_path / "odd.jsonl", texts("cat", *HIDING))
    csv_path, page_path = write_review(bundle, tmp_path)
    sheet = csv_path.read_text(encoding="utf-8-sig")
    for hidden in ("\U000e0101", "\ufe01", "\u3164", "\x1b", "\u200d", "\u0310" * 5, ";=", ",＝"):
        assert hidden not in sheet
    assert "A cat\\\\U000e0101\\\\ufe01 purrs." in page_path.read_text(encoding="utf-8")
    rows = {row.text for row in parse_review_file(sheet)}
    assert rows == set(HIDING)
    lines = sheet.splitlines()
    csv_path.write_text("\n".join([lines[0], *(line.removesuffix(",,,") + ",accept,," for line in lines[1:])]))
    assert read_review_file(csv_path, bundle).count("accept") == len(HIDING)


_CELL = st.text(alphabet="ab,;\t\"'\\\\=x1\r\n", max_size=6)


@pytest.mark.fuzz
@given(st.lists(st.lists(_CELL, max_size=10), max_size=4), st.sampled_from(",;\t"))
def test_any_table_is_rows_or_one_error_with_its_line(rows: list[list[str]], delimiter: str) -> None:
    text = "\n".join(delimiter.join(row) for row in [list(COLUMNS), *rows])
    try:
        read = list(parse_review_file(text))
    except ExternalFormatError as error:
        problem = error
    else:
        assert all(row.decision in ("", "accept", "reject", "edit") for row in read)
        return
    assert problem.line is not None
