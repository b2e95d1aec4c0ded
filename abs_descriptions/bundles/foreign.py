"""The file formats that other tools keep descriptions in: text to labelled texts, and back. Pure.

Everything that is read comes from outside: depth, types and repeated keys are checked, nothing is guessed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from unicodedata import normalize

from abs_core.spreadsheets import delimiter, guarded, unguarded
from abs_descriptions.bundles.format import Description, Kind
from abs_descriptions.bundles.lines import is_too_deep
from abs_descriptions.references import quoted

__all__ = ["FORMATS", "KINDS", "READERS", "WRITERS", "ForeignFault", "ForeignText", "Group"]

# What a spreadsheet would run; one apostrophe is put before it, and taken away again on import.

#: One class for export: its label, its name, its descriptions.
Group = tuple[str, str, Sequence[Description]]


@dataclass(frozen=True, slots=True)
class ForeignText:
    """One text of a foreign file, under the label that the file uses, with the class's name where it states one."""

    label: str
    text: str
    kind: Kind
    name: str | None = None


class ForeignFault(Exception):  # noqa: N818  a BundleError is made of it where the file is known
    """What is wrong with a foreign file, and on which line if it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def _json_reader(kind: Kind) -> Callable[[str], Iterator[ForeignText]]:
    def read(text: str) -> Iterator[ForeignText]:
        value = _parse(text)
        if not isinstance(value, dict):
            raise ForeignFault("not a JSON object of lists")
        for label, texts in value.items():
            if not isinstance(texts, list):
                raise ForeignFault(f"{quoted(label)} has no list of texts")
            if not texts:
                # The class is there all the same; the empty text is rejected where records are made.
                yield ForeignText(label, "", kind)
            for position, item in enumerate(texts, 1):
                if not isinstance(item, str):
                    raise ForeignFault(f"text {position} of {quoted(label)} is not a string")
                yield ForeignText(label, item, kind)

    return read


def _parse(text: str) -> Any:
    if is_too_deep(text):
        raise ForeignFault("nested too deep")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ForeignFault(f"no valid JSON: {error.msg.lower()}", error.lineno) from None
    except ValueError:
        raise ForeignFault("no valid JSON: a number with too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ForeignFault(f"the class {quoted(key)} stands twice")
            seen.add(key)
    return value


def _read_lines(text: str) -> Iterator[ForeignText]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        label, tab, sentence = line.partition("\t")
        if not tab:
            raise ForeignFault("no tab between class and sentence", number)
        yield ForeignText(label.strip(), sentence, "sentence")


def _read_csv(text: str) -> Iterator[ForeignText]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(rows, [])]
        places: dict[str, int] = {}
        for column in ("class", "text", "kind", "name"):
            if header.count(column) > 1:
                raise ForeignFault(f"the first row has more than one column {quoted(column)}", 1)
            if column in header:
                places[column] = header.index(column)
            elif column in ("class", "text"):
                raise ForeignFault(f"the first row has no column {quoted(column)}", 1)
        for row in rows:
            if row:
                yield _csv_text(row, places, len(header), rows.line_num)
    except csv.Error as error:
        raise ForeignFault(f"no valid CSV: {error}", rows.line_num) from None


def _csv_text(row: list[str], places: Mapping[str, int], width: int, line: int) -> ForeignText:
    if len(row) != width:
        raise ForeignFault(f"{len(row)} cells, the first row has {width}", line)
    cells = {column: unguarded(row[place]) for column, place in places.items()}
    kind = cells.get("kind") or "sentence"
    if kind not in ("sentence", "phrase"):
        raise ForeignFault(f"the kind is {quoted(kind)}, not 'sentence' or 'phrase'", line)
    # A label with a name becomes an id, and ids are in NFC.
    label, name = normalize("NFC", cells["class"].strip()), cells.get("name", "").strip() or None
    return ForeignText(label, cells["text"], "phrase" if kind == "phrase" else "sentence", name)


def _spell_json(groups: Iterable[Group]) -> Iterator[bytes]:
    separator = "{"
    for label, _, records in groups:
        texts = ",\n".join("    " + json.dumps(record.text, ensure_ascii=False) for record in records)
        yield f"{separator}\n  {json.dumps(label, ensure_ascii=False)}: [\n{texts}\n  ]".encode()
        separator = ","
    yield b"\n}\n"


def _spell_waffle(groups: Iterable[Group]) -> Iterator[bytes]:
    # As Python's json.dumps(..., indent=4) spells it, which is what that project's scripts write.
    separator = "{"
    for label, _, records in groups:
        texts = ",\n".join("        " + json.dumps(record.text) for record in records)
        yield f"{separator}\n    {json.dumps(label)}: [\n{texts}\n    ]".encode()
        separator = ","
    yield b"\n}"


def _spell_lines(groups: Iterable[Group]) -> Iterator[bytes]:
    for label, _, records in groups:
        yield "".join(f"{label}\t{record.text}\n" for record in records).encode()


def _spell_csv(groups: Iterable[Group]) -> Iterator[bytes]:
    yield b"class,name,kind,text\n"
    for label, name, records in groups:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            [guarded(label), guarded(name), record.kind, guarded(record.text)] for record in records
        )
        yield rows.getvalue().encode()


READERS: Mapping[str, Callable[[str], Iterator[ForeignText]]] = MappingProxyType(
    {
        "cupl": _json_reader("sentence"),
        "clip-d": _json_reader("phrase"),
        "waffle": _json_reader("phrase"),
        "text": _read_lines,
        "csv": _read_csv,
    }
)
WRITERS: Mapping[str, Callable[[Iterable[Group]], Iterator[bytes]]] = MappingProxyType(
    {"cupl": _spell_json, "clip-d": _spell_json, "waffle": _spell_waffle, "text": _spell_lines, "csv": _spell_csv}
)
#: The kind that a format holds; None: it says the kind of each text.
KINDS: Mapping[str, Kind | None] = MappingProxyType(
    {"cupl": "sentence", "clip-d": "phrase", "waffle": "phrase", "text": "sentence", "csv": None}
)
#: The names of the formats.
FORMATS = tuple(READERS)
