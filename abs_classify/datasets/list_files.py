"""Lists of images as tools write them: tables and lines of JSON to rows with a path and a label.

Columns are found by the names that tools give them, or named by the user. What was found by anything but the names
``path`` and ``label`` is remarked on; what is not clear is refused with the spec that makes it so.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

from abs_classify.datasets.base import existing_path
from abs_classify.image_formats import IMAGE_EXTENSIONS
from abs_core.class_names import PREFERRED_SPLITS, split_key
from abs_core.errors import DatasetError, UsageError
from abs_core.remarks import RemarkCounter
from abs_core.text import counted, printable, quoted
from abs_core.text_files import LFS_POINTER

__all__ = ["ListRow", "ListSource", "json_rows", "path_column", "show_command", "table_rows"]

_MAX_LINE = 1 << 20
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}

# As tools name them, in lower case without what separates words; the first group before the second.
_PATHS = (
    frozenset({"path", "filename", "file", "filepath", "imagepath", "imgpath", "imagefile", "imagefilename", "fname"})
    | {"imagename", "imgname", "image", "img", "relativepath", "relpath", "relativefilepath", "photo", "picture"}
    | {"paths", "filepaths", "filenames", "imagepaths", "images"},
    frozenset({"id", "imageid", "imgid", "idcode", "name", "key", "url", "imageurl", "uri", "sourceref"}),
)
_LABELS = (
    frozenset({"label", "labels", "class", "classname", "classlabel", "labelname", "category", "categoryname", "tag"})
    | {"target", "species", "breed", "groundtruth", "truth", "y", "diagnosis", "dx", "gt", "choice"},
    frozenset({"classid", "labelid", "categoryid"}),
)
_SPLIT_COLUMNS = frozenset({"split", "set", "subset", "partition", "fold", "dataset", "datasplit"})


class ListRow(NamedTuple):
    """One entry of a list.

    Args:
        line: its line number, from 1 on.
        path: of the image, as written.
        label: of the image, as written; empty where labels are not asked for.
        id: of the image, as written; empty if there is none.
    """

    line: int
    path: str
    label: str
    id: str = ""


def show_command(spec: str) -> str:
    """A command that can be pasted into a shell and shows what the spec gives."""
    return printable(f"abs datasets show {shlex.quote(spec)}")


@dataclass(frozen=True)
class ListSource:
    """A list and how its user says that it is read.

    Args:
        file: the list.
        spec: of the data set, without options.
        options: of the data set: ``path`` and ``label`` name columns, or keys of JSON; ``header`` may be ``none``;
            ``delimiter`` is a character or its name; ``split`` chooses rows. Others are kept in commands.
        has_split_folders: whether the split may be a folder in the paths instead of a column.
        remarks: counts what is guessed and left out.
        labelled: whether labels are asked for; without, a list of paths alone will do.
    """

    file: Path
    spec: str
    options: Mapping[str, str] = field(default_factory=dict)
    has_split_folders: bool = False
    remarks: RemarkCounter = field(default_factory=RemarkCounter)
    labelled: bool = True

    @property
    def folder(self) -> Path:
        """Where relative paths start from."""
        return existing_path(self.options["folder"]) if "folder" in self.options else self.file.parent

    def command(self, **options: str) -> str:
        """The command that reads the list with further options."""
        query = "&".join(
            name if value == "" else f"{name}={value}" for name, value in {**self.options, **options}.items()
        )
        spec = f"{self.spec}?{query}" if query else self.spec
        return show_command(spec) if self.labelled else printable(f"abs label {shlex.quote(spec)}")

    def fail(self, problem: str, remedy: str) -> NoReturn:
        """Refuse the list.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{str(self.file)!r} {problem}", remedy=remedy)

    def fail_line(self, line: int, problem: str, remedy: str) -> NoReturn:
        """Refuse a line of the list.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"line {line} of {str(self.file)!r} {problem}", remedy=remedy)


@contextmanager
def _opened(source: ListSource, what: str) -> Iterator[TextIO]:
    """The text of a list.

    Raises:
        DatasetError: it cannot be read, is not a regular file, or is not UTF-8.
    """
    file = source.file
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise DatasetError(f"the {what} {str(file)!r} is not a regular file", remedy="Save it as a file first")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the {what} {str(file)!r}: {reason}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise _not_text(file, what) from error


def _not_text(file: Path, what: str) -> DatasetError:
    with file.open("rb") as stream:
        head = stream.read(4)
    name = shlex.quote(str(file))
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        remedy = f"Convert it: iconv -f UTF-16 -t UTF-8 {name} > utf8{file.suffix}"
        return DatasetError(f"the {what} {str(file)!r} is not valid UTF-8 but UTF-16", remedy=remedy)
    if head.startswith(b"\x1f\x8b"):
        remedy = f"Unpack it: gunzip -k {name}"
        return DatasetError(f"the {what} {str(file)!r} is not valid UTF-8 but a gzip file", remedy=remedy)
    if head.startswith(b"PK\3\4"):
        remedy = "Save the first sheet as CSV (UTF-8)"
        return DatasetError(f"the {what} {str(file)!r} is not valid UTF-8 but a zip file or workbook", remedy=remedy)
    remedy = f"Save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {name} > utf8{file.suffix}"
    return DatasetError(f"the {what} {str(file)!r} is not valid UTF-8", remedy=remedy)


def _bounded_lines(source: ListSource, stream: TextIO) -> Iterator[str]:
    number = 0
    while text := stream.readline(_MAX_LINE):
        number += 1
        if len(text) == _MAX_LINE:
            source.fail_line(number, "is longer than 1 MB", "Write one image per line")
        if number == 1 and text.startswith(LFS_POINTER.decode()):
            source.fail("is a Git LFS pointer, not the list", "Run in its folder: git lfs pull")
        yield text


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


class _Columns(NamedTuple):
    """Where the cells of a row are; -1 for a column that there is not.

    Args:
        width: how many columns have names; 0 without a header.
        path, label, id, split: positions.
        classes: position to class name, where each class has a column of 0 and 1.
        absent: of a column that is 0 where a person found that the label is wrong, as OpenImages has it.
    """

    width: int
    path: int
    label: int
    id: int
    split: int
    classes: Mapping[int, str]
    absent: int = -1


def table_rows(source: ListSource) -> Iterator[ListRow]:
    """The rows of a table: CSV with any usual delimiter, with or without a header.

    Raises:
        UsageError: an option has no valid value.
        DatasetError: the file cannot be read, is not valid CSV, or does not say which columns are path and label.
    """
    line = 1
    try:
        with _opened(source, "table") as stream:
            start, text, named, lines = _first_line(source, stream)
            if text.lstrip()[:1] == "{":
                command = show_command(f"jsonl:{source.file}")
                source.fail("holds JSON and is no table", f"Read it as an object on each line: {command}")
            delimiter = _delimiter(source, text, named)
            reader = csv.reader(chain([text], lines), delimiter=delimiter, strict=True, skipinitialspace=True)
            # a quoted cell may span lines; the number is that of the row's last line
            rows = ((start + reader.line_num, row) for row in reader if any(map(str.strip, row)))
            head = list(islice(rows, 2))
            columns, is_data = _find_columns(source, [row for _, row in head])
            table = _Table(source, columns)
            for line, row in chain(head if is_data else head[1:], rows):
                if (entry := table.entry(line, row)) is not None:
                    yield entry
            table.finish()
    except csv.Error as error:
        raise DatasetError(
            f"{str(source.file)!r} is not valid CSV after line {line}: {error}", remedy="Correct it"
        ) from error


def _first_line(source: ListSource, stream: TextIO) -> tuple[int, str, str, Iterator[str]]:
    """How many lines come before the first row, its line, the delimiter that a line before it names, and the rest."""
    lines = _bounded_lines(source, stream)
    named = ""
    for number, text in enumerate(lines):
        # Excel reads and writes the delimiter in a line of its own
        if not named and (match := re.fullmatch(r"\"?sep=(.)\"?\s*", text, re.IGNORECASE)):
            named = match[1]
        elif text.strip():
            return number, text, named, lines
    return 0, "", named, lines


def _delimiter(source: ListSource, first: str, named: str) -> str:
    given = source.options.get("delimiter")
    if given is not None:
        delimiter = _DELIMITERS.get(given.casefold(), given)
        if len(delimiter) != 1 or delimiter in '\r\n"':
            raise UsageError(
                f"the delimiter must be a character or one of {', '.join(_DELIMITERS)}, got {given!r}",
                remedy=f"Write for example {source.command(delimiter='tab')}",
            )
        return delimiter
    if named:
        return named
    found = max(",;\t|", key=first.count)
    cells = first.split()
    # `images/a.jpg 0`, as Caffe and ImageNet's lists have it
    return " " if found not in first and len(cells) == 2 and _is_path(source, cells[0]) else found


def _is_path(source: ListSource, cell: str) -> bool:
    """Whether a cell is data and no name of a column: it has the extension of an image, or is a file."""
    text = cell.strip()
    if Path(text).suffix.casefold() in IMAGE_EXTENSIONS:
        return True
    return bool(text) and "\0" not in text and os.path.isfile(source.folder / text)  # noqa: PTH113 - takes any text


def _find_columns(source: ListSource, head: Sequence[Sequence[str]]) -> tuple[_Columns, bool]:
    """The columns of a table, and whether its first line is a row."""
    first = [cell.strip() for cell in (head[0] if head else ())]
    header = source.options.get("header", "")
    if header.casefold() not in ("", "none"):
        raise UsageError(
            f"the option 'header' must be none, got {header!r}", remedy="Leave it out, or write ?header=none"
        )
    if header:
        return _numbered_columns(source, len(first)), True
    paths = [position for position, cell in enumerate(first) if _is_path(source, cell)]
    named = {_key(name) for name in first} & {"path", "label", *_PATHS[0], *_LABELS[0]}
    if paths and not named and not {"path", "label"} & set(source.options):
        return _headerless_columns(source, first, paths), True
    path = _find(source, first, "path", _PATHS)
    if path is None:
        raise _no_column(source, first, "path")
    split = next((position for position, name in enumerate(first) if _key(name) in _SPLIT_COLUMNS), -1)
    if not source.labelled:
        return _Columns(0, path, -1, -1, split, {}), False
    label = _find(source, first, "label", _LABELS)
    classes = {} if label is not None else _class_columns(first, path, head[1] if len(head) > 1 else ())
    if label is None and not classes:
        raise _no_column(source, first, "label")
    identifier = first.index("id") if "id" in first else -1
    return _Columns(
        len(first),
        path,
        -1 if label is None else label,
        -1 if identifier == path else identifier,
        split,
        classes,
        first.index("Confidence") if {"ImageID", "LabelName", "Confidence"} <= {*first} else -1,
    ), False


def _numbered_columns(source: ListSource, width: int) -> _Columns:
    numbers = {}
    for name, usual in (("path", "1"), ("label", "2")) if source.labelled else (("path", "1"),):
        text = source.options.get(name, usual)
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= width):
            source.fail(
                f"has {width} columns without names, so {name} must be a number from 1 to {width}, got {text!r}",
                f"Write for example {source.command(**dict(_example_columns(source, width)))}",
            )
        numbers[name] = int(text) - 1
    return _Columns(0, numbers["path"], numbers.get("label", -1), -1, -1, {})


def _example_columns(source: ListSource, width: int) -> Iterator[tuple[str, str]]:
    yield "path", "1"
    if source.labelled:
        yield "label", str(max(2, width))


def _headerless_columns(source: ListSource, first: Sequence[str], paths: Sequence[int]) -> _Columns:
    """The columns of a table whose first line is data; clear if there are two of them, one a path."""
    if not source.labelled and len(paths) == 1:
        source.remarks.add("first line of a list read as a row, not as column names", ", ".join(first))
        return _Columns(0, paths[0], -1, -1, -1, {})
    if len(first) != 2 or len(paths) != 1:
        cells = ", ".join(quoted(cell, 30) for cell in first[:6])
        if len(first) == 1:
            source.fail_line(
                1,
                f"must have a path and a label, got one cell ({cells})",
                "Write a line path,label first, and a path, a comma and a label on each line",
            )
        # The label is a word, else the number beside the path: "0 1.000000 images/a.jpg" begins with the row's number.
        labels = [number for number, cell in enumerate(first) if number not in paths and not split_key(cell)]
        words = [number for number in labels if any(map(str.isalpha, first[number]))]
        label = min(words or labels, key=lambda number: abs(number - paths[0]), default=1)
        command = source.command(header="none", path=str(paths[0] + 1), label=str(label + 1))
        source.fail_line(
            1,
            f"has no column names but {counted(len(first), 'cell', 'cells')} ({cells})",
            f"Say which columns are path and label: {command}",
        )
    source.remarks.add("first line of a list read as a row, not as column names", ", ".join(first))
    return _Columns(0, paths[0], 1 - paths[0], -1, -1, {})


def _find(
    source: ListSource, names: Sequence[str], role: str, usual: Sequence[frozenset[str]], line: int = 1
) -> int | None:
    """The position of the column that the user names, that is called as its role, or that has a usual name for it."""
    wanted = source.options.get(role)
    for text, fits in ((wanted or role, str.__eq__), (wanted or role, lambda one, other: _key(one) == _key(other))):
        found = [position for position, name in enumerate(names) if fits(name, text)]
        if len(found) > 1:
            source.fail_line(line, f"has more than one column {text!r}", "Give the columns different names")
        if found:
            return found[0]
    if wanted is not None:
        source.fail_line(
            line,
            f"has no column {wanted!r}; its columns: {', '.join(map(repr, names)) or 'none'}",
            f"Name one of them: {source.command(**{role: names[0] if names else 'COLUMN'})}",
        )
    for group in usual:
        found = [position for position, name in enumerate(names) if _key(name) in group]
        if len(found) > 1:
            shown = ", ".join(repr(names[position]) for position in found)
            source.fail_line(
                line,
                f"has several columns that may be the {role}: {shown}",
                f"Name it: {source.command(**{role: names[found[0]]})}",
            )
        if found:
            source.remarks.add(f"column taken for the {role} by its name", names[found[0]])
            return found[0]
    return None


def path_column(source: ListSource, names: Sequence[str]) -> int | None:
    """The position of the column of paths; None if no column is called so.

    Raises:
        DatasetError: several columns may be it.
    """
    return _find(source, names, "path", _PATHS)


def _class_columns(names: Sequence[str], path: int, row: Sequence[str]) -> dict[int, str]:
    """The names of the classes where each has a column of 0 and 1, as Roboflow and ISIC write them; else none."""
    others = {
        position: name
        for position, name in enumerate(names)
        if position != path and name and _key(name) not in _SPLIT_COLUMNS
    }
    cells = [row[position].strip() if position < len(row) else "" for position in others]
    return others if len(others) > 1 and all(map(_MARK.fullmatch, cells)) else {}


_MARK = re.compile(r"[01](?:\.0+)?")
_ZERO = re.compile(r"0(?:\.0*)?")


def _no_column(source: ListSource, names: Sequence[str], role: str) -> DatasetError:
    shown = ", ".join(map(repr, names)) or "none"
    message = f"line 1 of {str(source.file)!r} has no column {role!r}; its columns: {shown}"
    if len(names) < 2:
        return DatasetError(message, remedy="Name the columns path and label in the first line, separated by commas")
    path = next((name for name in names if _key(name) in _PATHS[0] | _PATHS[1]), names[0])
    if not source.labelled:
        return DatasetError(message, remedy=f"Name the column of paths: {source.command(path=path)}")
    label = next((name for name in names if _key(name) in _LABELS[0] | _LABELS[1]), "")
    label = label or next(name for name in (*names, names[-1]) if name != path or name == names[-1])
    return DatasetError(message, remedy=f"Name the columns: {source.command(path=path, label=label)}")


class _Table:
    """The rows of a table whose columns are known."""

    def __init__(self, source: ListSource, columns: _Columns) -> None:
        self._source, self._columns = source, columns
        self._wanted = source.options.get("split")
        self._splits: Counter[str] = Counter()
        self._without_rows = dict(columns.classes)
        if self._wanted is not None and columns.split < 0 and not source.has_split_folders:
            source.fail("has no column 'split'", "Leave out split=")

    def entry(self, line: int, row: Sequence[str]) -> ListRow | None:
        """A row; None if it is of another split, or shows not one class."""
        columns, width = self._columns, len(row)
        path = row[columns.path] if columns.path < width else ""
        if width > columns.width > 0 and any(map(str.strip, row[columns.width :])):
            self._source.fail_line(
                line,
                f"has {width} cells, but {columns.width} columns have names",
                "Put a cell that contains the delimiter in double quotes",
            )
        if columns.split >= 0:
            split = row[columns.split].strip() if columns.split < width else ""
            self._splits[split] += 1
            if self._wanted is not None and not _is_same_split(split, self._wanted):
                return None
        if columns.classes:
            marked = [
                name for position, name in columns.classes.items() if position < width and row[position][:1] == "1"
            ]
            if len(marked) != 1:
                reason = "several classes" if marked else "no class"
                self._source.remarks.add(f"skipped: a row with {reason}", path)
                return None
            for position in [number for number, name in self._without_rows.items() if name == marked[0]]:
                del self._without_rows[position]
            return ListRow(line, path, marked[0])
        label = row[columns.label] if 0 <= columns.label < width else ""
        if 0 <= columns.absent < width and _ZERO.fullmatch(row[columns.absent].strip()):
            self._source.remarks.add("skipped: a row that says that its label is wrong (Confidence 0)", path)
            return None
        return ListRow(line, path, label, row[columns.id] if 0 <= columns.id < width else "")

    def finish(self) -> None:
        """Say what splits the rows are of.

        Raises:
            DatasetError: none is of the split that is asked for.
        """
        _finish_splits(self._source, self._splits)
        for name in self._without_rows.values():
            self._source.remarks.add("skipped: a class without images", name)


def _is_same_split(name: str, wanted: str) -> bool:
    return name.casefold() == wanted.casefold() or (split_key(name) != "" and split_key(name) == split_key(wanted))


def _finish_splits(source: ListSource, splits: Counter[str]) -> None:
    wanted = source.options.get("split")
    names = [name for name in splits if split_key(name)] if source.labelled else []
    shown = ", ".join(f"{name} {count}" for name, count in splits.most_common(6))
    if wanted is None and len(names) > 1:
        last = max(names, key=lambda name: PREFERRED_SPLITS.index(split_key(name)))
        for name in names:
            kind = f"splits are mixed; {source.command(split=last)} takes one"
            source.remarks.add(kind, f"{name}: {splits[name]} images")
    if wanted is not None and splits and not any(_is_same_split(name, wanted) for name in splits):
        source.fail(
            f"has no row of the split {wanted!r}; its splits: {shown}",
            f"Choose one: {source.command(split=next(iter(splits)))}",
        )


# json.loads makes this call after several checks of its own, which take half of the time on a short line.
_decode = json.JSONDecoder().decode
_EXAMPLE = 'Write {"path": "photos/a.jpg", "label": "cat"} on each line'


def json_rows(source: ListSource) -> Iterator[ListRow]:
    """The lines of JSON of a list; blank ones are skipped. The first line decides which keys are path and label.

    Raises:
        DatasetError: the file cannot be read, a line is no object with a path and a label, or is longer than 1 MB.
    """
    path = label = split = ""
    wanted = source.options.get("split")
    splits: Counter[str] = Counter()
    with _opened(source, "list") as stream:
        for line, text in enumerate(_bounded_lines(source, stream), 1):
            if text.isspace():
                continue
            values = _object(source, text, line)
            if not path:
                path, label, split = _find_keys(source, values, line)
            if split and isinstance(values.get(split), str):
                splits[values[split]] += 1
                if wanted is not None and not _is_same_split(values[split], wanted):
                    continue
            yield _json_row(source, values, line, path, label)
    if wanted is not None and not split and path and not source.has_split_folders:
        source.fail("has no key 'split'", "Leave out split=")
    _finish_splits(source, splits)


def _object(source: ListSource, text: str, line: int) -> dict[str, Any]:
    try:
        values = _decode(text)
    except (ValueError, RecursionError):
        if line == 1 and text.lstrip().startswith(("[", "{")) and not text.rstrip().endswith(("]", "}")):
            name = shlex.quote(str(source.file))
            remedy = f"{_EXAMPLE}; for one JSON array run: jq -c '.[]' {name} > lines.jsonl"
            source.fail_line(line, "is not valid JSON: the list must have an object on each line", remedy)
        source.fail_line(line, "is not valid JSON", _EXAMPLE)
    if isinstance(values, list) and values and isinstance(values[0], dict):
        remedy = f"Write one object on each line: jq -c '.[]' {shlex.quote(str(source.file))} > lines.jsonl"
        source.fail_line(line, "must be an object with the strings 'path' and 'label', got an array", remedy)
    if not isinstance(values, dict):
        source.fail_line(line, "must be an object with the strings 'path' and 'label'", _EXAMPLE)
    return values


def _find_keys(source: ListSource, values: Mapping[str, Any], line: int) -> tuple[str, str, str]:
    """Which keys hold path, label and split; empty for none of a split."""
    names = list(values)
    path = _find_key(source, names, line, "path", _PATHS)
    label = _find_key(source, names, line, "label", _LABELS) if source.labelled else ""
    return path, label, next((name for name in names if _key(name) in _SPLIT_COLUMNS), "")


def _find_key(source: ListSource, names: Sequence[str], line: int, role: str, usual: Sequence[frozenset[str]]) -> str:
    position = _find(source, names, role, usual, line)
    if position is None:
        shown = ", ".join(quoted(name, 30) for name in names[:8]) or "none"
        other = next((name for name in names if _key(name) not in _PATHS[0]), "KEY")
        source.fail_line(
            line,
            f"must be an object with the strings 'path' and 'label'; its keys: {shown}",
            f"Name the key: {source.command(**{role: other})}" if names else _EXAMPLE,
        )
    return names[position]


def _json_row(source: ListSource, values: Mapping[str, Any], line: int, path: str, label: str) -> ListRow:
    image, value, identifier = values.get(path), values.get(label) if label else "", values.get("id")
    if type(value) in (int, float) and value == value:
        value = str(value)  # a class number, as in a table
    if not isinstance(image, str) or not isinstance(value, str):
        name, got = (path, image) if not isinstance(image, str) else (label, value)
        source.fail_line(
            line,
            f"must be an object with the strings {path!r} and {label!r}, got {json.dumps(got)[:60]} for {name!r}",
            _EXAMPLE,
        )
    return ListRow(line, image, value, identifier if isinstance(identifier, str) and path != "id" else "")
