"""A table of images and labels: ``csv:FILE``."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from abs_classify.datasets.base import Dataset, class_id
from abs_classify.datasets.manifest import collect
from abs_core.errors import DatasetError

__all__ = ["open_table"]

_COLUMNS = ("path", "label")


def open_table(location: str) -> Dataset:
    """The images that a CSV file lists, in its order.

    The first line names the columns, separated by commas; ``path`` and ``label`` are needed, others are free. UTF-8,
    with or without a byte order mark. A relative path starts at the folder of the file. A path that is listed again
    with the same label counts once.

    Args:
        location: the CSV file.

    Raises:
        DatasetError: the file cannot be read, is no CSV, lacks a column, has a row without path or label, gives one
            path two labels, names a file that is not there, or has no rows. The message names file and line.
    """
    file = Path(location)
    return collect(f"csv:{location}", file, _rows(file))


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, path and label of each row."""
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            at_path, at_label = _positions(next(reader, []), str(file))
            for row in reader:
                if row:
                    # a quoted entry may span lines; the number is that of the row's last line
                    line = reader.line_num
                    path, label = (row[at] if at < len(row) else "" for at in (at_path, at_label))
                    if not path.strip():
                        raise DatasetError(f"line {line} of {str(file)!r} has no path", remedy="Name the image's file")
                    yield line, path, class_id(label, f"line {line} of {str(file)!r}")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the table {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the table {str(file)!r} is not UTF-8", remedy="Save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{str(file)!r} is no valid CSV after line {line}: {error}", remedy="Correct it") from error


def _positions(header: list[str], file: str) -> tuple[int, int]:
    names = [name.strip() for name in header]
    for column in _COLUMNS:
        if names.count(column) != 1:
            state = "no column" if column not in names else "more than one column"
            found = ", ".join(repr(name) for name in names) or "none"
            raise DatasetError(
                f"{file!r} has {state} {column!r}; its columns: {found}",
                remedy="Name the columns path and label in the first line, separated by commas",
            )
    return names.index("path"), names.index("label")
