"""External formats: description files of other tools in, and the same formats out, byte for byte the same every time.

    cupl     JSON {class: [sentence, ...]}
    clip-d   JSON {class: [descriptor, ...]}, descriptors being phrases
    waffle   the same as the scripts of WaffleCLIP write it (indented by 4, in ASCII)
    text     one "class<TAB>sentence" a line
    csv      columns class, name, kind, text (in: class and text are needed, others are free; in any case, with commas,
             semicolons or tabs between)

Importing has three steps, so that the class matching can be shown before it is used: read the file (``read_external``),
match its labels with a label set (``match_labels``), make records (``to_records``).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from unicodedata import normalize

from pydantic import JsonValue

from abs_core.descriptions import Description, DescriptionKind, Provenance, Rejection
from abs_core.errors import BundleError, UnknownNameError
from abs_core.files import atomic_write, sha256_file, storage_errors
from abs_core.labels import LabelSet, fold
from abs_core.text import csv_delimiter, escape_formula, printable, quoted, unescape_formula
from abs_descriptions.bundles.codec import is_too_deep
from abs_descriptions.bundles.format import BundleHeader, Generator, text_problem
from abs_descriptions.bundles.reader import iter_records, read_header

__all__ = [
    "FORMATS",
    "KINDS",
    "ExportCount",
    "ExternalFormatError",
    "ExternalText",
    "Group",
    "LabelMatching",
    "export_bundle",
    "import_generator",
    "match_labels",
    "read_external",
    "read_external_text",
    "to_records",
]

#: One class for export: its label, its name, its descriptions.
Group = tuple[str, str, Sequence[Description]]


@dataclass(frozen=True, slots=True)
class ExternalText:
    """One text of an external file, under the label that the file uses, with the class's name where it states one."""

    label: str
    text: str
    kind: DescriptionKind
    name: str | None = None


class ExternalFormatError(Exception):  # a BundleError is made of it where the file is known
    """What is wrong with an external file, and on which line if it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def _json_reader(kind: DescriptionKind) -> Callable[[str], Iterator[ExternalText]]:
    def read(text: str) -> Iterator[ExternalText]:
        value = _parse(text)
        if not isinstance(value, dict):
            raise ExternalFormatError("not a JSON object of lists")
        for label, texts in value.items():
            if not isinstance(texts, list):
                raise ExternalFormatError(f"{quoted(label)} has no list of texts")
            if not texts:
                # The class is there all the same; the empty text is rejected where records are made.
                yield ExternalText(label, "", kind)
            for position, item in enumerate(texts, 1):
                if not isinstance(item, str):
                    raise ExternalFormatError(f"text {position} of {quoted(label)} is not a string")
                yield ExternalText(label, item, kind)

    return read


def _parse(text: str) -> Any:
    if is_too_deep(text):
        raise ExternalFormatError("nested too deeply")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ExternalFormatError(f"invalid JSON: {error.msg.lower()}", error.lineno) from None
    except ValueError:
        raise ExternalFormatError("invalid JSON: a number with too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ExternalFormatError(f"the class {quoted(key)} appears twice")
            seen.add(key)
    return value


def _read_lines(text: str) -> Iterator[ExternalText]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        label, tab, sentence = line.partition("\t")
        if not tab:
            raise ExternalFormatError("no tab between class and sentence", number)
        yield ExternalText(label.strip(), sentence, "sentence")


def _read_csv(text: str) -> Iterator[ExternalText]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=csv_delimiter(text), strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(rows, [])]
        places: dict[str, int] = {}
        for column in ("class", "text", "kind", "name"):
            if header.count(column) > 1:
                raise ExternalFormatError(f"the first row has more than one column {quoted(column)}", 1)
            if column in header:
                places[column] = header.index(column)
            elif column in ("class", "text"):
                raise ExternalFormatError(f"the first row has no column {quoted(column)}", 1)
        for row in rows:
            if row:
                yield _csv_text(row, places, len(header), rows.line_num)
    except csv.Error as error:
        raise ExternalFormatError(f"invalid CSV: {error}", rows.line_num) from None


def _csv_text(row: list[str], places: Mapping[str, int], width: int, line: int) -> ExternalText:
    if len(row) != width:
        raise ExternalFormatError(f"{len(row)} cells, the first row has {width}", line)
    cells = {column: unescape_formula(row[place]) for column, place in places.items()}
    kind = cells.get("kind") or "sentence"
    if kind not in ("sentence", "phrase"):
        raise ExternalFormatError(f"the kind must be 'sentence' or 'phrase', got {quoted(kind)}", line)
    # A label with a name becomes an id, and ids are in NFC.
    label, name = normalize("NFC", cells["class"].strip()), cells.get("name", "").strip() or None
    return ExternalText(label, cells["text"], "phrase" if kind == "phrase" else "sentence", name)


def _serialize_json(groups: Iterable[Group]) -> Iterator[bytes]:
    separator = "{"
    for label, _, records in groups:
        texts = ",\n".join("    " + json.dumps(record.text, ensure_ascii=False) for record in records)
        yield f"{separator}\n  {json.dumps(label, ensure_ascii=False)}: [\n{texts}\n  ]".encode()
        separator = ","
    yield b"\n}\n"


def _serialize_waffle(groups: Iterable[Group]) -> Iterator[bytes]:
    # As Python's json.dumps(..., indent=4) writes it, as that project's scripts do.
    separator = "{"
    for label, _, records in groups:
        texts = ",\n".join("        " + json.dumps(record.text) for record in records)
        yield f"{separator}\n    {json.dumps(label)}: [\n{texts}\n    ]".encode()
        separator = ","
    yield b"\n}"


def _serialize_lines(groups: Iterable[Group]) -> Iterator[bytes]:
    for label, _, records in groups:
        yield "".join(f"{label}\t{record.text}\n" for record in records).encode()


def _serialize_csv(groups: Iterable[Group]) -> Iterator[bytes]:
    yield b"class,name,kind,text\n"
    for label, name, records in groups:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            [escape_formula(label), escape_formula(name), record.kind, escape_formula(record.text)]
            for record in records
        )
        yield rows.getvalue().encode()


_READERS: Mapping[str, Callable[[str], Iterator[ExternalText]]] = MappingProxyType(
    {
        "cupl": _json_reader("sentence"),
        "clip-d": _json_reader("phrase"),
        "waffle": _json_reader("phrase"),
        "text": _read_lines,
        "csv": _read_csv,
    }
)

_WRITERS: Mapping[str, Callable[[Iterable[Group]], Iterator[bytes]]] = MappingProxyType(
    {
        "cupl": _serialize_json,
        "clip-d": _serialize_json,
        "waffle": _serialize_waffle,
        "text": _serialize_lines,
        "csv": _serialize_csv,
    }
)

#: The kind that a format holds; None: it says the kind of each text.
KINDS: Mapping[str, DescriptionKind | None] = MappingProxyType(
    {"cupl": "sentence", "clip-d": "phrase", "waffle": "phrase", "text": "sentence", "csv": None}
)

#: The names of the formats.
FORMATS = tuple(_READERS)
MAX_IMPORT_BYTES = 256 * 1024 * 1024
_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")


@dataclass(frozen=True)
class LabelMatching:
    """Which class each label of an external file means. Show it before using it.

    Matching tries the id, then the exact name, then the name without regard to case, spaces, "_" and "-".
    """

    matched: Mapping[str, str]
    """label -> class id"""
    unknown: tuple[str, ...]
    """labels that name no class"""
    ambiguous: Mapping[str, tuple[str, ...]]
    """label -> the ids of all classes that it could mean"""
    missing: tuple[str, ...]
    """ids of classes that no label names"""

    def check(self) -> None:
        """Refuse labels that mean no class or several.

        Raises:
            BundleError: names up to five of them.
        """
        if self.ambiguous:
            label, ids = next(iter(self.ambiguous.items()))
            raise BundleError(
                f"the label {quoted(label)} could mean the classes {', '.join(map(quoted, ids[:5]))}",
                remedy="Use the class id as the label",
            )
        if self.unknown:
            beyond = "" if len(self.unknown) <= 5 else f" and {len(self.unknown) - 5} more"
            raise BundleError(
                f"no class is called {', '.join(map(quoted, self.unknown[:5]))}{beyond}",
                remedy="Correct the labels in the file, or choose another label set",
            )


@dataclass(frozen=True)
class ExportCount:
    """How many descriptions were written, and how many left out because the format holds the other kind."""

    written: int
    left_out: int


def read_external(path: Path, format_name: str) -> list[ExternalText]:
    """The texts of an external file, in file order.

    Raises:
        UnknownNameError: no such format.
        StorageError: the file cannot be read.
        BundleError: the file is not of this format, too large, or no UTF-8; names file and, where there is one, line.
    """
    reader = _READERS.get(format_name)
    if reader is None:
        raise UnknownNameError("exchange format", format_name, FORMATS)
    try:
        return list(reader(read_external_text(path)))
    except ExternalFormatError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise BundleError(
            f"{printable(str(path))}{line}: {error.message}",
            remedy=f"Correct the file, or name another format: {', '.join(FORMATS)}",
        ) from None


def match_labels(labels: Iterable[str], label_set: LabelSet) -> LabelMatching:
    """Match the labels of an external file with a label set. Pure; never raises."""
    ids = {entry.id for entry in label_set.classes}
    exact = _by_name(label_set, str)
    folded = _by_name(label_set, _folded)
    matched: dict[str, str] = {}
    ambiguous: dict[str, tuple[str, ...]] = {}
    unknown: list[str] = []
    for label in dict.fromkeys(labels):
        candidates = (label,) if label in ids else exact.get(label) or folded.get(_folded(label)) or ()
        if len(candidates) == 1:
            matched[label] = candidates[0]
        elif candidates:
            ambiguous[label] = candidates
        else:
            unknown.append(label)
    named = set(matched.values())
    missing = tuple(entry.id for entry in label_set.classes if entry.id not in named)
    return LabelMatching(matched, tuple(unknown), ambiguous, missing)


def import_generator(path: Path, format_name: str) -> Generator:
    """The header entry that says where imported descriptions come from: format and sha256 of the file.

    Raises:
        StorageError: the file cannot be read.
    """
    parameters: dict[str, JsonValue] = {"format": format_name, "file_digest": sha256_file(path)}
    return Generator(id=f"import-{format_name}", backend="import", model="not stated", parameters=parameters)


def to_records(
    texts: Iterable[ExternalText], matching: LabelMatching, generator: str
) -> tuple[list[Description], list[Rejection]]:
    """Records, and rejections with their reason for texts that a bundle cannot hold. Pure.

    Line breaks inside a text become a space. Texts under labels that were not matched are left out: call
    ``LabelMatching.check`` first where that must not happen. A record's sample is its place among its class's texts.
    """
    records: list[Description] = []
    rejected: list[Rejection] = []
    seen: dict[str, set[str]] = {}
    samples: dict[str, int] = {}
    for external in texts:
        class_id = matching.matched.get(external.label)
        if class_id is None:
            continue
        sample = samples.get(class_id, 0)
        samples[class_id] = sample + 1
        text = normalize("NFC", _LINE_BREAK.sub(" ", external.text).strip())
        source = Provenance(generator, sample)
        class_texts = seen.setdefault(class_id, set())
        problem = text_problem(text)
        if problem is not None or text in class_texts:
            reason = "duplicate" if problem is None else "unusable"
            detail = None if problem is None else f"the text {problem}"
            rejected.append(Rejection(class_id, external.text, reason, source, detail))
            continue
        class_texts.add(text)
        records.append(Description(text, external.kind, class_id=class_id, provenance=source))
    return records, rejected


def export_bundle(path: Path, target: Path, format_name: str, *, key: Literal["name", "id"] = "name") -> ExportCount:
    """Write the descriptions of the bundle at ``path`` in an external format. The same bundle gives the same bytes.

    ``cupl`` and ``text`` hold sentences, ``clip-d`` and ``waffle`` phrases, ``csv`` both. Classes without a description
    of that kind do not appear. In CSV a text that a spreadsheet would run gets an apostrophe before it. A ``target``
    that is a link stays one: what it leads to is written.

    Args:
        key: by what a class is written; ids are always unique, names need not be. CSV has both.

    Raises:
        UnknownNameError: no such format.
        BundleError: the bundle is broken, has no description of that kind, or two classes of one name.
        StorageError: a file cannot be read or written.
    """
    writer = _WRITERS.get(format_name)
    if writer is None:
        raise UnknownNameError("exchange format", format_name, FORMATS)
    kind = KINDS[format_name]
    header = read_header(path)
    if header.counts.records == 0:
        raise BundleError(
            f"{header.name}@{header.version} has no descriptions to export", remedy="Name a bundle that has some"
        )
    labels = _export_labels(header, key, format_name)
    names = header.label_set.names
    tally = _Tally()
    groups = (
        (class_id, kept)
        for class_id, group in groupby(iter_records(path), key=attrgetter("class_id"))
        if (kept := tally.keep(group, kind))
    )
    with atomic_write(Path(os.path.realpath(target))) as stream:
        for block in writer((labels[class_id], names[class_id], kept) for class_id, kept in groups):
            stream.write(block)
        if tally.written == 0:
            raise BundleError(
                f"{header.name}@{header.version} has no {kind} to export as {format_name}",
                remedy=f"Choose another format: {', '.join(name for name in FORMATS if KINDS[name] != kind)}",
            )
    return ExportCount(tally.written, tally.left_out)


class _Tally:
    def __init__(self) -> None:
        self.written = 0
        self.left_out = 0

    def keep(self, group: Iterable[Description], kind: DescriptionKind | None) -> list[Description]:
        records = list(group)
        kept = [record for record in records if kind is None or record.kind == kind]
        self.written += len(kept)
        self.left_out += len(records) - len(kept)
        return kept


def read_external_text(path: Path) -> str:
    """The text of a file from outside, UTF-8 with or without a byte order mark, of at most ``MAX_IMPORT_BYTES``.

    Raises:
        StorageError: the file cannot be read.
        ExternalFormatError: no file, too large, or no UTF-8; with the line where there is one.
    """
    with storage_errors(path, "read"):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ExternalFormatError("not a file")
        if status.st_size > MAX_IMPORT_BYTES:
            raise ExternalFormatError(f"larger than the {MAX_IMPORT_BYTES // 1024**2} MiB that are read")
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExternalFormatError(f"byte 0x{data[error.start]:02x} is not valid UTF-8", line) from None


def _by_name(label_set: LabelSet, fold: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for entry in label_set.classes:
        key = fold(entry.name)
        names[key] = (*names.get(key, ()), entry.id)
    return names


def _folded(name: str) -> str:
    return fold(name.replace("-", " "))


def _export_labels(header: BundleHeader, key: Literal["name", "id"], format_name: str) -> dict[str, str]:
    classes = header.label_set.classes
    if key == "id" or format_name == "csv":
        return {entry.id: entry.id for entry in classes}
    labels = {entry.id: entry.name for entry in classes}
    if len(set(labels.values())) != len(labels):
        repeated = Counter(labels.values()).most_common(1)[0][0]
        raise BundleError(
            f"two classes of {header.name}@{header.version} are called {quoted(repeated)}",
            remedy="Export with class ids as keys",
        )
    return labels
