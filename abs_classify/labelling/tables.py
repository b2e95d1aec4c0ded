"""The tables of a labelling run: ``labels.csv``, ``labels.jsonl`` or ``labels.parquet``, written while the run goes on.

The rows in the folder's database are what counts; a table shows them. So whatever became of a table, a torn last line
of a killed run as well as a file that somebody sorted, the next run makes it right.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, TypeAlias, get_args

from abs_classify.labelling.decisions import ReviewDecisions
from abs_classify.labelling.effective import EffectiveLabels
from abs_classify.labelling.label_folder import LabelFolder, RowOrder, RowQuery
from abs_classify.labelling.rows import COLUMNS, LabelRow, table_cells
from abs_core.errors import UnknownNameError
from abs_core.extras import require
from abs_core.files import atomic_write, remove_abandoned, storage_errors
from abs_core.text import json_text, visible_cell

__all__ = ["TABLE_FORMATS", "TableFormat", "TableWriter", "csv_line", "record"]

#: what the table of a run can be written as
TableFormat: TypeAlias = Literal["csv", "jsonl", "parquet"]

TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)

# rows that are turned into text in one step; rows of a group of parquet
_STEP, _GROUP = 512, 20_000

# bytes that are read in one step
_BLOCK = 1 << 20

# A parquet file cannot grow. During a run it is written anew whenever it would become larger by this share, so that all
# that writing costs three times the last one at most.
_GROWTH = 0.5

# the fact of a folder that counts how often rows in it were changed, see ``label_folder``
_CHANGES = "changes"


def csv_line(cells: Iterable[str | float | None]) -> str:
    """A row of CSV, one line whatever is in it; nothing in it is a formula for a spreadsheet, see ``visible_cell``.

    Args:
        cells: numbers, all of them shares, are written with six decimals.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        [f"{cell:.6f}" if isinstance(cell, float) else visible_cell(cell or "") for cell in cells]
    )
    return line.getvalue()


def record(row: LabelRow, names: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
    """All that the tables for programs say of an image: the columns of ``labels.csv`` and those behind them.

    Args:
        row: the row.
        names: of the classes, as tables have them.
        ids: of the classes.
    """
    label_ids = [ids[entry.position] for entry in row.ranking]
    cells = table_cells(row, names)
    return {
        **cells,
        "confidence": _float32(row.confidence),
        "margin": _float32(row.margin),
        "label_id": label_ids[0] if label_ids else None,
        "second_label_id": label_ids[1] if len(label_ids) > 1 else None,
        "image_id": row.image_id or None,
        "known": _float32(row.known),
        "views": row.views,
        "ranking": [
            {"label_id": label_id, "confidence": _float32(entry.confidence)}
            for label_id, entry in zip(label_ids, row.ranking, strict=True)
        ],
    }


def _float32(value: float | None) -> float | None:
    """The shortest number that is the same one in single precision, near enough: nine digits."""
    return None if value is None else float(f"{value:.9g}")


class TableWriter(AbstractContextManager["TableWriter"]):
    """The table of a folder, in line with its rows when the block begins and when it ends without an error.

        with TableWriter(folder, "csv") as table:
            numbers = folder.store(...)
            table.append(numbers, rows)

    A table of CSV or JSONL has a line for each row in the order of arrival. New rows are added at once; a row that was
    changed (its image was read again, is gone, or was decided on) is written when the block ends. Parquet is written
    from time to time during a run and at its end. Memory does not grow with the number of rows.

    Args:
        folder: whose database is there, see ``LabelFolder.prepare``.
        table_format: also the ending of the file's name.
        order: of the rows when the block has ended.

    Raises:
        UnknownNameError: there is no such format.
        MissingExtraError: pyarrow is not installed.
        StorageError: the table cannot be written, or the database cannot be read.
    """

    def __init__(
        self,
        folder: LabelFolder,
        table_format: TableFormat,
        *,
        order: RowOrder = "arrival",
    ) -> None:
        if table_format not in TABLE_FORMATS:
            raise UnknownNameError("table format", table_format, TABLE_FORMATS)
        self.path = folder.path / f"labels.{table_format}"
        self._folder, self._order = folder, order
        self._decisions = ReviewDecisions(folder.path)
        self._labels = EffectiveLabels(folder.classes, self._decisions.current)
        self._ids = [label.id for label in folder.classes]
        self._fact, self._seal = f"state of {self.path.name}", f"size and time of {self.path.name}"
        # rows of the file; whether there are rows that it does not show, or shows as they were
        self._count, self._is_behind = 0, False
        self._stream: IO[bytes] | None = None
        self._arrow = _arrow() if table_format == "parquet" else None

    def __enter__(self) -> TableWriter:
        remove_abandoned(self.path.parent)
        total = self._folder.count()
        is_current = self._folder.fact(self._fact) == self._state("arrival")
        if not (is_current and not self._is_edited() and self._resume(total)):
            self.rewrite()
        elif self._arrow is None:
            self._open()
            self._write_lines(self._rows(start=self._count))
        self._folder.set_fact(self._seal, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and (self._is_behind or self._folder.fact(self._fact) != self._state(self._order)):
                self._rewrite(self._order)
        finally:
            self._close()
        if kind is None:
            self._folder.set_fact(self._seal, self._size_and_time())

    def append(self, numbers: Sequence[int], rows: Sequence[LabelRow]) -> None:
        """Write rows that were stored.

        Args:
            numbers: of the rows, as ``LabelFolder.store`` gave them. New ones follow the last of the table; others are
                of rows that it shows already, and will show anew when the block ends.
            rows: the rows.
        """
        new = [row for number, row in zip(numbers, rows, strict=True) if number > self._count]
        self._is_behind |= len(new) < len(rows)
        if self._arrow is None:
            self._write_lines(self._decided(new))
            return
        self._is_behind |= bool(new)
        if max(numbers, default=0) >= self._count * (1 + _GROWTH) + _GROUP:
            self.rewrite()

    def _rows(self, query: RowQuery | None = None, *, start: int = 0, count: int = -1) -> Iterable[LabelRow]:
        return self._decided(self._folder.rows(query, start=start, count=count))

    def _decided(self, rows: Iterable[LabelRow]) -> Iterable[LabelRow]:
        """Rows with what is decided on them."""
        return map(self._labels.effective, rows)

    def _state(self, order: RowOrder) -> list[Any]:
        """What a table of the rows depends on besides their number: another one whenever any of its lines changed."""
        self._decisions.refresh()
        current = self._decisions.current
        self._labels = EffectiveLabels(self._folder.classes, current)
        digest = hashlib.sha256()
        for image in sorted(current):
            digest.update(f"{image} {current[image]}\n".encode())
        return [self._folder.fact(_CHANGES), order, digest.hexdigest() if current else ""]

    def rewrite(self) -> None:
        """Write the whole table anew, beside the old one, which stays until the new one is there."""
        self._rewrite("arrival")

    def _rewrite(self, order: RowOrder) -> None:
        self._close()
        state = self._state(order)
        rows = iter(self._rows(RowQuery(order)))
        with atomic_write(self.path) as stream:
            if self._arrow is None:
                stream.write(self._header())
                self._count = 0
                for lines in self._lines(rows):
                    stream.write(lines)
            else:
                self._count = _write_parquet(
                    stream, self._arrow, (record(row, self._folder.names, self._ids) for row in rows)
                )
        self._folder.set_fact(self._fact, state)
        self._is_behind = False
        if self._arrow is None:
            self._open()

    def _open(self) -> None:
        with storage_errors(self.path, "write"):
            self._stream = self.path.open("ab")

    def _close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            with storage_errors(self.path, "write"), stream:
                os.fsync(stream.fileno())

    def _header(self) -> bytes:
        return csv_line(COLUMNS).encode() if self.path.suffix == ".csv" else b""

    def _line(self, row: LabelRow) -> bytes:
        if self.path.suffix == ".csv":
            return csv_line(table_cells(row, self._folder.names).values()).encode()
        return (json_text(record(row, self._folder.names, self._ids)) + "\n").encode()

    def _lines(self, rows: Iterator[LabelRow]) -> Iterator[bytes]:
        while lines := [self._line(row) for row in islice(rows, _STEP)]:
            yield b"".join(lines)
            self._count += len(lines)

    def _write_lines(self, rows: Iterable[LabelRow]) -> None:
        assert self._stream is not None
        for lines in self._lines(iter(rows)):
            with storage_errors(self.path, "write"):
                self._stream.write(lines)
                self._stream.flush()

    def _size_and_time(self) -> list[int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def _is_edited(self) -> bool:
        """Whether the file was changed since a writer ended; of a writer that was killed nobody knows."""
        seal = self._folder.fact(self._seal)
        return seal is not None and seal != self._size_and_time()

    def _resume(self, total: int) -> bool:
        """Find out how many rows the table has, and cut a torn last line off.

        Returns:
            False if it is to be written anew: it is none of these rows.
        """
        if self._arrow is not None:
            self._count = _parquet_rows(self.path)
            return self._count == total
        try:
            with self.path.open("r+b") as stream:
                count, end = _complete_lines(stream)
                stream.truncate(end)
                self._count = count - bool(self._header())
                if not 0 <= self._count <= total:
                    return False
                return self._has_ends(stream, end)
        except OSError:  # it is not there, or may only be read
            return False

    def _has_ends(self, stream: IO[bytes], end: int) -> bool:
        """Whether the first line and the last one are those of the rows that are there."""
        head, tail = self._header(), self._header()
        if self._count > 0:
            head += b"".join(map(self._line, self._rows(count=1)))
            tail = b"".join(map(self._line, self._rows(start=self._count - 1, count=1)))
        stream.seek(0)
        starts_right = stream.read(len(head)) == head
        stream.seek(max(0, end - len(tail)))
        return starts_right and stream.read() == tail


def _complete_lines(stream: IO[bytes]) -> tuple[int, int]:
    """How many lines of a file are complete, and how many bytes these are."""
    count = end = position = 0
    while block := stream.read(_BLOCK):
        if (last := block.rfind(b"\n")) >= 0:
            count, end = count + block.count(b"\n"), position + last + 1
        position += len(block)
    return count, end


def _arrow() -> Any:
    require("pyarrow.parquet", purpose="to write parquet files")
    return require("pyarrow", purpose="to write parquet files")


def _schema(arrow: Any) -> Any:
    text, number = arrow.string(), arrow.float32()
    ranking = arrow.list_(arrow.struct([("label_id", text), ("confidence", number)]))
    types = {"confidence": number, "margin": number, "known": number, "views": arrow.int32(), "ranking": ranking}
    columns = (*COLUMNS, "label_id", "second_label_id", "image_id", "known", "views", "ranking")
    return arrow.schema([(name, types.get(name, text)) for name in columns])


def _write_parquet(stream: IO[bytes], arrow: Any, records: Iterator[Mapping[str, Any]]) -> int:
    """Write rows in groups; how many there were."""
    schema, count = _schema(arrow), 0
    with arrow.parquet.ParquetWriter(stream, schema) as writer:
        while group := list(islice(records, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _parquet_rows(path: Path) -> int:
    """How many rows a table of ours has; -1 if it is none."""
    arrow = _arrow()
    try:
        with path.open("rb") as stream:
            file = arrow.parquet.ParquetFile(stream)
            is_of_ours = file.schema_arrow.equals(_schema(arrow))
            return int(file.metadata.num_rows) if is_of_ours else -1
    except (OSError, arrow.ArrowException):  # not there, or damaged
        return -1
