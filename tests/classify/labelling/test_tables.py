"""Tables hold what the rows of their folder hold, whatever became of them before."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet
import pytest

from abs_classify.labelling import tables
from abs_classify.labelling.decisions import DecisionLog, ReviewDecision
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import COLUMNS, ClassConfidence, LabelRow
from abs_classify.labelling.tables import TABLE_FORMATS, TableFormat, TableWriter, csv_line
from abs_core.errors import StorageError, UnknownNameError
from abs_core.labels import ClassLabel
from abs_core.text import text_of_cell

CLASSES = [ClassLabel("cat", "Katze"), ClassLabel("dog", "=Hund"), ClassLabel("dog 2", "=Hund")]
NAMES = ("Katze", "=Hund (dog)", "=Hund (dog 2)")

HOSTILE = 'a/=cmd|"x"\n,\\udcff;\u202e\u2028.jpg'


def row(name: str, label: int = 0, confidence: float = 0.123456789) -> LabelRow:
    ranking = (ClassConfidence(label, confidence), ClassConfidence((label + 1) % 3, confidence / 3))
    location = ImageLocation(Path("/photos") / name)
    return LabelRow(name, "labelled", ranking, image_id=f"sha256:{len(name):064}", views=12, location=location)


def store(folder: LabelFolder, rows: Sequence[LabelRow]) -> list[int]:
    return folder.store([(entry.path.encode(), "1", entry) for entry in rows])


def add(folder: LabelFolder, table: TableWriter, *rows: LabelRow) -> None:
    table.append(store(folder, rows), rows)


def decide(folder: LabelFolder, image_id: str, label: str) -> None:
    with DecisionLog(folder.path, "anna") as log:
        log.append([ReviewDecision(image_id, "label", label, "chosen")])


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    folder = LabelFolder.create(tmp_path, CLASSES, {})
    folder.prepare()
    return folder


def read(folder: LabelFolder, table_format: TableFormat) -> list[tuple[str | None, str | None, str]]:
    """Path, label and status of each row of a table."""
    path = folder.path / f"labels.{table_format}"
    if table_format == "parquet":
        entries = pyarrow.parquet.read_table(path).to_pylist()
    elif table_format == "jsonl":
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    else:
        with path.open(encoding="utf-8", newline="") as stream:
            assert tuple(stream.readline().rstrip("\n").split(",")) == COLUMNS
            entries = [
                dict(zip(COLUMNS, map(text_of_cell, cells), strict=True)) for cells in csv.reader(stream, strict=True)
            ]
    return [(entry["path"], entry["label"] or None, entry["status"]) for entry in entries]


@pytest.fixture(params=TABLE_FORMATS)
def table_format(request: pytest.FixtureRequest) -> TableFormat:
    return request.param  # type: ignore[no-any-return]


def test_a_table_is_written_in_parts_and_resumed(folder: LabelFolder, table_format: TableFormat) -> None:
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("1", 0), row("2", 1))
        add(folder, table, LabelRow("3", "failed", reason="it is cut off", location=ImageLocation(Path("/photos/3"))))
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("4", 2))
    expected = [("1", NAMES[0], "labelled"), ("2", NAMES[1], "labelled"), ("3", None, "failed")]
    assert read(folder, table_format) == [*expected, ("4", NAMES[2], "labelled")]


def test_an_empty_run_has_a_table_without_rows(folder: LabelFolder, table_format: TableFormat) -> None:
    with TableWriter(folder, table_format):
        pass
    assert read(folder, table_format) == []


def test_a_line_can_be_read_before_the_run_ends(folder: LabelFolder) -> None:
    with TableWriter(folder, "csv") as csv_table, TableWriter(folder, "jsonl") as jsonl_table:
        rows = [row("1")]
        numbers = store(folder, rows)
        csv_table.append(numbers, rows)
        jsonl_table.append(numbers, rows)
        assert len(read(folder, "csv")) == len(read(folder, "jsonl")) == 1


def test_changed_rows_are_there_after_the_run(folder: LabelFolder, table_format: TableFormat) -> None:
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("1", 0), row("2", 0))
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("1", 1), row("3", 0))
        folder.mark_vanished([2], "it is gone")
    assert [entry[1:] for entry in read(folder, table_format)] == [
        (NAMES[1], "labelled"),
        (NAMES[0], "vanished"),
        (NAMES[0], "labelled"),
    ]


def test_what_changed_before_a_run_was_killed_is_there_after_the_next(
    folder: LabelFolder, table_format: TableFormat
) -> None:
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("1", 0), row("2", 0))
    store(folder, [row("1", 1)])
    with TableWriter(folder, table_format):
        assert read(folder, table_format)[0] == ("1", NAMES[1], "labelled")


def test_an_error_leaves_what_was_written_and_the_next_run_makes_it_whole(
    folder: LabelFolder, table_format: TableFormat
) -> None:
    table = TableWriter(folder, table_format).__enter__()
    add(folder, table, row("1"), row("2"))
    store(folder, [row("3")])
    table.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert len(read(folder, table_format)) == (0 if table_format == "parquet" else 2)
    with TableWriter(folder, table_format):
        assert [entry[0] for entry in read(folder, table_format)] == ["1", "2", "3"]


def cut(data: bytes) -> bytes:
    return data[:-7]


def torn(data: bytes) -> bytes:
    return data + b"4,Kat"


def sorted_by_somebody(data: bytes) -> bytes:
    header, *lines = data.splitlines(keepends=True)
    return b"".join([header, *lines[::-1]])


def with_a_foreign_row(data: bytes) -> bytes:
    return data + b"x,y,,,,,\n"


def with_another_header(data: bytes) -> bytes:
    return data.replace(b"path", b"file", 1)


def without_anything(data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    "damage", [cut, torn, sorted_by_somebody, with_a_foreign_row, with_another_header, without_anything]
)
def test_a_damaged_table_is_made_right(folder: LabelFolder, damage: Callable[[bytes], bytes]) -> None:
    store(folder, [row(str(number), number % 3) for number in range(5)])
    for table_format in TABLE_FORMATS:
        with TableWriter(folder, table_format) as table:
            whole = table.path.read_bytes()
        table.path.write_bytes(damage(whole))
        with TableWriter(folder, table_format):
            pass
        assert table.path.read_bytes() == whole


def test_what_somebody_wrote_into_a_table_does_not_stay(folder: LabelFolder, table_format: TableFormat) -> None:
    store(folder, [row(str(number), number % 3) for number in range(5)])
    with TableWriter(folder, table_format) as table:
        whole = table.path.read_bytes()
    middle = len(whole) // 2
    table.path.write_bytes(whole[:middle] + b"#" + whole[middle + 1 :])
    later = table.path.stat().st_mtime_ns + 10**9  # clocks of file systems are coarse
    os.utime(table.path, ns=(later, later))
    with TableWriter(folder, table_format):
        pass
    assert table.path.read_bytes() == whole


def test_a_whole_table_is_not_written_again(folder: LabelFolder, table_format: TableFormat) -> None:
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("1"), row("2"))
    path = folder.path / f"labels.{table_format}"
    before = path.stat().st_ino
    store(folder, [row("1")])  # the same again
    with TableWriter(folder, table_format):
        pass
    assert path.stat().st_ino == before


def test_parquet_is_written_from_time_to_time(folder: LabelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_GROUP", 3)
    sizes = []
    with TableWriter(folder, "parquet") as table:
        for number in range(12):
            add(folder, table, row(str(number)))
            sizes.append(len(read(folder, "parquet")))
    assert sizes == [0, 0, 3, 3, 3, 3, 3, 8, 8, 8, 8, 8]
    assert pyarrow.parquet.ParquetFile(table.path).metadata.num_row_groups == 4


def test_hostile_names_take_a_line_each_and_come_back(folder: LabelFolder, table_format: TableFormat) -> None:
    with TableWriter(folder, table_format) as table:
        add(folder, table, row(HOSTILE, 1))
    path, label, _ = read(folder, table_format)[0]
    assert label == NAMES[1]
    assert path == HOSTILE
    if table_format != "parquet":
        assert table.path.read_bytes().count(b"\n") == 1 + (table_format == "csv")
    if table_format == "csv":
        assert "'=Hund" in table.path.read_text(encoding="utf-8")


def test_numbers_are_readable_in_csv_and_exact_for_programs(folder: LabelFolder) -> None:
    confidence = 0.12345679104328156  # of a float32
    with TableWriter(folder, "csv") as table:
        add(folder, table, row("1", 0, confidence))
    assert table.path.read_text(encoding="utf-8").splitlines()[1] == (
        "1,Katze,0.123457,'=Hund (dog),0.082305,labelled,"
    )
    with TableWriter(folder, "jsonl") as table, TableWriter(folder, "parquet") as other:
        pass
    entry = json.loads(table.path.read_bytes())
    assert entry["confidence"] == 0.123456791
    assert (entry["label_id"], entry["second_label_id"], entry["views"], entry["known"]) == ("cat", "dog", 12, None)
    assert entry["image_id"] == f"sha256:{1:064}"
    assert [value["label_id"] for value in entry["ranking"]] == ["cat", "dog"]
    assert list(entry) == pyarrow.parquet.read_schema(other.path).names
    assert pyarrow.parquet.read_table(other.path).to_pylist()[0]["confidence"] == confidence


@pytest.mark.parametrize("table_format", TABLE_FORMATS)
def test_a_table_shows_what_reviewers_decided_whenever_it_is_written(
    folder: LabelFolder, table_format: TableFormat
) -> None:
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("1"), row("22"), row("333"))
    decide(folder, f"sha256:{2:064}", "dog")
    decide(folder, f"sha256:{4:064}", "dog")
    with TableWriter(folder, table_format) as table:
        add(folder, table, row("4444"), row("55555"))
    want = [("1", "labelled"), ("22", "reviewed"), ("333", "labelled"), ("4444", "reviewed"), ("55555", "labelled")]
    assert [(path, status) for path, _, status in read(folder, table_format)] == want
    with TableWriter(folder, table_format):
        decide(folder, f"sha256:{3:064}", "dog")  # while a run goes on
    assert read(folder, table_format)[2][2] == "reviewed"


@pytest.mark.parametrize("table_format", TABLE_FORMATS)
def test_a_table_in_another_order_is_put_into_that_of_arrival_again(
    folder: LabelFolder, table_format: TableFormat
) -> None:
    # the first line and the last one stay where they are
    with TableWriter(folder, table_format, order="path") as table:
        add(folder, table, row("1"), row("333"), row("22"), row("4444"))
    assert [path for path, _, _ in read(folder, table_format)] == ["1", "22", "333", "4444"]
    with TableWriter(folder, table_format):
        pass
    assert [path for path, _, _ in read(folder, table_format)] == ["1", "333", "22", "4444"]


def test_a_table_that_cannot_be_written_is_an_error_with_its_name(folder: LabelFolder) -> None:
    (folder.path / "labels.csv").mkdir()
    with pytest.raises(StorageError, match=r"labels\.csv"), TableWriter(folder, "csv"):
        pass
    with pytest.raises(UnknownNameError, match="'tsv'"):
        TableWriter(folder, "tsv")  # type: ignore[arg-type]


def test_a_cell_without_a_value_is_empty() -> None:
    assert csv_line(["a", None, 1e-9, ""]) == "a,,0.000000,\n"
