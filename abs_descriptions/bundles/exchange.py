"""External formats: description files of other tools, read into records. ``exporting`` writes the same formats.

    cupl     JSON {class: [sentence, ...]}
    clip-d   JSON {class: [descriptor, ...]}, descriptors being phrases
    waffle   the same as the scripts of WaffleCLIP write it (indented by 4, in ASCII)
    clip-benchmark  JSON {data set: {class: [sentence, ...]}}, the class-specific templates of CLIP_benchmark
    text     one "class<TAB>sentence" a line
    csv      columns class, name, kind, text (in: class and text are needed, others are free; in any case, with commas,
             semicolons or tabs between)

Importing has three steps, so that the class matching can be shown before it is used: read the file (``read_external``),
match its labels with a label set (``matching.match_labels``), make records (``to_records``).
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unicodedata import normalize

from pydantic import JsonValue

from abs_core.descriptions import Description, DescriptionKind, Provenance, Rejection
from abs_core.errors import BundleError, UnknownNameError
from abs_core.files import sha256_file
from abs_core.text import csv_table, printable, quoted, unescape_formula
from abs_core.text_files import ExternalFormatError, read_external_text
from abs_descriptions.bundles.codec import is_too_deep
from abs_descriptions.bundles.format import Generator, text_problem
from abs_descriptions.bundles.matching import LabelMatching
from abs_descriptions.bundles.spreadsheets import ERROR_CELL

__all__ = [
    "FORMATS",
    "KINDS",
    "ExternalText",
    "import_generator",
    "read_external",
    "to_records",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExternalText:
    """One text of an external file, under the label that the file uses, with the class's name where it states one.

    ``states_kind`` says that the kind is written beside the text, and not that of the format.
    """

    label: str
    text: str
    kind: DescriptionKind
    name: str | None = None
    states_kind: bool = False


def _json_reader(kind: DescriptionKind) -> Callable[[str], Iterator[ExternalText]]:
    def read(text: str) -> Iterator[ExternalText]:
        yield from _texts_of_lists(_parse(text), kind)

    return read


def _texts_of_lists(value: Any, kind: DescriptionKind) -> Iterator[ExternalText]:
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


def _read_templates(text: str) -> Iterator[ExternalText]:
    value = _parse(text)
    if not (isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values())):
        raise ExternalFormatError("not a JSON object of data sets that are objects of lists")
    if len(value) > 1:
        names = ", ".join(quoted(name, 30) for name in list(value)[:5])
        raise ExternalFormatError(f"{len(value)} data sets, one is needed: {names}")
    yield from _texts_of_lists(next(iter(value.values())), "sentence")


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


# what other tools call the columns
_COLUMNS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "class": frozenset({"label", "class_name", "classname", "class name", "category"}),
        "text": frozenset({"description", "descriptions", "sentence", "prompt", "caption", "descriptor"}),
    }
)


def _read_lines(text: str) -> Iterator[ExternalText]:
    first = [cell.strip().casefold() for cell in text.lstrip().partition("\n")[0].split("\t")]
    if len(first) > 1 and all(any(cell in {column, *_COLUMNS[column]} for cell in first) for column in _COLUMNS):
        yield from _read_csv(text.lstrip())  # a table with the names of its columns
        return
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        label, tab, sentence = line.partition("\t")
        if not tab:
            raise ExternalFormatError("no tab between class and sentence", number)
        yield ExternalText(label.strip(), sentence, "sentence")


def _read_csv(text: str) -> Iterator[ExternalText]:
    content, delimiter = csv_table(text)
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(filter(None, rows), [])]
        places: dict[str, int] = {}
        for column in ("class", "text", "kind", "name"):
            if header.count(column) > 1:
                raise ExternalFormatError(f"the first row has more than one column {quoted(column)}", 1)
            others = [place for place, cell in enumerate(header) if cell in _COLUMNS.get(column, ())]
            if column in header:
                places[column] = header.index(column)
            elif len(others) == 1:
                places[column] = others[0]
                _logger.info("read as the column %s: %s", column, header[others[0]])
            elif column in ("class", "text"):
                raise ExternalFormatError(f"the first row has no column {quoted(column)}", 1)
        for row in rows:
            if any(map(str.strip, row)):
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
    chosen: DescriptionKind = "phrase" if kind == "phrase" else "sentence"
    return ExternalText(label, cells["text"], chosen, name, bool(cells.get("kind")))


_READERS: Mapping[str, Callable[[str], Iterator[ExternalText]]] = MappingProxyType(
    {
        "cupl": _json_reader("sentence"),
        "clip-d": _json_reader("phrase"),
        "waffle": _json_reader("phrase"),
        "clip-benchmark": _read_templates,
        "text": _read_lines,
        "csv": _read_csv,
    }
)

#: The kind that a format holds; None: it says the kind of each text.
KINDS: Mapping[str, DescriptionKind | None] = MappingProxyType(
    {
        "cupl": "sentence",
        "clip-d": "phrase",
        "waffle": "phrase",
        "clip-benchmark": "sentence",
        "text": "sentence",
        "csv": None,
    }
)

#: The names of the formats.
FORMATS = tuple(_READERS)
_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")


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


def import_generator(
    path: Path, format_name: str, matching: LabelMatching | None = None, names: Mapping[str, str] | None = None
) -> Generator:
    """The header entry that says where imported descriptions come from: format and sha256 of the file.

    Args:
        path: the file.
        format_name: that it was read in.
        matching: of its labels; those that are not simply the name of one class are stated, with their classes, and
            those that were left out.
        names: class id to name.

    Raises:
        StorageError: the file cannot be read.
    """
    parameters: dict[str, JsonValue] = {"format": format_name, "file_digest": sha256_file(path)}
    if matching is not None:
        known = names or {}
        labels: dict[str, JsonValue] = {
            label: [*ids]
            for label, ids in matching.matched.items()
            if len(ids) > 1 or label in matching.loose or known.get(ids[0], label) != label
        }
        left_out: list[JsonValue] = [*matching.left_out]
        parameters |= {"labels": labels} if labels else {}
        parameters |= {"left_out": left_out} if left_out else {}
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
        text = normalize("NFC", _LINE_BREAK.sub(" ", external.text).strip())
        problem = "is an error of a spreadsheet" if ERROR_CELL.fullmatch(text) else text_problem(text)
        for class_id in matching.matched.get(external.label, ()):
            sample = samples.get(class_id, 0)
            samples[class_id] = sample + 1
            source = Provenance(generator, sample)
            class_texts = seen.setdefault(class_id, set())
            if problem is not None or text in class_texts:
                reason = "duplicate" if problem is None else "unusable"
                detail = None if problem is None else f"the text {problem}"
                rejected.append(Rejection(class_id, external.text, reason, source, detail))
                continue
            class_texts.add(text)
            records.append(Description(text, external.kind, class_id=class_id, provenance=source))
    return records, rejected
