"""The database of a labelled folder: rows in steps, while others write."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from abs_classify.labelling import label_folder
from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import ClassConfidence, LabelRow
from abs_core.errors import ResultError, StorageError, UsageError
from abs_core.labels import ClassLabel


def row(number: int) -> LabelRow:
    location = ImageLocation(Path(f"/photos/{number}.jpg"))
    return LabelRow(f"{number}.jpg", "labelled", (ClassConfidence(number % 2, 0.9 - number / 100),), location=location)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelFolder:
    monkeypatch.setattr(label_folder, "_STEP", 4)
    folder = LabelFolder.create(tmp_path / "out", [ClassLabel("cat", "cat"), ClassLabel("dog", "dog")], {})
    folder.prepare()
    folder.store([(b"%d" % number, "", row(number)) for number in range(10)])
    return folder


@pytest.mark.parametrize("start", [0, 1, 4, 9, 10, 12])
@pytest.mark.parametrize("count", [-1, 0, 1, 4, 7, 20])
def test_rows_in_steps_are_the_rows(folder: LabelFolder, start: int, count: int) -> None:
    numbers = [f"{number}.jpg" for number in range(10)]
    stop = len(numbers) if count < 0 else start + count
    assert [entry.path for entry in folder.rows(start=start, count=count)] == numbers[start:stop]
    dogs = RowQuery(label=1)
    assert [entry.path for entry in folder.rows(dogs, start=start, count=count)] == numbers[1::2][start:stop]


def test_others_write_while_rows_are_read(folder: LabelFolder) -> None:
    rows = folder.rows()
    seen = [next(rows)]
    folder.store([(b"new", "", row(10))])
    folder.mark_vanished([10], "gone")
    seen += rows
    assert [entry.path for entry in seen] == [f"{number}.jpg" for number in range(11)]
    assert seen[9].status == "vanished"


def test_a_folder_that_is_none_or_damaged_is_an_error_with_its_name(folder: LabelFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder of `abs label`.*Name those in it"):
        LabelFolder.open(folder.path.parent)
    with pytest.raises(UsageError, match=r"no folder of `abs label`.*with --out"):
        LabelFolder.open(tmp_path / "none")
    for text in ("{", "[]", '{"format": "abs-labels", "format_version": 1}'):
        (folder.path / "run.json").write_text(text)
        with pytest.raises(ResultError, match=r"run\.json"):
            LabelFolder.open(folder.path)
    (folder.path / "run.json").write_text('{"format": "abs-labels", "format_version": 99, "classes": []}')
    with pytest.raises(ResultError, match="version 99"):
        LabelFolder.open(folder.path)


@pytest.mark.parametrize("name", ["rows", "ROWS"])
def test_a_view_in_place_of_the_rows_is_not_read(folder: LabelFolder, name: str) -> None:
    with closing(sqlite3.connect(folder.path / "rows.sqlite")) as base:
        base.executescript(f"ALTER TABLE rows RENAME TO others; CREATE VIEW {name} AS SELECT * FROM others")
    with pytest.raises(StorageError, match="rows is not a table"):
        folder.count()
