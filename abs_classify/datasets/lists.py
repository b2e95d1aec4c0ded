"""A user's own images, listed in a file: ``csv:FILE`` and ``jsonl:FILE``, with a path and a label for each image.

A list may have millions of lines, so only the path and a reference to the label are kept for each.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import overload

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    existing_path,
    label_in,
    named_label_set,
    split_options,
)
from abs_classify.datasets.list_files import ListRow, ListSource, json_rows, table_rows
from abs_core.errors import DatasetError

__all__ = ["LIST_OPTIONS", "ListedSamples", "collect_rows", "open_jsonl", "open_table", "usable_path", "with_extension"]


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


#: The options of a table.
LIST_OPTIONS = ("path", "label", "header", "delimiter", "split", "folder", "classes")
_JSON_OPTIONS = ("path", "label", "split", "folder", "classes")


def collect_rows(source: ListSource, rows: Iterable[ListRow], find: Callable[[ListRow], str] | None = None) -> Dataset:
    """The data set that a list describes, in its order. A path that is repeated with the same label counts once.

    A path may lead anywhere, because a list is the user's own, like the arguments of a command. (The annotation files
    of published sets and the members of archives are untrusted; their paths must stay inside a folder.)

    Args:
        source: the list; its option ``classes`` names the label set that its labels are of.
        rows: its entries.
        find: from an entry to its path, relative to the source's folder; by default as it is written.

    Raises:
        DatasetError: an entry without a path or label, a repeated id, a path with two labels, a missing file, a label
            that the label set lacks, or no entry at all. The message names file and line.
    """
    file, folder = source.file, str(source.folder)
    positions: dict[str, int] = {}
    lines = array("Q")
    labels: list[str] = []
    lines_by_id: dict[str, int] = {}
    label_set = named_label_set(source.options["classes"]) if "classes" in source.options else None
    # one string for each label, however many lines have it
    known_labels: dict[str, str] = {}
    for row in rows:
        label = known_labels.get(row.label)
        if label is None:
            where = f"line {row.line} of {str(file)!r}"
            label = class_id(row.label, where)
            label = label if label_set is None else label_in(label_set, label, where)
            known_labels[row.label] = label = known_labels.setdefault(label, label)
        _validate_row(file, row, lines_by_id)
        path = _normalized(folder, usable_path(source, row) if find is None else find(row))
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
        else:
            source.remarks.add("read once: a file that is listed again with the same label", path)
    if not positions:
        raise DatasetError(f"{str(file)!r} lists no images", remedy="Add a line with path and label for each image")
    paths = list(positions)
    _remark_on_the_end(source, paths[-1], labels)
    if missing := _missing(folder, paths):
        _find_extensions(source, paths, missing, set(positions), lines)
    classes = classes_of(known_labels.values()) if label_set is None else label_set.classes
    if len(classes) == 1:
        kind = "class only, so that every answer is right unless other classes are given"
        source.remarks.add(kind, classes[0].name)
    samples = ListedSamples(source.folder, paths, labels)
    return Dataset(source.spec, classes, samples, remarks=source.remarks.remarks)


def _remark_on_the_end(source: ListSource, path: str, labels: Sequence[str]) -> None:
    if len(labels) > 1 and labels.count(labels[-1]) == 1 and not _has_an_end(source.file):
        kind = "last line has no line end and a label that no other line has, so the list may be cut off"
        source.remarks.add(kind, f"{path}: {labels[-1]}")


def _has_an_end(file: Path) -> bool:
    """Whether the last line of a list is whole: it has a line end, or is an object of JSON or a cell in quotes."""
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) in b'\r\n}"'


def _validate_row(file: Path, row: ListRow, lines_by_id: dict[str, int]) -> None:
    if not row.path.strip() or "\0" in row.path:
        raise DatasetError(f"line {row.line} of {str(file)!r} has no path", remedy="Write the path of the image")
    if row.id and (first := lines_by_id.setdefault(row.id, row.line)) != row.line:
        raise DatasetError(
            f"line {row.line} of {str(file)!r}: the id {row.id!r} appears twice, first on line {first}",
            remedy="Give each image an id of its own",
        )


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def usable_path(source: ListSource, row: ListRow) -> str:
    """The path of an entry as this system writes it: ``~`` and backslashes are those of other programs.

    Raises:
        DatasetError: it is an address.
    """
    path = row.path
    if not ("\\" in path or path[0] == "~" or path[-1].isspace() or "://" in path):
        return path
    if os.path.lexists(source.folder / path):
        return path
    if _ADDRESS.match(path):
        remedy = (
            "Write the path without file://" if path.startswith("file:") else "Download the images and list the copies"
        )
        source.fail_line(row.line, f"has the address {path!r:.120}, and images are read from files only", remedy)
    if path[0] == "~":
        return os.path.expanduser(path)  # noqa: PTH111 - keeps a path whose user is unknown as it is
    usable = path.strip().replace("\\", "/")
    if "\\" in path:
        source.remarks.add("path read with / for backslashes", path)
    return usable


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


def _is_file(folder: Path, path: str) -> bool:
    return os.path.isfile(folder / path)  # noqa: PTH113 - takes any text


_EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".webp", ".tif", ".bmp")


def _find_extensions(
    source: ListSource, paths: list[str], missing: list[int], known: set[str], lines: array[int]
) -> None:
    """Complete listed names without extensions, as tables of image ids have them, in ``paths``.

    Raises:
        DatasetError: a file is missing all the same.
    """
    for number, position in enumerate(missing):
        found = with_extension(source, paths[position])
        if found is None or found in known:
            raise _missing_files(source, paths[position], lines[position], len(missing) - number, len(paths))
        source.remarks.add("path completed by the extension of its file", found)
        known.add(found)
        paths[position] = found


def with_extension(source: ListSource, path: str) -> str | None:
    """The path of the only image that has this path without its extension; None if there is none."""
    found = [path + end for end in _EXTENSIONS if _is_file(source.folder, path + end)]
    # a system that ignores case finds one file under two names
    return found[0] if len({text.casefold() for text in found}) == 1 else None


def _missing_files(source: ListSource, path: str, line: int, count: int, total: int) -> DatasetError:
    first = f"the file {path!r} on line {line}"
    message = (
        f"{count} of {total} files of {str(source.file)!r} are missing, the first is {first}"
        if count > 1
        else f"{first} of {str(source.file)!r} is missing"
    )
    if os.path.exists(source.folder / path):  # noqa: PTH110 - takes any text
        return DatasetError(f"{first} of {str(source.file)!r} is not a regular file", remedy="Remove the line")
    remedy = "Correct the paths; relative ones start from the folder of the list"
    if (end := _existing_end(source.folder, path)) is not None:
        start = path[: len(path) - len(end)]
        remedy = f"Remove {start!r:.120} from the paths: {end!r} is there"
    elif (folder := _folder_with(source.folder, path)) is not None:
        remedy = f"Name the folder that the paths start from: {source.command(folder=str(folder))}"
    return DatasetError(message, remedy=remedy)


def _existing_end(folder: Path, path: str) -> str | None:
    """The longest end of a path of another computer that leads to a file here: of ``/content/images/a.jpg``."""
    parts = [part for part in path.split("/") if part]
    if not path.startswith("/") and not re.match(r"[A-Za-z]:/", path):
        return None
    ends = ("/".join(parts[number:]) for number in range(1, len(parts)))
    return next((end for end in ends if _is_file(folder, end)), None)


def _folder_with(folder: Path, path: str) -> Path | None:
    """A folder near that of the list from which a path leads to a file."""
    try:
        near = [*sorted(entry for entry in folder.iterdir() if entry.is_dir())[:_MANY], folder.parent]
        endings = ("", *_EXTENSIONS)
        return next((place for place in near if any(_is_file(place, path + end) for end in endings)), None)
    except OSError:
        return None


def open_jsonl(location: str) -> Dataset:
    """The images that a JSON Lines file lists, in its order.

    Each line is an object with ``path`` and ``label``, a string or a number, or with the names that other tools give
    them. Other keys are ignored, except that an ``id`` must not be repeated. UTF-8, with or without a byte order mark;
    blank lines are ignored. A relative path starts from the folder of the file. A path that is repeated with the same
    label counts once.

    Args:
        location: the file, with options as ``open_table`` takes them, except ``header`` and ``delimiter``.

    Raises:
        UsageError: an unknown option.
        DatasetError: the file cannot be read, a line is not such an object or is longer than 1 MB, an id is repeated, a
            path has two labels, or an image file is missing. The message names file and line.
    """
    file, options = split_options(location, _JSON_OPTIONS, "jsonl:FILE?path=KEY&label=KEY")
    source = ListSource(existing_path(file), f"jsonl:{file}", options)
    return replace(collect_rows(source, json_rows(source)), name=f"jsonl:{location}")


def open_table(location: str) -> Dataset:
    """The images that a CSV file lists, in its order.

    The first line names the columns. A path and a label are required, under these or other usual names; other columns
    are ignored, except that an ``id`` must not be repeated. UTF-8, with or without a byte order mark. A relative path
    starts from the folder of the file. A path that is repeated with the same label counts once.

    Args:
        location: the CSV file. Options: ``path`` and ``label`` name the columns; ``header=none`` if the first line is a
            row, where they are numbers from 1 on; ``delimiter``; ``folder``, where relative paths start; ``split``, of
            the rows to take; ``classes``, the label set that the labels are of, by id, name or number.

    Raises:
        UsageError: an unknown option, or a wrong value.
        DatasetError: the file cannot be read, is not valid CSV, lacks a column or has no rows; a row has no path or
            label, an id is repeated, a path has two labels, or an image file is missing. The message names file and
            line.
    """
    file, options = split_options(location, LIST_OPTIONS, "csv:FILE?path=COLUMN&label=COLUMN")
    source = ListSource(existing_path(file), f"csv:{file}", options)
    return replace(collect_rows(source, table_rows(source)), name=f"csv:{location}")
