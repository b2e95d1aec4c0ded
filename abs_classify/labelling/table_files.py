"""The tables of a folder, in step with its rows: appended to while a run goes on, made anew where rows changed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from abs_classify.encoding.samples import batched
from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.rows import COLUMNS, LabelRow, table_cells
from abs_core.errors import UsageError
from abs_core.extras import require, require_installed
from abs_core.files import atomic_write, storage_errors
from abs_core.text import json_text, visible_cell

__all__ = ["FORMATS", "TableFiles"]

#: the formats of tables; a parquet file is made when the run has ended
FORMATS = ("csv", "jsonl", "parquet")

_STEM = "labels"

_CSV_HEADER = (",".join(COLUMNS) + "\n").encode()

# rows of a parquet file that are in memory at once
_GROUP = 50_000


class TableFiles:
    """``labels.csv`` and its like.

    A table is appended to before its rows are in the database, which remembers how long each table is: what a killed
    run appended without storing it is cut off again, and a table of any other length is made anew.

    Args:
        folder: with the rows.
        formats: of ``FORMATS``.
        doubtful_first: whether the finished tables are in the order of doubt, not in that in which images were met.

    Raises:
        UsageError: an unknown format.
        MissingExtraError: pyarrow, which writes parquet, is not installed.
    """

    def __init__(self, folder: LabelFolder, formats: Sequence[str] = ("csv",), *, doubtful_first: bool = False) -> None:
        for name in formats:
            if name not in FORMATS:
                raise UsageError(f"unknown table format {name!r}", remedy=f"Use one of {', '.join(FORMATS)}")
        if "parquet" in formats:
            require_installed("pyarrow", extra="datasets")
        self._folder, self._formats = folder, tuple(dict.fromkeys(formats))
        self._query = RowQuery("doubtful" if doubtful_first else "arrival")
        #: whether rows changed that are in the tables
        self.changed = False

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self._path(name) for name in self._formats]

    def open(self) -> None:
        """Make the tables agree with the rows, where a run before this one was killed or somebody changed them."""
        for name in self._formats:
            length = self._folder.fact(f"table {name}")
            path = self._path(name)
            if length is None or not path.is_file() or path.stat().st_size < length:
                self._make(name)
            elif path.stat().st_size > length:
                with storage_errors(path, "write"), path.open("r+b") as stream:
                    stream.truncate(length)
        self.changed = self.changed or bool(self._folder.fact("tables changed"))

    def append(self, rows: Sequence[LabelRow], *, replaced: bool) -> dict[str, Any]:
        """Append rows to the tables that grow.

        Args:
            rows: that no table has.
            replaced: whether other rows changed, so that the tables must be made anew in the end.

        Returns:
            Facts that belong into the database with the rows.
        """
        self.changed = self.changed or replaced or self._query.order != "arrival"
        facts: dict[str, Any] = {"tables changed": self.changed}
        for name in self._formats:
            if name == "parquet":
                self.changed = facts["tables changed"] = True
                continue
            path = self._path(name)
            with storage_errors(path, "write"), path.open("ab") as stream:
                for row in rows:
                    stream.write(self._line(name, row))
                stream.flush()
                facts[f"table {name}"] = stream.tell()
        return facts

    def finish(self) -> None:
        """After a run: make the tables anew if their rows or order changed."""
        if self.changed:
            self.remake()

    def remake(self) -> None:
        """Make all tables anew from the rows."""
        for name in self._formats:
            self._make(name)
        self._folder.set_fact("tables changed", False)
        self.changed = False

    def _path(self, name: str) -> Path:
        return self._folder.path / f"{_STEM}.{name}"

    def _make(self, name: str) -> None:
        path = self._path(name)
        rows = self._folder.rows(self._query)
        with atomic_write(path) as stream:
            if name == "parquet":
                self._write_parquet(stream, rows)
            else:
                stream.write(_CSV_HEADER if name == "csv" else b"")
                for row in rows:
                    stream.write(self._line(name, row))
            length = stream.tell()
        self._folder.set_fact(f"table {name}", length)

    def _line(self, name: str, row: LabelRow) -> bytes:
        return _csv_line(row, self._folder.names) if name == "csv" else (json_text(self._record(row)) + "\n").encode()

    def _record(self, row: LabelRow) -> dict[str, Any]:
        """A row for machines: the columns of the CSV file, and ids."""
        classes = self._folder.classes
        return {
            **table_cells(row, self._folder.names),
            "label_id": None if row.label is None else classes[row.label].id,
            "image_id": row.image_id or None,
            "views": row.views,
            "ranking": [{"class": classes[entry.position].id, "confidence": entry.confidence} for entry in row.ranking],
        }

    def _write_parquet(self, stream: BinaryIO, rows: Iterable[LabelRow]) -> None:
        pa, parquet = require("pyarrow", extra="datasets"), require("pyarrow.parquet", extra="datasets")
        text, number = pa.string(), pa.float32()
        ranking = pa.list_(pa.struct([("class", text), ("confidence", number)]))
        types = {"confidence": number, "margin": number, "views": pa.int32(), "ranking": ranking}
        names = [*COLUMNS, "label_id", "image_id", "views", "ranking"]
        schema = pa.schema([(name, types.get(name, text)) for name in names])
        with parquet.ParquetWriter(stream, schema) as writer:
            for group in batched(rows, _GROUP):
                writer.write_table(pa.Table.from_pylist([self._record(row) for row in group], schema))


def _csv_line(row: LabelRow, names: Sequence[str]) -> bytes:
    cells = table_cells(row, names)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_cell(cells[name]) for name in COLUMNS])
    return buffer.getvalue().encode("utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else visible_cell(value)
