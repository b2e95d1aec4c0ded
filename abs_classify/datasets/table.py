"""A table of images and labels: ``csv:FILE``."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from abs_classify.datasets.base import Dataset
from abs_classify.datasets.manifest import Row, collect
from abs_core.errors import DatasetError

__all__ = ["open_table"]

_COLUMNS = ("path", "label")


def open_table(location: str) -> Dataset:
    """The images that a CSV file lists, in its order.

    The first line names the columns, separated by commas; ``path`` and ``label`` are needed, others are free, but an
    ``id`` must not come twice. UTF-8, with or without a byte order mark. A relative path starts at the folder of the
    file. A path that is listed again with the same label counts once.

    Args:
        location: the CSV file.

    Raises:
        DatasetError: the file cannot be read, is no CSV, lacks a column, has a row without path or label, gives two
            rows one id or one path two labels, names a file that is not there, or has no rows. The message names file
            and line.
    """
    file = Path(location)
    return collect(f"csv:{location}", file, _rows(file))


def _rows(file: Path) -> Iterator[Row]:
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            at_path, at_label, at_id = _positions(next(reader, []), str(file))
            for row in reader:
                if row:
                    # a quoted entry may span lines; the number is that of the row's last line
                    line = reader.line_num
                    width = len(row)
                    yield Row(
                        line,
                        row[at_path] if at_path < width else "",
                        row[at_label] if at_label < width else "",
                        row[at_id] if 0 <= at_id < width else "",
                    )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the table {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the table {str(file)!r} is not UTF-8", remedy="Save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{str(file)!r} is no valid CSV after line {line}: {error}", remedy="Correct it") from error


def _positions(header: list[str], file: str) -> tuple[int, int, int]:
    """Where path, label and id stand; -1 where there is no id."""
    names = [name.strip() for name in header]
    for column in _COLUMNS:
        if names.count(column) != 1:
            state = "no column" if column not in names else "more than one column"
            found = ", ".join(repr(name) for name in names) or "none"
            semicolons = len(names) == 1 and ";" in names[0]
            raise DatasetError(
                f"line 1 of {file!r} has {state} {column!r}; its columns: {found}",
                remedy="Separate the columns by commas, not semicolons"
                if semicolons
                else "Name the columns path and label in the first line, separated by commas",
            )
    return names.index("path"), names.index("label"), names.index("id") if "id" in names else -1
