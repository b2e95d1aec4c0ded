"""Label sets: classes with stable ids, and the pure rules that every label obeys.

    read_labels("pets.txt")          a file: .txt, .csv or .json (see ``label_files``)
    read_labels("imagenet")          a set that ships with the toolkit
    from_names(["cat", "dog"])       a list
    from_folder(Path("train"))       one class per sub-folder

A class is known by its id, never by its position. Where no id is given it is a slug of the name, which depends on
that name alone, so adding or sorting labels changes no id.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abs_core.canonical import digest
from abs_core.errors import LabelError, UnknownNameError, UsageError
from abs_core.files import data_folder, storage_errors
from abs_core.text import delimiter, printable

__all__ = [
    "ClassLabel",
    "LabelSet",
    "fold",
    "from_folder",
    "from_names",
    "read_folder",
    "read_labels",
    "read_source",
    "shipped_label_sets",
    "shipped_names",
    "slug",
]


MAX_NAME = 500


MAX_ID = 200


_SLUG_LENGTH = 120


# The joiners that emoji and the Persian and Indic scripts need; every other format character only hides or reorders.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class.

    Args:
        id: stable and unique in its label set; enters bundles, caches and results.
        name: as it is prompted and shown.
        group: a coarser class, where there is one.
        note: what tells the class from its namesakes: "the bird". It is told to the language model behind the name.
    """

    id: str
    name: str
    group: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class LabelSet:
    """Classes with unique ids.

    Args:
        name: how the set is called, for example "pets".
        classes: in the order of the source; nothing depends on it.
        version: of the list.
        source: where the list comes from, in words.

    Raises:
        LabelError: no class at all, or an id twice.
    """

    name: str
    classes: tuple[ClassLabel, ...]
    version: str = "1.0.0"
    source: str = ""

    def __post_init__(self) -> None:
        if not self.classes:
            raise LabelError(f"the label set {_shown(self.name)} has no classes", remedy="Give at least one label")
        seen: set[str] = set()
        for one in self.classes:
            if one.id in seen:
                raise LabelError(
                    f"the label set {_shown(self.name)} has the class id {_shown(one.id)} twice",
                    remedy="Give each class an id of its own",
                )
            seen.add(one.id)

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of the ids and names, sorted by id: the same classes in another order are the same set."""
        return digest(sorted([one.id, one.name] for one in self.classes))

    @cached_property
    def _by_id(self) -> Mapping[str, ClassLabel]:
        return {one.id: one for one in self.classes}

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[ClassLabel, ...]]:
        found: dict[str, tuple[ClassLabel, ...]] = {}
        for one in self.classes:
            key = fold(one.name)
            found[key] = (*found.get(key, ()), one)
        return found

    def resolve(self, label: str) -> ClassLabel:
        """The class with this id, else the one with this name after folding (``fold``).

        Raises:
            LabelError: no class or several classes match; names close matches or the ids to choose from.
        """
        exact = self._by_id.get(label)
        if exact is not None:
            return exact
        named = self._by_name.get(fold(label), ())
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(_shown(one.id) for one in named[:5])
            raise LabelError(f"the label {_shown(label)} names several classes", remedy=f"Use an id: {ids}")
        raise LabelError(
            f"the label {_shown(label)} is not in the label set {_shown(self.name)}", remedy=self._suggestion(label)
        )

    def _suggestion(self, label: str) -> str:
        folded = {fold(one.id): one.id for one in self.classes} | {
            key: ones[0].name for key, ones in self._by_name.items()
        }
        close = [folded[key] for key in difflib.get_close_matches(fold(label)[:MAX_NAME], folded, n=3, cutoff=0.6)]
        if close:
            return f"Write {' or '.join(_shown(name) for name in dict.fromkeys(close))} if that is meant"
        return f"Use one of its {len(self.classes)} labels, for example {_shown(self.classes[0].name)}"


def fold(name: str) -> str:
    """``name`` with case, width, and runs of spaces and underscores evened out: "Brick_wall " is "brick wall"."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


def slug(name: str) -> str:
    """The id of a class that was given none: letters, digits and marks of any script, ``_`` between words.

    "Brick wall" is ``brick_wall``, "東京タワー" stays as it is, "C++" is ``c_x2b_x2b``: a symbol is written as its code
    point, so that "C++" and "C#" differ. Long names end in 10 hex digits of their sha256.
    """
    folded = fold(name)
    parts = (char if unicodedata.category(char)[0] in "LNM" else _separator(char) for char in folded)
    text = unicodedata.normalize("NFC", re.sub("_+", "_", "".join(parts)).strip("_"))
    if len(text) <= _SLUG_LENGTH and text:
        return text
    return f"{text[:_SLUG_LENGTH]}_{hashlib.sha256(folded.encode()).hexdigest()[:10]}"


def _separator(char: str) -> str:
    # Symbols and the few punctuation marks that tell names apart; commas, quotes and brackets do not.
    tells_apart = unicodedata.category(char)[0] == "S" or char in "#%&*@!?/\\"
    return f"_x{ord(char):x}_" if tells_apart else "_"


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """A class as it stood in its source, before the rules.

    Args:
        where: how a message begins: "labels.txt line 3".
        name, id, group, note: as written; no id means the slug of the name.
    """

    where: str
    name: str
    id: str | None = None
    group: str | None = None
    note: str | None = None


def build_label_set(
    entries: Iterable[LabelEntry], *, where: str, name: str, source: str, version: str = "1.0.0"
) -> LabelSet:
    """Check entries one by one and against each other. Pure.

    ``where`` is what a message calls the whole: the path of the file.

    Two classes may share a name only where both carry a note that tells them apart (ImageNet has two such pairs).

    Raises:
        LabelError: a rule is broken; names the place.
    """
    classes: list[ClassLabel] = []
    names: dict[str, tuple[str, ClassLabel]] = {}
    ids: dict[str, str] = {}
    for entry in entries:
        one = _checked(entry)
        key = fold(one.name)
        if key in names and not (one.note and names[key][1].note and one.note != names[key][1].note):
            raise LabelError(
                f"{entry.where}: the label {_shown(one.name)} is there already ({names[key][0]})",
                remedy="Remove one of them, or give both an id and a note that tells them apart",
            )
        if one.id in ids:
            raise LabelError(
                f"{entry.where}: the id {_shown(one.id)} of {_shown(one.name)} is there already ({ids[one.id]})",
                remedy="Give each class an id of its own",
            )
        names[key] = (entry.where, one)
        ids[one.id] = entry.where
        classes.append(one)
    if not classes:
        raise LabelError(f"{where} has no labels", remedy="Write one class name on each line")
    return LabelSet(_checked_text(name, "the label set", "name"), tuple(classes), version, source)


def _checked(entry: LabelEntry) -> ClassLabel:
    name = " ".join(_checked_text(entry.name, entry.where, "label").split())
    if not name:
        raise LabelError(f"{entry.where}: the label is only spaces", remedy="Remove it or write a class name there")
    if len(name) > MAX_NAME:
        raise LabelError(
            f"{entry.where}: the label has {len(name)} characters ({_shown(name, 40)})",
            remedy=f"Use names of at most {MAX_NAME} characters",
        )
    if entry.id is None:
        return ClassLabel(slug(name), name, *_extras(entry))
    identifier = _checked_text(entry.id, entry.where, "id").strip()
    if not identifier or len(identifier) > MAX_ID:
        raise LabelError(
            f"{entry.where}: the id of {_shown(name)} has {len(identifier)} characters",
            remedy=f"Use ids of 1 to {MAX_ID} characters",
        )
    return ClassLabel(identifier, name, *_extras(entry))


def _extras(entry: LabelEntry) -> tuple[str | None, str | None]:
    return _short_text(entry.group, entry.where, "group", MAX_ID), _short_text(
        entry.note, entry.where, "note", MAX_NAME
    )


def _short_text(text: str | None, where: str, what: str, limit: int) -> str | None:
    short = _checked_text(text or "", where, what).strip()
    if len(short) > limit:
        raise LabelError(
            f"{where}: the {what} has {len(short)} characters ({_shown(short, 40)})",
            remedy=f"Use at most {limit} characters",
        )
    return short or None


def _checked_text(text: str, where: str, what: str) -> str:
    """``text`` in NFC, or the reason why it cannot be shown and compared."""
    for char in text:
        category = unicodedata.category(char)
        if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and char not in _JOINERS):
            raise LabelError(
                f"{where}: the {what} {_shown(text)} holds the control character U+{ord(char):04X}",
                remedy="Remove that character",
            )
    return unicodedata.normalize("NFC", text)


def from_names(names: Iterable[str], *, name: str = "labels") -> LabelSet:
    """A label set from names in memory.

    Raises:
        LabelError: no name, a name twice, only spaces, control characters, or over 500 characters.
    """
    entries = (LabelEntry(f"label {position}", text) for position, text in enumerate(names, 1))
    return build_label_set(entries, where="the list of labels", name=name, source="a list of names")


def from_folder(folder: Path, *, name: str | None = None) -> LabelSet:
    """A label set from the sub-folders of a folder, one class each; hidden folders are left out.

    The id is the slug of the folder's name, the class name is the folder's name with spaces for underscores.

    Raises:
        LabelError: no sub-folder, or names that break a rule.
        StorageError: the folder cannot be read.
    """

    return read_folder(folder, name)


def read_labels(source: str | Path, name: str | None = None) -> LabelSet:
    """A label set from a ``.txt``, ``.csv`` or ``.json`` file, from a folder, or by the name of a shipped one.

    Args:
        source: a path, or a shipped name such as "imagenet"; something on the disk of that very name is meant by
            "./imagenet".
        name: what to call the set; by default the name it states, else the name of the file.

    Raises:
        LabelError: a bad file; names file and line.
        UnknownNameError: neither a file nor a shipped name; lists the shipped ones.
        StorageError: the file cannot be read.
    """

    return read_source(source, name)


def shipped_label_sets() -> tuple[str, ...]:
    """The names of the label sets that ship with the toolkit, sorted."""

    return shipped_names()


def _shown(text: str, limit: int = 60) -> str:
    return f"'{printable(text[: limit + 1], limit)}'"


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
    entries = (LabelEntry(f"{_file(folder)} folder {text!r}", text.replace("_", " ")) for text in names)
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


def _text_entries(path: Path, text: str) -> Iterator[LabelEntry]:
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
            yield LabelEntry(where, name, identifier)
        else:
            yield LabelEntry(where, content.replace("\t", " "))


def _csv_entries(path: Path, text: str) -> Iterator[LabelEntry]:
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
            yield LabelEntry(where, cells["name"], cells.get("id") or None, cells.get("group"), cells.get("note"))
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
        LabelEntry(f"{_file(path)} class {position}", one.name, one.id, one.group, one.note)
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
