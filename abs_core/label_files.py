"""Label files of this toolkit and of others: text, CSV, JSON and YAML, in the encodings and forms that people have.

What is unambiguous is read, and how it was read is said; the rest is refused, or read as it is written with a warning.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from abs_core.class_names import name_remarks, translated_names
from abs_core.errors import LabelError
from abs_core.files import read_yaml, storage_errors
from abs_core.label_lines import Reading, doubtful_names, entries_of_lines, is_id, named_entry
from abs_core.label_literals import literal_in
from abs_core.label_set import LabelEntry, LabelSet, build_label_set
from abs_core.label_values import StatedSet, read_value
from abs_core.remarks import RemarkCounter
from abs_core.text import csv_delimiter, printable
from abs_core.text_files import foreign_content, wide_encoding

__all__ = ["LABEL_SUFFIXES", "read_folder_names", "read_label_file", "with_remarks"]

_logger = logging.getLogger(__name__)

_TABLES = (".csv", ".tsv")
_YAML = (".yaml", ".yml")
#: The endings of label files. One without an ending is read as text.
LABEL_SUFFIXES = (".txt", *_TABLES, ".json", *_YAML, ".text", ".labels", ".names", ".classes", ".lst", ".list")
# a hundred thousand names of five hundred characters; reading takes several times as much memory
_MAX_BYTES = 64 * 1024 * 1024

_NAME_COLUMNS = (
    "name", "class_name", "classname", "label_name", "display_name", "label", "class", "category", "species", "title",
)  # fmt: skip
_ID_COLUMNS = (
    "id", "class_id", "label_id", "wnid", "wordnet_id", "synset", "index", "idx", "class_index", "class_idx", "label",
    "target", "class",
)  # fmt: skip
# beside one of these a class stands once for each of its images
_IMAGE_COLUMNS = {
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "image_id",
}


def read_label_file(path: Path, name: str | None = None) -> LabelSet:
    """The label set in a file, by its ending; what is read otherwise than written is logged.

    Args:
        path: an existing file.
        name: what to call the set; by default the name that the file states, else the file's own name.

    Raises:
        LabelError: a bad file; names file and line.
        StorageError: the file cannot be read.
    """
    reading = Reading(RemarkCounter(), RemarkCounter())
    suffix, where = path.suffix.lower(), _shown(path)
    if suffix and suffix not in LABEL_SUFFIXES:
        raise LabelError(
            f"the label file {where} must end in one of {', '.join(LABEL_SUFFIXES)}",
            remedy="Name it .txt if it has one class name per line",
        )
    if suffix in _YAML:
        _decode(path, reading)  # what is no text at all is named as what it is
        value = read_yaml(path, f"the label file {where}", LabelError, as_text=True)
        return _finished(read_value(value, where, reading), path, name, reading)
    text = _decode(path, reading)
    if not text.strip("\r\n"):
        raise LabelError(f"the label file {where} is empty", remedy="Write one class name on each line")
    if suffix == ".json":
        value = _json_lines(text)
        if value is not None:
            reading.how.add("read as an object of JSON on each line", path.name)
        else:
            value = _parsed(text, where)
        return _finished(read_value(value, where, reading), path, name, reading)
    text = _without_frame(text)
    if suffix in _TABLES or _has_header(text):
        return _finished(StatedSet(_table_entries(where, text, reading)), path, name, reading)
    value = _value_in_text(text)
    if value is not None:
        reading.how.add("read as a list or an object of JSON or Python", path.name)
        return _finished(read_value(value, where, reading), path, name, reading)
    return _finished(StatedSet(entries_of_lines(where, _content_lines(text), reading)), path, name, reading)


def read_folder_names(folder: Path, names: Sequence[str], name: str) -> LabelSet:
    """The label set of the sub-folders of a folder, ``names``; errors as ``build_label_set``."""
    entries = (LabelEntry(f"{_shown(folder)} folder {text!r}", text.replace("_", " ")) for text in names)
    labels = build_label_set(entries, where=_shown(folder), name=name, source="the names of sub-folders")
    classes, remarks = translated_names(labels.classes)
    doubts = name_remarks(classes)
    how = RemarkCounter(remark for remark in remarks if remark not in doubts)
    return with_remarks(replace(labels, classes=classes), _shown(folder), Reading(how, RemarkCounter()))


def _finished(stated: StatedSet, path: Path, name: str | None, reading: Reading) -> LabelSet:
    labels = build_label_set(
        stated.entries,
        where=_shown(path),
        name=name or stated.name or path.stem,
        version=stated.version,
        source=stated.source or f"the file {path.name}",
    )
    return replace(with_remarks(labels, _shown(path), reading), left_out=stated.left_out)


def with_remarks(labels: LabelSet, what: str, reading: Reading | None = None) -> LabelSet:
    """The label set with what must be said of it, which is logged.

    Args:
        labels: as they were read.
        what: what a message calls their source.
        reading: how they were read, where that needs to be said.
    """
    reading = reading or Reading(RemarkCounter(), RemarkCounter())
    reading.doubts.extend(name_remarks(labels.classes))
    reading.doubts.extend(doubtful_names(labels.classes).remarks)
    for remark in reading.how.remarks:
        _logger.info("%s: %s", what, remark)
    for remark in reading.doubts.remarks:
        _logger.warning("%s: %s", what, remark)
    return replace(labels, remarks=(*reading.how.remarks, *reading.doubts.remarks))


def _decode(path: Path, reading: Reading) -> str:
    where = _shown(path)
    with storage_errors(path, "read"):
        if not path.is_file():
            raise LabelError(f"the label file {where} is not a regular file", remedy="Name a file of class names")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise LabelError(
                f"the label file {where} may have up to {_MAX_BYTES >> 20} MB, got {size} bytes",
                remedy="Name a file of class names",
            )
        data = path.read_bytes()
    foreign = foreign_content(data)
    if foreign is not None:
        raise LabelError(f"the label file {where} is {foreign[0]}", remedy=foreign[1])
    encoding = wide_encoding(data)
    try:
        text = data.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise LabelError(f"{where} is not valid {encoding.upper()}", remedy="Save the file as UTF-8") from None
        line = data[: error.start].count(b"\n") + 1
        raise LabelError(f"{where} line {line} is not valid UTF-8", remedy=_encoding_remedy(data, error)) from None
    if encoding is not None:
        reading.how.add(f"read as {encoding.upper()}", path.name)
    return text.removeprefix("\ufeff")


def _encoding_remedy(data: bytes, error: UnicodeDecodeError) -> str:
    begin = data.rfind(b"\n", 0, error.start) + 1
    line = data[begin : begin + 60].split(b"\n")[0].decode("cp1252", "replace").strip()
    return f"Save the file as UTF-8 (`iconv -f CP1252 -t UTF-8` if the line should read {printable(line, 60)!r})"


def _content_lines(text: str) -> Iterator[tuple[int, str]]:
    # Only \n and \r\n end a line, and \r where there is no other: str.splitlines would also split at characters that
    # are refused with a reason.
    mark = "\r" if "\n" not in text else "\n"
    for number, line in enumerate(text.split(mark), 1):
        content = line.removesuffix("\r")
        if content and not content.startswith("#"):
            yield number, content


def _value_in_text(text: str) -> Any:
    """The list or object of JSON, or of Python, that a file of another ending holds; None if it holds none."""
    if text.lstrip()[:1] in ("[", "{"):
        with suppress(LabelError):
            return _parsed(text, "")
        lines = _json_lines(text)
        if lines is not None:
            return lines
    return literal_in(text)


def _json_lines(text: str) -> list[Any] | None:
    """The objects of a text with one on each line; None if it is none."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not all(line.lstrip()[:1] == "{" and line.rstrip()[-1:] == "}" for line in lines):
        return None
    with suppress(LabelError):
        return [_parsed(line, "") for line in lines]
    return None


def _parsed(text: str, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated = next(key for key, count in counts.items() if count > 1)
            raise LabelError(
                f"{where}: the key {printable(repeated, 60)!r} appears twice in one object", remedy="Remove one of them"
            )
        return value

    try:
        # An int of over 4,300 digits would be a ValueError.
        return json.loads(text, parse_int=float, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise LabelError(f"{where} line {line} is not valid JSON", remedy="Check the file with a JSON editor") from None


def _table_entries(where: str, text: str, reading: Reading) -> list[LabelEntry]:
    stated = re.match(r"sep=(.)\r?\n", text)
    if stated is not None:
        text = text[stated.end() :]
    delimiter = stated[1] if stated is not None else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    skipped = 1 if stated is not None else 0
    try:
        rows = [(reader.line_num + skipped, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise LabelError(
            f"{where} line {reader.line_num + skipped}: {error}", remedy="Write the file as comma-separated values"
        ) from None
    if not rows:
        raise LabelError(f"{where} has no labels", remedy="Begin the file with the header id,name")
    rows = _without_empty_columns(rows)
    header = _columns_named(rows[0][1])
    if not set(header) & {*_NAME_COLUMNS, *_ID_COLUMNS} and not _names_other_columns(rows):
        return _entries_without_header(where, rows, reading)
    _check_widths(where, rows)
    return list(_entries_of_rows(where, header, rows, reading))


def _has_header(text: str) -> bool:
    """Whether a text file begins with the columns of a table, as spreadsheets save "Unicode text"."""
    first = re.split("[\r\n]", text, maxsplit=1)[0]
    columns = _columns_named(first.split(_delimiter(first)))
    known = {*_NAME_COLUMNS, *_ID_COLUMNS, "group", "note"}
    return len(columns) > 1 and known.issuperset(columns) and not set(columns).isdisjoint(_NAME_COLUMNS)


_RULE = re.compile(r"[-+|=: ]+")


def _without_frame(text: str) -> str:
    """A table as Markdown and databases draw it, without its frame; other texts as they are."""
    lines = [line.strip() for line in re.split("\r?\n", text.strip())]
    if len(lines) < 3 or not all(len(line) > 2 and line[0] in "|+" and line[-1] == line[0] for line in lines):
        return text
    rows = (line[1:-1] for line in lines if not _RULE.fullmatch(line))
    return "\n".join("|".join(cell.strip() for cell in row.split("|")) for row in rows)


def _delimiter(text: str) -> str:
    first = re.split("[\r\n]", text, maxsplit=1)[0]
    return "|" if "|" in first and not re.search("[,;\t]", first) else csv_delimiter(text)


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _columns_named(cells: Sequence[str]) -> list[str]:
    """The names of columns in one spelling: ``Class Name``, ``ClassName`` and ``class-name`` are ``class_name``."""
    return [re.sub(r"[\s-]+", "_", _CAMEL.sub("_", cell.strip())).casefold() for cell in cells]


def _without_empty_columns(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows without the empty columns at the end, which spreadsheets write."""
    width = max(place for _, row in rows for place, cell in enumerate(row, 1) if cell.strip())
    if any(len(row) > len(rows[0][1]) for _, row in rows):
        return rows
    return [(line, row[:width]) for line, row in rows]


def _names_other_columns(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether the first of rows of two columns names them in words of its own: over a column of ids stands no id."""
    if len(rows) < 3 or any(len(row) != 2 for _, row in rows):
        return False
    ids = [place for place in (0, 1) if all(is_id(row[place]) for _, row in rows[1:])]
    return len(ids) == 1 and not is_id(rows[0][1][ids[0]])


def _check_widths(where: str, rows: Sequence[tuple[int, list[str]]]) -> None:
    width = len(rows[0][1])
    for line, row in rows[1:]:
        if len(row) != width:
            raise LabelError(
                f"{where} line {line} must have {width} cells as the header has, got {len(row)}",
                remedy="Put a cell that contains a comma in double quotes",
            )


def _entries_of_rows(
    where: str, header: list[str], rows: Sequence[tuple[int, list[str]]], reading: Reading
) -> Iterator[LabelEntry]:
    name, identifier = _columns(where, header, rows)
    used = {name, identifier, *(column for column in ("group", "note") if column in header)}
    for column in header:
        if column not in used:
            reading.how.add("not read: a column", column)
    if name != "name":
        reading.how.add("read as the column of names", name)
    lists_images = not _IMAGE_COLUMNS.isdisjoint(header)
    seen: set[tuple[str, str | None]] = set()
    for line, row in rows[1:]:
        cells = dict(zip(header, row, strict=True))
        stated = (cells.get(identifier) or None) if identifier is not None else None
        if lists_images and (cells[name], stated) in seen:
            reading.how.add("read once: a row of a class that has several", cells[name])
            continue
        seen.add((cells[name], stated))
        yield LabelEntry(f"{where} line {line}", cells[name], stated, cells.get("group"), cells.get("note"))


def _columns(where: str, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> tuple[str, str | None]:
    """The columns of the names and of the ids: a column of numbers beside one of words is that of the ids."""
    shown = printable(", ".join(header), 120)
    if len(set(header)) != len(header):
        raise LabelError(
            f"{where} line 1: the columns must differ, got {shown!r}", remedy="Give each column a name of its own"
        )
    coded = {
        column for place, column in enumerate(header) if len(rows) > 1 and all(is_id(row[place]) for _, row in rows[1:])
    }
    names = [column for column in _NAME_COLUMNS if column in header]
    words = [column for column in names if column not in coded]
    ids = [column for column in _ID_COLUMNS if column in header and column not in words[:1]]
    ids += [column for column in names if column in coded and column not in ids]
    if not words and len(header) == 2:
        ids += [column for column in header if column in coded and column not in ids]
    worded = {
        column
        for place, column in enumerate(header)
        if len(rows) > 1 and all(any(map(str.isalpha, row[place])) for _, row in rows[1:])
    }
    known = {*ids, *names, *_IMAGE_COLUMNS, *coded, "group", "note"}
    others = [column for column in header if column in worded - known]
    if not words and len(others) == 1:
        words = others  # the only one that can be the name, whatever the language of its header
    words = words or names
    if not words:
        raise LabelError(
            f"{where} line 1: the columns must be name and, optionally, id, group and note, got {shown!r}",
            remedy="Begin the file with the header id,name or id,name,group,note",
        )
    return words[0], next((column for column in ids if column != words[0]), None)


def _entries_without_header(where: str, rows: Sequence[tuple[int, list[str]]], reading: Reading) -> list[LabelEntry]:
    widths = {len(row) for _, row in rows}
    if widths == {1}:
        reading.how.add("read without a header", where)
        return entries_of_lines(where, ((line, row[0]) for line, row in rows), reading)
    columns = list(zip(*(row for _, row in rows), strict=True)) if widths == {2} else []
    ids = [place for place, cells in enumerate(columns) if all(is_id(cell) for cell in cells)]
    if len(ids) != 1:
        shown = printable(", ".join(rows[0][1]), 120)
        raise LabelError(
            f"{where} line 1: the columns must be name and, optionally, id, group and note, got {shown!r}",
            remedy="Begin the file with the header id,name or id,name,group,note",
        )
    reading.how.add("read without a header", where)
    place = ids[0]
    return [named_entry(f"{where} line {line}", row[place].strip(), row[1 - place], reading) for line, row in rows]


def _shown(path: Path) -> str:
    return printable(str(path), 200)
