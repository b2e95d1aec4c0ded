"""Label sets from files, folders and the toolkit's own data: the thin edge around ``labels``.

    .txt    one name a line, or "id<TAB>name"; empty lines and lines that begin with # are left out
    .csv    a header with the column name, and optionally id, group, note; commas, semicolons or tabs between
    .json   {"name", "version", "source", "notes", "classes": [{"id", "name", "group", "note", "remark"}]}; only name is
            needed in a class; notes and remarks are for readers of the file

A note tells a class from its namesakes and is told to the language model: "the bird".

All are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abs_core.errors import LabelError, UnknownNameError, UsageError
from abs_core.files import storage_errors
from abs_core.printable import printable
from abs_core.resources import data_folder
from abs_core.spreadsheets import delimiter
from abs_descriptions.labels import Entry, LabelSet, build_label_set

__all__ = ["read_folder", "read_source", "shipped_names"]

_SUFFIXES = (".txt", ".csv", ".json")
_COLUMNS = ("id", "name", "group", "note")
_MAX_BYTES = 256 * 1024 * 1024


def shipped_names() -> tuple[str, ...]:
    """The names of the label sets in data/labels/, sorted."""
    return tuple(sorted(path.stem for path in (data_folder() / "labels").glob("*.json")))


def read_source(source: str | Path, name: str | None) -> LabelSet:
    """See ``labels.read_labels``."""
    if not str(source).strip():
        raise UsageError(f"{source!r} names no labels", remedy="Name a file, a folder or a shipped label set")
    path = Path(source)
    # something on the disk that happens to bear the name of a shipped set is meant when it is written ./NAME
    if isinstance(source, str) and source in shipped_names():
        return _read_file(data_folder() / "labels" / f"{source}.json", name)
    with storage_errors(path, "read"):
        if path.is_dir():
            return read_folder(path, name)
        if path.exists():
            return _read_file(path, name)
    if path.suffix.lower() in _SUFFIXES or len(path.parts) > 1:
        raise LabelError(f"the label file {_file(path)} does not exist", remedy="Check the path")
    raise UnknownNameError(
        "label set",
        printable(str(source), 100),
        shipped_names(),
        remedy="See `abs gen-descriptions --help`, or name a .txt, .csv or .json file of class names",
    )


def read_folder(folder: Path, name: str | None) -> LabelSet:
    """See ``labels.from_folder``."""
    with storage_errors(folder, "read"):
        names = sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not names:
        raise LabelError(f"the folder {_file(folder)} has no sub-folders", remedy="Give each class a folder of its own")
    entries = (Entry(f"{_file(folder)} folder {text!r}", text.replace("_", " ")) for text in names)
    shown = name or folder.resolve().name or "labels"
    return build_label_set(entries, where=_file(folder), name=shown, source="the names of sub-folders")


def _read_file(path: Path, name: str | None) -> LabelSet:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise LabelError(
            f"the label file {_file(path)} is none of {', '.join(_SUFFIXES)}",
            remedy="Name it .txt if it holds one class name a line",
        )
    text = _decode(path)
    if not text.strip("\r\n"):
        raise LabelError(f"the label file {_file(path)} is empty", remedy="Write one class name on each line")
    if suffix == ".json":
        return _from_json(path, text, name)
    entries = _text_entries(path, text) if suffix == ".txt" else _csv_entries(path, text)
    return build_label_set(entries, where=_file(path), name=name or path.stem, source=f"the file {path.name}")


def _decode(path: Path) -> str:
    with storage_errors(path, "read"):
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise LabelError(f"the label file {_file(path)} has {size} bytes", remedy="Name a file of class names")
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabelError(f"{_file(path)} line {line}: this is not UTF-8", remedy="Save the file as UTF-8") from None


def _text_entries(path: Path, text: str) -> Iterator[Entry]:
    # Only \n and \r\n end a line: str.splitlines would also cut at characters that are refused with a reason.
    for number, line in enumerate(text.split("\n"), 1):
        content = line.removesuffix("\r")
        if not content or content.startswith("#"):
            continue
        where = f"{_file(path)} line {number}"
        identifier, tab, name = content.rpartition("\t")
        if tab and not name.strip() and identifier.strip():
            raise LabelError(f"{where}: there is an id and no label", remedy="Write the class name after the tab")
        if tab and identifier.strip():
            yield Entry(where, name, identifier)
        else:
            yield Entry(where, content.replace("\t", " "))


def _csv_entries(path: Path, text: str) -> Iterator[Entry]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), strict=True)
    try:
        columns = [cell.strip().casefold() for cell in next(reader)]
        _check_columns(path, columns)
        for row in reader:
            if not row:
                continue
            where = f"{_file(path)} line {reader.line_num}"
            if len(row) != len(columns):
                raise LabelError(
                    f"{where}: {len(row)} cells where the header has {len(columns)}",
                    remedy="Put a cell that holds a comma in double quotes",
                )
            cells = dict(zip(columns, row, strict=True))
            yield Entry(where, cells["name"], cells.get("id") or None, cells.get("group"), cells.get("note"))
    except csv.Error as error:
        raise LabelError(
            f"{_file(path)} line {reader.line_num}: {error}", remedy="Write the file as comma-separated values"
        ) from None


def _check_columns(path: Path, columns: list[str]) -> None:
    unknown = [column for column in columns if column not in _COLUMNS]
    if "name" not in columns or unknown or len(set(columns)) != len(columns):
        raise LabelError(
            f"{_file(path)} line 1: the columns are {printable(', '.join(columns), 120)!r}",
            remedy="Begin the file with the header id,name or id,name,group,note",
        )


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    id: str | None = None
    group: str | None = None
    note: str | None = None
    remark: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    classes: list[_Class]
    name: str | None = None
    version: str = Field("1.0.0", min_length=1, max_length=100)
    source: str = ""
    notes: str = ""


def _from_json(path: Path, text: str, name: str | None) -> LabelSet:
    try:
        # Nothing in the file is a number, and an int of over 4,300 digits would be a ValueError.
        parsed = _File.model_validate(json.loads(text, parse_int=float))
    except (json.JSONDecodeError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise LabelError(
            f"{_file(path)} line {line}: this is not JSON", remedy="Check the file with a JSON editor"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise LabelError(
            f"{_file(path)}: {printable(place, 100)}: {printable(first['msg'], 100)}",
            remedy='Write {"classes": [{"id": "...", "name": "..."}]}',
        ) from None
    entries = (
        Entry(f"{_file(path)} class {position}", one.name, one.id, one.group, one.note)
        for position, one in enumerate(parsed.classes, 1)
    )
    return build_label_set(
        entries,
        where=_file(path),
        name=name or parsed.name or path.stem,
        version=parsed.version,
        source=parsed.source or f"the file {path.name}",
    )


def _file(path: Path) -> str:
    return printable(str(path), 200)
