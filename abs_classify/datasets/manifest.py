"""What the lists of a user's own images have in common: paths from the folder of the list, one label for each.

A list may have millions of lines, so nothing is kept of one but its path and a reference to its label.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from abs_classify.datasets.base import Dataset, class_id, classes_of
from abs_classify.datasets.listed import ListedItems
from abs_core.errors import DatasetError

__all__ = ["Row", "collect"]

# Of a folder with this many listed files the names are read at once, which is several times as fast as asking for each.
_MANY = 32
# A folder that holds far more files than are listed is not read to its end.
_SLACK = 4


class Row(NamedTuple):
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


def collect(spec: str, file: Path, rows: Iterable[Row]) -> Dataset:
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
    return Dataset(spec, classes_of(spelled.values()), ListedItems(file.parent, paths, labels))


def _check(file: Path, row: Row, ids: dict[str, int]) -> None:
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
