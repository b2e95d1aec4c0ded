"""What the lists of a user's own images have in common: paths from the folder of the list, one label for each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from abs_classify.datasets.base import Dataset, Item, classes_of
from abs_core.errors import DatasetError

__all__ = ["collect"]


def collect(spec: str, file: Path, rows: Iterable[tuple[int, str, str]]) -> Dataset:
    """The data set that a list describes, in its order. A path that is listed again with the same label counts once.

    Args:
        spec: names the data set.
        file: the list; relative paths start at its folder.
        rows: line number, path and class id of each entry.

    Raises:
        DatasetError: a path with two labels, a file that is not there, or no entry. The message names file and line.
    """
    found: dict[str, tuple[str, int]] = {}
    missing: list[tuple[int, str]] = []
    one: dict[str, str] = {}
    folder = str(file.parent)
    for line, path, label in rows:
        # a Path for each of a million rows takes seconds, and the rows share the few strings of their labels
        full = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118
        known, first = found.setdefault(full, (one.setdefault(label, label), line))
        if known != label:
            raise DatasetError(
                f"{str(file)!r} gives {path!r} two labels: {known!r} on line {first} and {label!r} on line {line}",
                remedy="Keep one of the two lines",
            )
        if first == line and not os.path.isfile(full):  # noqa: PTH113
            missing.append((line, path))
    if not found:
        raise DatasetError(f"{str(file)!r} lists no images", remedy="Add a line with path and label for each image")
    if missing:
        raise _missing(file, missing, len(found))
    items = tuple(Item(Path(path), label) for path, (label, _) in found.items())
    return Dataset(spec, classes_of(one), items)


def _missing(file: Path, missing: list[tuple[int, str]], total: int) -> DatasetError:
    line, path = missing[0]
    one = f"the file {path!r} on line {line}"
    message = (
        f"{len(missing)} of {total} files of {str(file)!r} are missing, the first is {one}"
        if len(missing) > 1
        else f"{one} of {str(file)!r} is missing"
    )
    return DatasetError(message, remedy="Correct the paths; relative ones start at the folder of the list")
