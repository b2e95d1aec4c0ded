"""What differs between two bundles, class by class. Streams: memory holds one class at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from abs_core.descriptions import Description
from abs_core.text import printable, quoted
from abs_descriptions.bundles.codec import RecordRules
from abs_descriptions.bundles.format import BundleHeader
from abs_descriptions.bundles.reader import iter_records, read_header
from abs_descriptions.bundles.writer import SpoolFile

__all__ = [
    "ClassChange",
    "LabelChange",
    "align_classes",
    "change_lines",
    "change_value",
    "diff_bundles",
    "diff_labels",
    "label_lines",
    "label_value",
    "show_note",
]

_Groups = Iterator[tuple[str, list[Description]]]


@dataclass(frozen=True)
class LabelChange:
    """How the label set of a newer bundle differs: ids that came, that went, with another name, with another note."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str, str], ...]
    """(id, old name, new name)"""
    noted: tuple[tuple[str, str | None, str | None], ...]
    """(id, old note, new note)"""


@dataclass(frozen=True)
class ClassChange:
    """How the descriptions of one class differ. Descriptions are the same if their texts are.

    ``altered`` are pairs (old, new) with one text and another kind, provenance, score or id.
    """

    class_id: str
    name: str
    added: tuple[Description, ...]
    removed: tuple[Description, ...]
    altered: tuple[tuple[Description, Description], ...]
    kept: int


def diff_labels(old: BundleHeader, new: BundleHeader) -> LabelChange:
    """How the label set of ``new`` differs from that of ``old``. Pure."""
    before = {entry.id: entry for entry in old.label_set.classes}
    after = {entry.id: entry for entry in new.label_set.classes}
    both = [(before[class_id], entry) for class_id, entry in after.items() if class_id in before]
    return LabelChange(
        added=tuple(class_id for class_id in after if class_id not in before),
        removed=tuple(class_id for class_id in before if class_id not in after),
        renamed=tuple((was.id, was.name, now.name) for was, now in both if was.name != now.name),
        noted=tuple((was.id, was.note, now.note) for was, now in both if was.note != now.note),
    )


def label_value(change: LabelChange) -> dict[str, Any]:
    """A label set's change as JSON values, texts as they are: escape them where they are shown."""
    return {
        "labels": {
            "added": list(change.added),
            "removed": list(change.removed),
            "renamed": [{"class": class_id, "old": old, "new": new} for class_id, old, new in change.renamed],
            "noted": [{"class": class_id, "old": old, "new": new} for class_id, old, new in change.noted],
        }
    }


def label_lines(change: LabelChange) -> Iterator[str]:
    """A label set's change for a terminal, as ``change_lines``; nothing if there is none."""
    for class_id in change.added:
        yield f"new class: {printable(class_id)}"
    for class_id in change.removed:
        yield f"class gone: {printable(class_id)}"
    for class_id, old, new in change.renamed:
        yield f"renamed: {printable(class_id)} from {printable(old)} to {printable(new)}"
    for class_id, was, now in change.noted:
        yield f"note: {printable(class_id)} from {show_note(was)} to {show_note(now)}"


def diff_bundles(old: Path, new: Path) -> Iterator[ClassChange]:
    """The classes that differ between two bundle files, in the order of the new label set, then the old one's rest.

    Raises:
        StorageError, BundleError: a file cannot be read or is broken; the digests are compared at the end.
    """
    newer, older = (read_header(path).label_set.classes for path in (new, old))
    names = {entry.id: entry.name for entry in (*older, *newer)}
    order = list(dict.fromkeys(entry.id for entry in (*newer, *older)))
    for class_id, (before, after) in align_classes((old, new), order):
        change = _class_change(class_id, names[class_id], before, after)
        if change.added or change.removed or change.altered:
            yield change


def change_value(change: ClassChange) -> dict[str, Any]:
    """A class's change as JSON values, texts as they are: escape them where they are shown."""
    return {
        "class": change.class_id,
        "name": change.name,
        "added": [record.text for record in change.added],
        "removed": [record.text for record in change.removed],
        "altered": [{"text": old.text, "fields": _altered_fields(old, new)} for old, new in change.altered],
        "kept": change.kept,
    }


def change_lines(change: ClassChange) -> Iterator[str]:
    """A class's change for a terminal, one line each, with nothing in it that a terminal would obey."""
    yield f"{printable(change.name)} ({printable(change.class_id)}), {change.kept} kept"
    for record in change.removed:
        yield f"  - {printable(record.text)}"
    for record in change.added:
        yield f"  + {printable(record.text)}"
    for old, new in change.altered:
        yield f"  ~ {printable(new.text)} [{', '.join(_altered_fields(old, new))}]"


def show_note(note: str | None) -> str:
    """The note of a class for a message."""
    return "none" if note is None else quoted(note)


def _class_change(class_id: str, name: str, before: list[Description], after: list[Description]) -> ClassChange:
    old = {record.text: record for record in before}
    new = {record.text: record for record in after}
    both = [(old[text], new[text]) for text in new if text in old]
    return ClassChange(
        class_id,
        name,
        added=tuple(record for text, record in new.items() if text not in old),
        removed=tuple(record for text, record in old.items() if text not in new),
        altered=tuple((a, b) for a, b in both if a != b),
        kept=sum(a == b for a, b in both),
    )


def _altered_fields(old: Description, new: Description) -> list[str]:
    return [name for name in ("kind", "provenance", "scores", "id") if getattr(old, name) != getattr(new, name)]


def align_classes(paths: Sequence[Path], order: Sequence[str]) -> Iterator[tuple[str, tuple[list[Description], ...]]]:
    """For each class of ``order`` its records in each file."""
    with ExitStack() as stack:
        streams = [_grouped(path, order, stack.enter_context(TemporaryFile())) for path in paths]
        heads = [next(stream, None) for stream in streams]
        for class_id in order:
            groups: list[list[Description]] = []
            for position, head in enumerate(heads):
                if head is not None and head[0] == class_id:
                    groups.append(head[1])
                    heads[position] = next(streams[position], None)
                else:
                    groups.append([])
            yield class_id, tuple(groups)


def _grouped(path: Path, order: Sequence[str], spool: IO[bytes]) -> _Groups:
    """The records of a file class by class in ``order``; through a temporary file where its own order is another."""
    position = {class_id: number for number, class_id in enumerate(order)}
    header = read_header(path)
    positions = [position[class_id] for class_id in header.label_set.ids]
    records: Iterable[Description] = iter_records(path)
    if positions != sorted(positions):
        records = _reordered(records, header, order, spool)
    return ((class_id, list(group)) for class_id, group in groupby(records, key=attrgetter("class_id")))


def _reordered(
    records: Iterable[Description], header: BundleHeader, order: Sequence[str], spool: IO[bytes]
) -> Iterator[Description]:
    spool_file = SpoolFile(spool, order)
    for record in records:
        spool_file.add(record)
    rules = RecordRules(order, [generator.id for generator in header.generators])
    for block in spool_file.blocks():
        for line in block.decode().split("\n")[:-1]:
            yield rules.read(line)
