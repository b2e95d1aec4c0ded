"""What the lists of a user's own images have in common: paths from the folder of the list, one label for each.

A list may have millions of lines, so nothing is kept of one but its path and a reference to its label.
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

__all__ = ["ListRow", "ListedSamples", "collect", "open_jsonl", "open_table"]


class ListedSamples(Sequence[Sample]):
    """Items that are made when they are asked for. Equal to any other sequence of the same items.

    Args:
        folder: where relative paths start.
        paths: of the images, relative to ``folder`` or absolute.
        labels: their class ids, as many.
    """

    __slots__ = ("_folder", "_labels", "_paths")

    def __init__(self, folder: Path, paths: Sequence[str], labels: Sequence[str]) -> None:
        self._folder, self._paths, self._labels = folder, paths, labels

    @property
    def labels(self) -> Sequence[str]:
        """The class ids alone, in order."""
        return self._labels

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, at: int) -> Sample: ...

    @overload
    def __getitem__(self, at: slice) -> ListedSamples: ...

    def __getitem__(self, at: int | slice) -> Sample | ListedSamples:
        if isinstance(at, slice):
            return ListedSamples(self._folder, self._paths[at], self._labels[at])
        return Sample(self._folder / self._paths[at], self._labels[at])

    def __iter__(self) -> Iterator[Sample]:
        for path, label in zip(self._paths, self._labels, strict=True):
            yield Sample(self._folder / path, label)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"ListedItems({str(self._folder)!r}, {len(self)} images)"


# Of a folder with this many listed files the names are read at once, which is several times as fast as asking for each.
_MANY = 32


# A folder that holds far more files than are listed is not read to its end.
_SLACK = 4


class ListRow(NamedTuple):
    """One entry of a list.

    Args:
        line: its line number, from 1 on.
        path: of the image, as it is written.
        label: of the image, as it is written.
        id: what the list calls the image; empty where it does not.
    """

    line: int
    path: str
    label: str
    id: str = ""


def collect(spec: str, file: Path, rows: Iterable[ListRow]) -> Dataset:
    """The data set that a list describes, in its order. A path that is listed again with the same label counts once.

    A path may lead anywhere: a list is the user's own, as the arguments of a command are. (What is untrusted are the
    annotation files of published sets, whose paths must stay inside, and the members of archives.)

    Args:
        spec: names the data set.
        file: the list; relative paths start at its folder.
        rows: its entries.

    Raises:
        DatasetError: an entry without a path or label, an id that comes twice, a path with two labels, a file that is
            not there, or no entry. The message names file and line.
    """
    found: dict[str, int] = {}
    lines = array("Q")
    labels: list[str] = []
    ids: dict[str, int] = {}
    spelled: dict[str, str] = {}
    folder = str(file.parent)
    for row in rows:
        label = spelled.get(row.label)
        if label is None:
            label = class_id(row.label, f"line {row.line} of {str(file)!r}")
            spelled[row.label] = label = spelled.setdefault(label, label)
        _check(file, row, ids)
        path = _normal(folder, row.path)
        at = found.setdefault(path, len(labels))
        if at == len(labels):
            lines.append(row.line)
            labels.append(label)
        elif labels[at] != label:
            raise DatasetError(
                f"{str(file)!r} gives {row.path!r} two labels: {labels[at]!r} on line {lines[at]} "
                f"and {label!r} on line {row.line}",
                remedy="Keep one of the two lines",
            )
    if not found:
        raise DatasetError(f"{str(file)!r} lists no images", remedy="Add a line with path and label for each image")
    paths = list(found)
    if missing := _missing(folder, paths):
        raise _not_there(file, paths[missing[0]], lines[missing[0]], len(missing), len(paths))
    return Dataset(spec, classes_of(spelled.values()), ListedSamples(file.parent, paths, labels))


def _check(file: Path, row: ListRow, ids: dict[str, int]) -> None:
    if not row.path.strip() or "\0" in row.path:
        raise DatasetError(f"line {row.line} of {str(file)!r} has no path", remedy="Name the image's file")
    if row.id and (known := ids.setdefault(row.id, row.line)) != row.line:
        raise DatasetError(
            f"line {row.line} of {str(file)!r} has the id {row.id!r} of line {known}",
            remedy="Give each image an id of its own",
        )


def _normal(folder: str, path: str) -> str:
    """One spelling of a path: relative to the folder where it lies in it, else absolute."""
    if path[0] not in "/." and "/." not in path and "//" not in path and "\\" not in path and ":" not in path:
        return path
    full = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - a Path for each of a million rows takes seconds
    start = os.path.join(os.path.normpath(folder), "")  # noqa: PTH118
    if start in ("./", ".\\"):
        return full if not full.startswith("..") else os.path.abspath(full)  # noqa: PTH100
    return full[len(start) :] if full.startswith(start) else os.path.abspath(full)  # noqa: PTH100


def _missing(folder: str, paths: list[str]) -> list[int]:
    """The positions of the paths that are no files."""
    by_folder: dict[str, array[int]] = {}
    for at, path in enumerate(paths):
        by_folder.setdefault(path.rpartition("/")[0], array("Q")).append(at)
    missing: list[int] = []
    for inner, positions in by_folder.items():
        seen = _files_of(os.path.join(folder, inner), paths, positions) if len(positions) >= _MANY else frozenset()  # noqa: PTH118
        # what a listing does not show is asked for: a file system may take other spellings of a name
        missing += (
            at
            for at in positions
            if paths[at].rpartition("/")[2] not in seen and not os.path.isfile(os.path.join(folder, paths[at]))  # noqa: PTH113, PTH118
        )
    return sorted(missing)


def _files_of(folder: str, paths: list[str], positions: array[int]) -> frozenset[str] | set[str]:
    """The names of files in a folder, among those that are listed."""
    wanted = {paths[at].rpartition("/")[2] for at in positions}
    try:
        with os.scandir(folder or ".") as entries:
            few = takewhile(lambda pair: pair[0] < _SLACK * len(wanted), enumerate(entries))
            return {entry.name for _, entry in few if entry.name in wanted and entry.is_file()}
    except OSError:
        return frozenset()


def _not_there(file: Path, path: str, line: int, count: int, total: int) -> DatasetError:
    one = f"the file {path!r} on line {line}"
    message = (
        f"{count} of {total} files of {str(file)!r} are missing, the first is {one}"
        if count > 1
        else f"{one} of {str(file)!r} is missing"
    )
    return DatasetError(message, remedy="Correct the paths; relative ones start at the folder of the list")


_MAX_LINE = 1 << 20


# what json.loads does for a text is this call and several checks, half of its time on a short line
_decode = json.JSONDecoder().decode


_EXAMPLE = 'Write {"path": "photos/a.jpg", "label": "cat"} on each line'


def open_jsonl(location: str) -> Dataset:
    """The images that a JSON Lines file lists, in its order.

    Each line is an object with the texts ``path`` and ``label``; other keys are free, but an ``id`` must not come
    twice. UTF-8, with or without a byte order mark; empty lines are left out. A relative path starts at the folder of
    the file. A path that is listed again with the same label counts once.

    Args:
        location: the file.

    Raises:
        DatasetError: the file cannot be read, a line is no such object or longer than 1 MB, two lines have one id, a
            path has two labels, or a file is not there. The message names file and line.
    """
    file = Path(location)
    return collect(f"jsonl:{location}", file, _jsonl_rows(file))


def _jsonl_rows(file: Path) -> Iterator[ListRow]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            line = 0
            while text := stream.readline(_MAX_LINE):
                line += 1
                if len(text) == _MAX_LINE:
                    raise _fault(file, line, "is longer than 1 MB", "Split the list, one image a line")
                if not text.isspace():
                    yield _row(text, file, line)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the list {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the list {str(file)!r} is not UTF-8", remedy="Save it as UTF-8") from error


def _row(text: str, file: Path, line: int) -> ListRow:
    try:
        content = _decode(text)
    except (ValueError, RecursionError) as error:
        raise _fault(file, line, "is no JSON", _EXAMPLE) from error
    values = content if isinstance(content, dict) else {}
    path, label, name = values.get("path"), values.get("label"), values.get("id")
    if not (isinstance(path, str) and isinstance(label, str)):
        raise _fault(file, line, "is no object with the texts 'path' and 'label'", _EXAMPLE)
    return ListRow(line, path, label, name if isinstance(name, str) else "")


def _fault(file: Path, line: int, what: str, remedy: str) -> DatasetError:
    return DatasetError(f"line {line} of {str(file)!r} {what}", remedy=remedy)


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
    return collect(f"csv:{location}", file, _csv_rows(file))


def _csv_rows(file: Path) -> Iterator[ListRow]:
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
                    yield ListRow(
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
