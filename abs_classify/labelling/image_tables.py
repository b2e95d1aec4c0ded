"""Images that tables list: paths in CSV, JSON Lines and parquet, and the images that parquet files contain themselves.

Labels in a table are not looked at. A row without a usable image is a row of the results that says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from abs_classify.datasets.list_files import ListRow, ListSource, json_rows, path_column, table_rows
from abs_classify.datasets.lists import usable_path, with_extension
from abs_classify.labelling.locations import Container, ListedImage
from abs_core.errors import AbsError, DatasetError
from abs_core.files import open_regular
from abs_core.remarks import RemarkCounter

__all__ = ["ImageTable", "ParquetTable", "listed_path"]

#: From the path of an image, as it is shown and as it is opened, to the image.
NamedFile = Callable[[bytes, bytes], ListedImage]

# bytes from which the number of lines is estimated
_SAMPLE = 1 << 20


def listed_path(shown: str, folder: str, path: str, file: NamedFile) -> ListedImage:
    """The image that a list names.

    Args:
        shown: the list as the user gave it, for the row of a path that cannot be one.
        folder: where relative paths start; empty for the working directory.
        path: as it is listed.
        file: makes the image of a file.
    """
    try:
        joined = os.fsencode(os.path.join(folder, path))  # noqa: PTH118 - keeps the folder as the user gave it
        return file(os.path.abspath(joined), joined)  # noqa: PTH100
    except (ValueError, OSError) as error:
        return ListedImage(f"{shown}::{path!r}", os.fsencode(f"{shown}\0{path!r}"), "", f"has no valid path: {error}")


@dataclass(frozen=True)
class ImageTable:
    """A table or list of JSON lines with a column of paths.

    Args:
        table: its file.
        source: how it is read.
    """

    table: Container
    source: ListSource

    def check(self) -> None:
        """Refuse what is no such table.

        Raises:
            UsageError, DatasetError: there is no column of paths, or the file cannot be read.
        """
        next(self._rows(RemarkCounter()), None)

    def images(self, remarks: RemarkCounter, file: NamedFile) -> Iterator[ListedImage]:
        """The images that it lists, in its order; if it is damaged, those before the damage and a row that says so."""
        source = replace(self.source, remarks=remarks)
        try:
            for row in self._rows(remarks):
                yield _row_image(self.table, source, row, file)
        except AbsError as error:
            yield self.table.failure(error.message)

    def count(self) -> int:
        """About how many rows it has."""
        with suppress(OSError), open_regular(self.table.path) as stream:
            data = stream.read(_SAMPLE)
            lines = data.count(b"\n") + (not data.endswith(b"\n"))
            size = stream.seek(0, 2)
            header = 0 if self._is_json else 1
            return max(0, round(lines * size / max(1, len(data))) - header)
        return 1

    @property
    def _is_json(self) -> bool:
        return self.source.spec.startswith("jsonl:")

    def _rows(self, remarks: RemarkCounter) -> Iterator[ListRow]:
        source = replace(self.source, remarks=remarks)
        return json_rows(source) if self._is_json else table_rows(source)


class ParquetTable:
    """A parquet file with a column of images, or of paths.

    Args:
        table: the file.
        given: its path as the user gave it, where relative paths start.
        options: ``image`` or ``path`` names the column.

    Raises:
        DatasetError: it is no parquet file, or has no such column.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, table: Container, given: Path, options: Mapping[str, str]) -> None:
        from abs_classify.datasets.parquet import find_image_column
        from abs_classify.datasets.parquet_columns import column_list, open_parquet_file

        self._table, self._given = table, given
        file = open_parquet_file(table.file)
        schema = file.schema_arrow
        self._groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        texts = [name for name in schema.names if str(schema.field(name).type) in ("string", "large_string")]
        self._paths = options.get("path") or ("" if "image" in options else self._path_column(texts))
        self._images = "" if self._paths else options.get("image") or find_image_column(table.file)
        column = self._paths or self._images
        if column not in schema.names:
            raise DatasetError(
                f"{table.shown!r} has no column {column!r}; its columns: {column_list(schema)}",
                remedy="Name the column of images: ?image=COLUMN, or that of paths: ?path=COLUMN",
            )

    def _source(self, remarks: RemarkCounter) -> ListSource:
        # relative paths start where the user sees the table
        return ListSource(self._given, f"hf:{self._table.shown}", remarks=remarks, labelled=False)

    def _path_column(self, texts: list[str]) -> str:
        position = path_column(self._source(RemarkCounter()), texts)
        return "" if position is None else texts[position]

    def images(self, remarks: RemarkCounter, file: NamedFile) -> Iterator[ListedImage]:
        """The images of its rows, in their order; if it is damaged, those before the damage and a row that says so."""
        try:
            yield from self._listed(file, remarks) if self._paths else self._contained()
        except DatasetError as error:
            yield self._table.failure(error.message)

    def _contained(self) -> Iterator[ListedImage]:
        number = 0
        for group, rows in enumerate(self._groups):
            for row in range(rows):
                yield self._table.image(f"row {number}, {self._images}", (group, row, number))
                number += 1

    def _listed(self, file: NamedFile, remarks: RemarkCounter) -> Iterator[ListedImage]:
        from abs_classify.datasets.parquet_columns import LabelColumn

        source = self._source(remarks)
        column, number = LabelColumn(self._table.file, self._paths, self._paths), 0
        for group in range(column.groups):
            for value in column.values(group, number):
                number += 1
                yield _row_image(self._table, source, ListRow(number, str(value), ""), file)

    def count(self) -> int:
        """How many rows it has."""
        return sum(self._groups)


def _row_image(table: Container, source: ListSource, row: ListRow, file: NamedFile) -> ListedImage:
    if not row.path.strip():
        key = table.path + b"\0%d" % row.line
        return ListedImage(f"{table.shown} line {row.line}", key, table.stamp, "has no path")
    folder = "" if str(source.folder) == "." else str(source.folder)
    try:
        path = usable_path(source, row)
    except DatasetError as error:  # an address
        return replace(listed_path(table.shown, folder, row.path, file), stamp="", problem=error.message)
    image = listed_path(table.shown, folder, path, file)
    if image.problem and "\0" not in path and (found := with_extension(source, path)) is not None:
        source.remarks.add("path completed by the extension of its file", found)
        image = listed_path(table.shown, folder, found, file)
    return image
