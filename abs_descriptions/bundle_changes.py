"""What differs between two bundles, and one bundle out of several. Streams: memory holds one class at a time.

The rules of merging, in order:

1. Classes are matched by id. An id that has another name somewhere is refused.
2. Bundles with different label sets, or different notes of a class, are refused unless ``label_set`` is given, which
   must have all their classes; its notes hold.
3. Within a class the descriptions of the first source come first, then what the next ones add.
4. A text that is there already is dropped: the earlier record stays, with its provenance and scores. If the two
   differ in kind that is a conflict.
5. A record id that is there already with another text is a conflict.
6. A conflict is refused, or with ``on_conflict="first"`` the earlier record wins and the later one loses (its text,
   or its id).
7. Equal generators become one. A generator id with another meaning gets "-2", "-3" and so on appended.
8. Different licences are refused unless ``licence`` is given.
9. Rejected completions that lie beside the sources are all kept. The parents are the sources, pinned.
10. The merged bundle is complete if all sources are and every class is in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal

from abs_core.errors import BundleError
from abs_core.printable import printable
from abs_descriptions.bundles.format import Description, LabelSetLike, Provenance, Rejection
from abs_descriptions.bundles.lines import RecordRules
from abs_descriptions.bundles.models import BundleHeader, Generator
from abs_descriptions.bundles.reader import Bundle, iter_records, read_bundle, read_header
from abs_descriptions.bundles.rejected import iter_rejected, rejected_path
from abs_descriptions.bundles.spelling import spell_record
from abs_descriptions.bundles.spool import SpoolIndex
from abs_descriptions.bundles.writer import write_bundle
from abs_descriptions.references import quoted

__all__ = ["ClassChange", "LabelChange", "change_lines", "change_value", "count_readmitted", "diff_bundles",
           "diff_labels", "label_lines", "label_value", "merge_bundles"]  # fmt: skip

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
        yield f"note: {printable(class_id)} from {_shown_note(was)} to {_shown_note(now)}"


def diff_bundles(old: Path, new: Path) -> Iterator[ClassChange]:
    """The classes that differ between two bundle files, in the order of the new label set, then the old one's rest.

    Raises:
        StorageError, BundleError: a file cannot be read or is broken; the digests are compared at the end.
    """
    newer, older = (read_header(path).label_set.classes for path in (new, old))
    names = {entry.id: entry.name for entry in (*older, *newer)}
    order = list(dict.fromkeys(entry.id for entry in (*newer, *older)))
    for class_id, (before, after) in _aligned((old, new), order):
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


def merge_bundles(
    path: Path,
    sources: Sequence[Path],
    *,
    name: str,
    version: str,
    created: str,
    label_set: LabelSetLike | None = None,
    licence: str | None = None,
    on_conflict: Literal["refuse", "first"] = "refuse",
) -> Bundle:
    """Write one bundle with the descriptions of several.

    The module's documentation states the rules by which conflicts are settled.

    Args:
        sources: at least one bundle file; each is validated first.

    Raises:
        BundleError: a source is broken, or one of the rules refuses.
        StorageError: a file cannot be read or written.
    """
    if not sources:
        raise BundleError("there is nothing to merge", remedy="Name at least one bundle")
    bundles = [read_bundle(source) for source in sources]
    headers = [bundle.header for bundle in bundles]
    labels = _merged_labels(headers, label_set)
    generators, renamed = _merged_generators(headers)
    covered = {entry.id for header in headers for entry in header.label_set.classes}
    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=labels,
        generators=generators,
        licence=_merged_licence(headers, licence),
        records=_merged_records(sources, [entry.id for entry in labels.classes], renamed, on_conflict == "first"),
        rejected=_merged_rejected(bundles, renamed),
        parents=list(dict.fromkeys(bundle.reference for bundle in bundles)),
        complete=all(header.complete for header in headers) and all(entry.id in covered for entry in labels.classes),
    )


def count_readmitted(merged: Bundle) -> int:
    """How many descriptions of a merged bundle a reviewer rejected in one of its sources, and another one has.

    Raises:
        StorageError, BundleError: a file cannot be read or is broken.
    """
    if not rejected_path(merged.path).exists():
        return 0
    rejections = iter_rejected(merged.path, merged.header)
    refused = {(one.class_id, one.text) for one in rejections if one.rejected_by is not None}
    return sum((record.class_id, record.text) in refused for record in merged.records())


def _shown_note(note: str | None) -> str:
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


def _aligned(paths: Sequence[Path], order: Sequence[str]) -> Iterator[tuple[str, tuple[list[Description], ...]]]:
    """For each class of ``order`` its records in each file."""
    with ExitStack() as stack:
        streams = [_grouped(path, order, stack.enter_context(TemporaryFile())) for path in paths]
        heads = [next(stream, None) for stream in streams]
        for class_id in order:
            found: list[list[Description]] = []
            for position, head in enumerate(heads):
                if head is not None and head[0] == class_id:
                    found.append(head[1])
                    heads[position] = next(streams[position], None)
                else:
                    found.append([])
            yield class_id, tuple(found)


def _grouped(path: Path, order: Sequence[str], spool: IO[bytes]) -> _Groups:
    """The records of a file class by class in ``order``; through a temporary file where its own order is another."""
    position = {class_id: number for number, class_id in enumerate(order)}
    header = read_header(path)
    own = [position[entry.id] for entry in header.label_set.classes]
    records: Iterable[Description] = iter_records(path)
    if own != sorted(own):
        records = _reordered(records, header, order, spool)
    return ((class_id, list(group)) for class_id, group in groupby(records, key=attrgetter("class_id")))


def _reordered(
    records: Iterable[Description], header: BundleHeader, order: Sequence[str], spool: IO[bytes]
) -> Iterator[Description]:
    index = SpoolIndex(order)
    for record in records:
        index.add(record, spool.write(spell_record(record).encode() + b"\n"))
    rules = RecordRules(order, [generator.id for generator in header.generators])
    for block in index.blocks(spool):
        for line in block.decode().split("\n")[:-1]:
            yield rules.read(line)


def _merged_labels(headers: Sequence[BundleHeader], label_set: LabelSetLike | None) -> LabelSetLike:
    labels = headers[0].label_set if label_set is None else label_set
    if label_set is None and any(header.label_set.digest != labels.digest for header in headers):
        raise BundleError(
            "the bundles describe different label sets",
            remedy="Name the label set of the merged bundle; it must have all their classes",
        )
    if label_set is None:
        _refuse_other_notes(headers)
    names = {entry.id: entry.name for entry in labels.classes}
    for header in headers:
        for entry in header.label_set.classes:
            if names.get(entry.id) != entry.name:
                found = "is missing" if entry.id not in names else f"is called {quoted(names[entry.id])}"
                raise BundleError(
                    f"the class {quoted(entry.id)}, {quoted(entry.name)} in {header.name}@{header.version}, {found} "
                    f"in the label set {quoted(labels.name)}",
                    remedy="Merge bundles whose classes agree, or name a label set that has them all",
                )
    return labels


def _refuse_other_notes(headers: Sequence[BundleHeader]) -> None:
    first = headers[0]
    for header in headers[1:]:
        for class_id, mine, other in diff_labels(first, header).noted:
            raise BundleError(
                f"the note of the class {quoted(class_id)} is {_shown_note(mine)} in {first.name}@{first.version} and "
                f"{_shown_note(other)} in {header.name}@{header.version}",
                remedy="Name a label set whose notes hold (--labels)",
            )


def _merged_licence(headers: Sequence[BundleHeader], licence: str | None) -> str:
    if licence is not None:
        return licence
    found = list(dict.fromkeys(header.licence for header in headers))
    if len(found) > 1:
        raise BundleError(
            f"the bundles have different licences: {', '.join(quoted(each) for each in found)}",
            remedy="State the licence of the merged bundle (--licence)",
        )
    return found[0]


def _merged_generators(headers: Sequence[BundleHeader]) -> tuple[list[Generator], list[dict[str, str]]]:
    """The generators of all bundles, and for each bundle what its generator ids are now."""
    merged: dict[str, Generator] = {}
    renamed: list[dict[str, str]] = []
    for header in headers:
        mapping: dict[str, str] = {}
        for generator in header.generators:
            new, number = generator, 1
            while new.id in merged and merged[new.id] != new:
                number += 1
                new = generator.model_copy(update={"id": f"{generator.id}-{number}"})
            merged[new.id] = new
            mapping[generator.id] = new.id
        renamed.append(mapping)
    return list(merged.values()), renamed


def _merged_records(
    sources: Sequence[Path], order: Sequence[str], renamed: Sequence[Mapping[str, str]], first_wins: bool
) -> Iterator[Description]:
    for class_id, groups in _aligned(sources, order):
        texts: dict[str, str] = {}
        ids: set[str] = set()
        for group, mapping in zip(groups, renamed, strict=True):
            for record in group:
                conflict = _conflict(record, texts, ids)
                if conflict is not None and not first_wins:
                    raise BundleError(
                        f"the class {quoted(class_id)} has a conflict: {conflict}",
                        remedy="Change one of the bundles, or let the first one win",
                    )
                if record.text in texts:
                    continue
                kept = None if record.id in ids else record.id
                texts[record.text] = record.kind
                if kept is not None:
                    ids.add(kept)
                yield replace(record, provenance=_renamed(record.provenance, mapping), id=kept)


def _conflict(record: Description, texts: Mapping[str, str], ids: set[str]) -> str | None:
    if record.text in texts:
        other = texts[record.text]
        return None if other == record.kind else f"{quoted(record.text)} is a {other} and a {record.kind}"
    return f"two texts have the id {quoted(record.id)}" if record.id is not None and record.id in ids else None


def _merged_rejected(bundles: Sequence[Bundle], renamed: Sequence[Mapping[str, str]]) -> Iterator[Rejection]:
    for bundle, mapping in zip(bundles, renamed, strict=True):
        if not rejected_path(bundle.path).exists():
            continue
        for rejection in iter_rejected(bundle.path, bundle.header):
            by = rejection.rejected_by
            yield replace(
                rejection,
                provenance=_renamed(rejection.provenance, mapping),
                rejected_by=None if by is None else mapping[by],
            )


def _renamed(source: Provenance, mapping: Mapping[str, str]) -> Provenance:
    return replace(
        source,
        generator=mapping[source.generator],
        accepted_by=None if source.accepted_by is None else mapping[source.accepted_by],
        edited_by=None if source.edited_by is None else mapping[source.edited_by],
    )
