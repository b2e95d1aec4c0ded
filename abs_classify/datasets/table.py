"""A table of images and labels: ``csv:FILE``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from abs_classify.datasets.base import Dataset, Item, class_id, classes_of
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
    labels: dict[str, tuple[str, int]] = {}
    missing: list[tuple[int, str]] = []
    file = Path(location)
    for line, path, label in _rows(file):
        full = os.path.normpath(file.parent / path)
        known, first = labels.setdefault(full, (label, line))
        if known != label:
            raise DatasetError(
                f"{location!r} gives {path!r} two labels: {known!r} on line {first} and {label!r} on line {line}",
                remedy="Keep one of the two lines",
            )
        if first == line and not Path(full).is_file():
            missing.append((line, path))
    if not labels:
        raise DatasetError(f"{location!r} lists no images", remedy="Add a line with path and label for each image")
    if missing:
        line, path = missing[0]
        counted = f"{len(missing)} of {len(labels)} files of {location!r} are missing" if len(missing) > 1 else ""
        one = f"the file {path!r} on line {line}"
        message = f"{counted}, the first is {one}" if counted else f"{one} of {location!r} is missing"
        raise DatasetError(message, remedy="Correct the paths; relative ones start at the folder of the table")
    items = tuple(Item(Path(path), label) for path, (label, _) in labels.items())
    return Dataset(f"csv:{location}", classes_of(item.label for item in items), items)


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
