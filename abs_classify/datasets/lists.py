"""A user's own images, listed in a file: ``csv:FILE`` and ``jsonl:FILE``, with a path and a label for each image.

A list may have millions of lines, so only the path and a reference to the label are kept for each.
"""

from __future__ import annotations

import csv
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, overload

from abs_classify.datasets.base import Dataset, Sample, class_id, classes_of
from abs_core.errors import DatasetError

__all__ = ["ListRow", "ListedSamples", "open_jsonl", "open_table"]


class ListedSamples(Sequence[Sample]):
    """Samples that are created on access. Equal to any other sequence of the same samples.

    Args:
        folder: the folder that relative paths start from.
        paths: of the images, relative to ``folder`` or absolute.
        labels: the class id of each image.
    """

    __slots__ = ("_folder", "_labels", "_paths")

    def __init__(self, folder: Path, paths: Sequence[str], labels: Sequence[str]) -> None:
        self._folder, self._paths, self._labels = folder, paths, labels

    @property
    def labels(self) -> Sequence[str]:
        """The class id of each sample."""
        return self._labels

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> ListedSamples: ...

    def __getitem__(self, index: int | slice) -> Sample | ListedSamples:
        if isinstance(index, slice):
            return ListedSamples(self._folder, self._paths[index], self._labels[index])
        return Sample(self._folder / self._paths[index], self._labels[index])

    def __iter__(self) -> Iterator[Sample]:
        for path, label in zip(self._paths, self._labels, strict=True):
            yield Sample(self._folder / path, label)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"ListedSamples({str(self._folder)!r}, {len(self)} images)"


class ListRow(NamedTuple):
    """One entry of a list.

    Args:
        line: its line number, from 1 on.
        path: of the image, as written.
        label: of the image, as written.
        id: of the image, as written; empty if there is none.
    """

    line: int
    path: str
    label: str
    id: str = ""


def _collect_rows(spec: str, file: Path, rows: Iterable[ListRow]) -> Dataset:
    """The data set that a list describes, in its order. A path that is repeated with the same label counts once.

    A path may lead anywhere, because a list is the user's own, like the arguments of a command. (The annotation files
    of published sets and the members of archives are untrusted; their paths must stay inside a folder.)

    Args:
        spec: the name of the data set.
        file: the list; relative paths start from its folder.
        rows: its entries.

    Raises:
        DatasetError: an entry without a path or label, a repeated id, a path with two labels, a missing file, or no
            entry at all. The message names file and line.
    """
    positions: dict[str, int] = {}
    lines = array("Q")
    labels: list[str] = []
    lines_by_id: dict[str, int] = {}
    # one string for each label, however many lines have it
    known_labels: dict[str, str] = {}
    folder = str(file.parent)
    for row in rows:
        label = known_labels.get(row.label)
        if label is None:
            label = class_id(row.label, f"line {row.line} of {str(file)!r}")
            known_labels[row.label] = label = known_labels.setdefault(label, label)
        _validate_row(file, row, lines_by_id)
        path = _normalized(folder, row.path)
        position = positions.setdefault(path, len(labels))
        if position == len(labels):
            lines.append(row.line)
            labels.append(label)
        elif labels[position] != label:
            raise DatasetError(
                f"{str(file)!r} gives {row.path!r} two labels: {labels[position]!r} on line {lines[position]} "
                f"and {label!r} on line {row.line}",
                remedy="Keep one of the two lines",
            )
    if not positions:
        raise DatasetError(f"{str(file)!r} lists no images", remedy="Add a line with path and label for each image")
    paths = list(positions)
    if missing := _missing(folder, paths):
        raise _missing_files(file, paths[missing[0]], lines[missing[0]], len(missing), len(paths))
    return Dataset(spec, classes_of(known_labels.values()), ListedSamples(file.parent, paths, labels))


def _validate_row(file: Path, row: ListRow, lines_by_id: dict[str, int]) -> None:
    if not row.path.strip() or "\0" in row.path:
        raise DatasetError(f"line {row.line} of {str(file)!r} has no path", remedy="Write the path of the image")
    if row.id and (first := lines_by_id.setdefault(row.id, row.line)) != row.line:
        raise DatasetError(
            f"line {row.line} of {str(file)!r}: the id {row.id!r} appears twice, first on line {first}",
            remedy="Give each image an id of its own",
        )


def _normalized(folder: str, path: str) -> str:
    """The only spelling of a path: relative to the folder if it lies there, else absolute."""
    if path[0] not in "/." and "/." not in path and "//" not in path and "\\" not in path and ":" not in path:
        return path
    full = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - a Path for each of a million rows takes seconds
    start = os.path.join(os.path.normpath(folder), "")  # noqa: PTH118
    if start in ("./", ".\\"):
        return full if not full.startswith("..") else os.path.abspath(full)  # noqa: PTH100
    return full[len(start) :] if full.startswith(start) else os.path.abspath(full)  # noqa: PTH100


# Of a folder with this many listed files all names are read at once, which is several times as fast as asking for each.
_MANY = 32

# A folder with many more files than are listed is not read to its end.
_SLACK = 4


def _missing(folder: str, paths: list[str]) -> list[int]:
    """The positions of the paths that are not files."""
    positions_by_folder: dict[str, array[int]] = {}
    for position, path in enumerate(paths):
        positions_by_folder.setdefault(path.rpartition("/")[0], array("Q")).append(position)
    missing: list[int] = []
    for inner, positions in positions_by_folder.items():
        listed = _listed_files(os.path.join(folder, inner), paths, positions) if len(positions) >= _MANY else set()  # noqa: PTH118
        # what a listing does not show is asked for: a file system may accept other spellings of a name
        missing += (
            position
            for position in positions
            if paths[position].rpartition("/")[2] not in listed
            and not os.path.isfile(os.path.join(folder, paths[position]))  # noqa: PTH113, PTH118
        )
    return sorted(missing)


def _listed_files(folder: str, paths: list[str], positions: array[int]) -> set[str]:
    """The names of the listed files that a folder has; not always all of them."""
    wanted = {paths[position].rpartition("/")[2] for position in positions}
    try:
        with os.scandir(folder or ".") as entries:
            first_entries = takewhile(lambda pair: pair[0] < _SLACK * len(wanted), enumerate(entries))
            return {entry.name for _, entry in first_entries if entry.name in wanted and entry.is_file()}
    except OSError:
        return set()


def _missing_files(file: Path, path: str, line: int, count: int, total: int) -> DatasetError:
    first = f"the file {path!r} on line {line}"
    message = (
        f"{count} of {total} files of {str(file)!r} are missing, the first is {first}"
        if count > 1
        else f"{first} of {str(file)!r} is missing"
    )
    return DatasetError(message, remedy="Correct the paths; relative ones start from the folder of the list")


_MAX_LINE = 1 << 20

# json.loads makes this call after several checks of its own, which take half of the time on a short line.
_decode = json.JSONDecoder().decode
_EXAMPLE = 'Write {"path": "photos/a.jpg", "label": "cat"} on each line'


def open_jsonl(location: str) -> Dataset:
    """The images that a JSON Lines file lists, in its order.

    Each line is an object with the strings ``path`` and ``label``. Other keys are ignored, except that an ``id`` must
    not be repeated. UTF-8, with or without a byte order mark; blank lines are ignored. A relative path starts from the
    folder of the file. A path that is repeated with the same label counts once.

    Args:
        location: the file.

    Raises:
        DatasetError: the file cannot be read, a line is not such an object or is longer than 1 MB, an id is repeated, a
            path has two labels, or an image file is missing. The message names file and line.
    """
    file = Path(location)
    return _collect_rows(f"jsonl:{location}", file, _jsonl_rows(file))


def _jsonl_rows(file: Path) -> Iterator[ListRow]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            line = 0
            while text := stream.readline(_MAX_LINE):
                line += 1
                if len(text) == _MAX_LINE:
                    raise _line_error(file, line, "is longer than 1 MB", "Write one image per line")
                if not text.isspace():
                    yield _parse_line(text, file, line)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the list {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the list {str(file)!r} is not valid UTF-8", remedy="Save it as UTF-8") from error


def _parse_line(text: str, file: Path, line: int) -> ListRow:
    try:
        content = _decode(text)
    except (ValueError, RecursionError) as error:
        raise _line_error(file, line, "is not valid JSON", _EXAMPLE) from error
    values = content if isinstance(content, dict) else {}
    path, label, identifier = values.get("path"), values.get("label"), values.get("id")
    if not (isinstance(path, str) and isinstance(label, str)):
        raise _line_error(file, line, "must be an object with the strings 'path' and 'label'", _EXAMPLE)
    return ListRow(line, path, label, identifier if isinstance(identifier, str) else "")


def _line_error(file: Path, line: int, problem: str, remedy: str) -> DatasetError:
    return DatasetError(f"line {line} of {str(file)!r} {problem}", remedy=remedy)


_COLUMNS = ("path", "label")


def open_table(location: str) -> Dataset:
    """The images that a CSV file lists, in its order.

    The first line names the columns, separated by commas. ``path`` and ``label`` are required; other columns are
    ignored, except that an ``id`` must not be repeated. UTF-8, with or without a byte order mark. A relative path
    starts from the folder of the file. A path that is repeated with the same label counts once.

    Args:
        location: the CSV file.

    Raises:
        DatasetError: the file cannot be read, is not valid CSV, lacks a column or has no rows; a row has no path or
            label, an id is repeated, a path has two labels, or an image file is missing. The message names file and
            line.
    """
    file = Path(location)
    return _collect_rows(f"csv:{location}", file, _csv_rows(file))


def _csv_rows(file: Path) -> Iterator[ListRow]:
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            path_column, label_column, id_column = _find_columns(next(reader, []), str(file))
            for row in reader:
                if row:
                    # a quoted cell may span lines; the number is that of the row's last line
                    line = reader.line_num
                    width = len(row)
                    yield ListRow(
                        line,
                        row[path_column] if path_column < width else "",
                        row[label_column] if label_column < width else "",
                        row[id_column] if 0 <= id_column < width else "",
                    )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the table {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the table {str(file)!r} is not valid UTF-8", remedy="Save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{str(file)!r} is not valid CSV after line {line}: {error}", remedy="Correct it") from error


def _find_columns(header: list[str], file: str) -> tuple[int, int, int]:
    """The positions of path, label and id; -1 if there is no id."""
    names = [name.strip() for name in header]
    for column in _COLUMNS:
        if names.count(column) != 1:
            problem = "no column" if column not in names else "more than one column"
            columns = ", ".join(repr(name) for name in names) or "none"
            semicolons = len(names) == 1 and ";" in names[0]
            raise DatasetError(
                f"line 1 of {file!r} has {problem} {column!r}; its columns: {columns}",
                remedy="Separate the columns by commas, not semicolons"
                if semicolons
                else "Name the columns path and label in the first line, separated by commas",
            )
    return names.index("path"), names.index("label"), names.index("id") if "id" in names else -1
