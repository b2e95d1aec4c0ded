"""Other people's description files in, and the same formats out, byte for byte the same every time.

    cupl     JSON {class: [sentence, ...]}
    clip-d   JSON {class: [descriptor, ...]}, descriptors being phrases
    waffle   the same, spelled as the scripts of WaffleCLIP spell it (indented by 4, in ASCII)
    text     one "class<TAB>sentence" a line
    csv      columns class, name, kind, text (in: class and text are needed, others are free; in any case, with commas,
             semicolons or tabs between)

Importing has three steps, so that the class matching can be shown before it is used: read the file (``read_foreign``),
match its labels with a label set (``match_labels``), make records (``to_records``).
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Literal
from unicodedata import normalize

from pydantic import JsonValue

from abs_core.errors import BundleError, UnknownNameError
from abs_core.files import atomic_write, sha256_file, storage_errors
from abs_core.printable import printable
from abs_descriptions.bundles.foreign import FORMATS, KINDS, READERS, WRITERS, ForeignFault, ForeignText
from abs_descriptions.bundles.format import Description, Kind, LabelSetLike, Provenance, Rejection, text_fault
from abs_descriptions.bundles.models import BundleHeader, Generator
from abs_descriptions.bundles.reader import iter_records, read_header
from abs_descriptions.labels import fold
from abs_descriptions.references import quoted

__all__ = ["FORMATS", "ExportCount", "ForeignText", "LabelMatching", "export_bundle", "import_generator",
           "match_labels", "read_foreign", "read_foreign_text", "to_records"]  # fmt: skip

MAX_IMPORT_BYTES = 256 * 1024 * 1024

_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")


@dataclass(frozen=True)
class LabelMatching:
    """Which class each label of a foreign file means. Show it before using it.

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
            more = "" if len(self.unknown) <= 5 else f" and {len(self.unknown) - 5} more"
            raise BundleError(
                f"no class is called {', '.join(map(quoted, self.unknown[:5]))}{more}",
                remedy="Correct the labels in the file, or choose another label set",
            )


@dataclass(frozen=True)
class ExportCount:
    """How many descriptions were written, and how many left out because the format holds the other kind."""

    written: int
    left_out: int


def read_foreign(path: Path, format_name: str) -> list[ForeignText]:
    """The texts of a foreign file, in file order.

    Raises:
        UnknownNameError: no such format.
        StorageError: the file cannot be read.
        BundleError: the file is not of this format, too large, or no UTF-8; names file and, where there is one, line.
    """
    reader = READERS.get(format_name)
    if reader is None:
        raise UnknownNameError("exchange format", format_name, FORMATS)
    try:
        return list(reader(read_foreign_text(path)))
    except ForeignFault as fault:
        line = "" if fault.line is None else f", line {fault.line}"
        raise BundleError(
            f"{printable(str(path))}{line}: {fault.message}",
            remedy=f"Correct the file, or name another format: {', '.join(FORMATS)}",
        ) from None


def match_labels(labels: Iterable[str], label_set: LabelSetLike) -> LabelMatching:
    """Match the labels of a foreign file with a label set. Pure; never raises."""
    ids = {entry.id for entry in label_set.classes}
    exact = _by_name(label_set, str)
    folded = _by_name(label_set, _folded)
    matched: dict[str, str] = {}
    ambiguous: dict[str, tuple[str, ...]] = {}
    unknown: list[str] = []
    for label in dict.fromkeys(labels):
        found = (label,) if label in ids else exact.get(label) or folded.get(_folded(label)) or ()
        if len(found) == 1:
            matched[label] = found[0]
        elif found:
            ambiguous[label] = found
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
    texts: Iterable[ForeignText], matching: LabelMatching, generator: str
) -> tuple[list[Description], list[Rejection]]:
    """Records, and rejections with their reason for texts that a bundle cannot hold. Pure.

    Line breaks inside a text become a space. Texts under labels that were not matched are left out: call
    ``LabelMatching.check`` first where that must not happen. A record's sample is its place among its class's texts.
    """
    records: list[Description] = []
    rejected: list[Rejection] = []
    seen: dict[str, set[str]] = {}
    samples: dict[str, int] = {}
    for foreign in texts:
        class_id = matching.matched.get(foreign.label)
        if class_id is None:
            continue
        sample = samples.get(class_id, 0)
        samples[class_id] = sample + 1
        text = normalize("NFC", _LINE_BREAK.sub(" ", foreign.text).strip())
        source = Provenance(generator, sample)
        taken = seen.setdefault(class_id, set())
        fault = text_fault(text)
        if fault is not None or text in taken:
            reason = "duplicate" if fault is None else "unusable"
            rejected.append(Rejection(class_id, foreign.text, reason, source, fault and f"the text {fault}"))
            continue
        taken.add(text)
        records.append(Description(class_id, text, source, foreign.kind))
    return records, rejected


def export_bundle(path: Path, target: Path, format_name: str, *, key: Literal["name", "id"] = "name") -> ExportCount:
    """Write the descriptions of the bundle at ``path`` in a foreign format. The same bundle gives the same bytes.

    ``cupl`` and ``text`` hold sentences, ``clip-d`` and ``waffle`` phrases, ``csv`` both. Classes without a description
    of that kind do not appear. In CSV a text that a spreadsheet would run gets an apostrophe before it. A ``target``
    that is a link stays one: what it leads to is written.

    Args:
        key: what stands for a class; ids are always unique, names need not be. CSV has both.

    Raises:
        UnknownNameError: no such format.
        BundleError: the bundle is broken, has no description of that kind, or two classes of one name.
        StorageError: a file cannot be read or written.
    """
    writer = WRITERS.get(format_name)
    if writer is None:
        raise UnknownNameError("exchange format", format_name, FORMATS)
    kind = KINDS[format_name]
    header = read_header(path)
    if header.counts.records == 0:
        raise BundleError(
            f"{header.name}@{header.version} has no descriptions to export", remedy="Name a bundle that has some"
        )
    labels = _export_labels(header, key, format_name)
    names = {entry.id: entry.name for entry in header.label_set.classes}
    count = _Tally()
    groups = (
        (class_id, kept)
        for class_id, group in groupby(iter_records(path), key=attrgetter("class_id"))
        if (kept := count.keep(group, kind))
    )
    with atomic_write(Path(os.path.realpath(target))) as stream:
        for block in writer((labels[class_id], names[class_id], kept) for class_id, kept in groups):
            stream.write(block)
        if count.written == 0:
            raise BundleError(
                f"{header.name}@{header.version} has no {kind} to export as {format_name}",
                remedy=f"Choose another format: {', '.join(one for one in FORMATS if KINDS[one] != kind)}",
            )
    return ExportCount(count.written, count.left_out)


class _Tally:
    def __init__(self) -> None:
        self.written = 0
        self.left_out = 0

    def keep(self, group: Iterable[Description], kind: Kind | None) -> list[Description]:
        records = list(group)
        kept = [record for record in records if kind is None or record.kind == kind]
        self.written += len(kept)
        self.left_out += len(records) - len(kept)
        return kept


def read_foreign_text(path: Path) -> str:
    """The text of a file from outside, UTF-8 with or without a byte order mark, of at most ``MAX_IMPORT_BYTES``.

    Raises:
        StorageError: the file cannot be read.
        ForeignFault: no file, too large, or no UTF-8; with the line where there is one.
    """
    with storage_errors(path, "read"):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFault("not a file")
        if status.st_size > MAX_IMPORT_BYTES:
            raise ForeignFault(f"larger than the {MAX_IMPORT_BYTES // 1024**2} MiB that are read")
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ForeignFault(f"byte 0x{data[error.start]:02x} is not valid UTF-8", line) from None


def _by_name(label_set: LabelSetLike, fold: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
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
        twice = Counter(labels.values()).most_common(1)[0][0]
        raise BundleError(
            f"two classes of {header.name}@{header.version} are called {quoted(twice)}",
            remedy="Export with class ids as keys",
        )
    return labels
