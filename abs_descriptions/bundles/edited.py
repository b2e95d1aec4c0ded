"""A bundle whose sentences were changed by hand: what was not changed keeps where it comes from.

    write_edit_file(bundle, path)             the sentences as a CSV, for an editor or a spreadsheet
    add_edited(repository, bundle, path, ...) the child version that the edited file describes
    apply_edits(parent, given, ...)           the same for an export that is imported again (``importing``)

A text that the parent has keeps its record. A row with an id is an edit of the record that the id names. In a file
without ids a new text that is close to one that is gone is an edit of it. An edit, as in a review, keeps what generated
the old text, which goes to the rejected completions, as other texts that are gone do.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from abs_core.descriptions import Description, DescriptionKind, Provenance, Rejection
from abs_core.errors import AbsError, BundleError
from abs_core.files import atomic_write, sha256_file
from abs_core.labels import LabelSet
from abs_core.text import printable, quoted
from abs_core.text_files import ExternalFormatError, read_external_text
from abs_descriptions.bundles.changes import (
    Change,
    ChildWriter,
    add_changes,
    choose_target,
    find_changed,
    warn_of_empty_classes,
    warn_of_rejected_texts,
)
from abs_descriptions.bundles.exchange import KINDS, ExternalText, to_records
from abs_descriptions.bundles.format import Generator, text_problem
from abs_descriptions.bundles.matching import match_labels
from abs_descriptions.bundles.merge import REFUSE_CONFLICTS, Settling
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review_file import (
    TableRow,
    find_class,
    normalized_text,
    parse_table,
    row_id,
    serialize_table,
)
from abs_descriptions.bundles.reviewers import reviewer_generator
from abs_descriptions.bundles.spreadsheets import ERROR_CELL, conversion
from abs_descriptions.bundles.versions import find_bundle, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["EDIT_COLUMNS", "EditedTexts", "add_edited", "apply_edits", "find_edited", "write_edit_file"]

_logger = logging.getLogger(__name__)

# from which share of the texts in both a file is taken for a changed export, and which likeness of texts is an edit
_SHARED, _CLOSE = 0.5, 0.6

# texts of one class that are compared with each other; beyond it every change is a text that came and one that went
_COMPARED = 100


@dataclass(frozen=True)
class EditedTexts:
    """The records of the child, its new rejections, and what was done."""

    records: list[Description]
    rejected: list[Rejection]
    kept: int
    edited: int
    added: int
    removed: int

    @property
    def is_unchanged(self) -> bool:
        """Whether the file says what the parent says."""
        return not (self.edited or self.added or self.removed)


def find_edited(repository: Repository, name: str, texts: Sequence[ExternalText]) -> Bundle | None:
    """The newest version of a bundle, if half of the texts of a file are its own; None without one."""
    try:
        bundle = find_bundle(repository, name)
    except AbsError:
        return None
    matching = match_labels([text.label for text in texts], bundle.header.label_set)
    if matching.unknown or matching.ambiguous:
        return None
    given = {(record.class_id, record.text) for record in to_records(texts, matching, "x")[0]}
    shared = sum((record.class_id, record.text) in given for record in bundle.records())
    fewer = min(len(given), bundle.header.counts.records)
    return bundle if shared and shared >= _SHARED * fewer else None


def apply_edits(
    parent: Bundle, given: Iterable[Description], unusable: Sequence[Rejection], editor: str, format_name: str
) -> EditedTexts:
    """What a changed file makes of its parent.

    Args:
        parent: that the file was exported from.
        given: the records of the file, grouped or not.
        unusable: texts of the file that a bundle cannot hold.
        editor: the generator id of the import, which vouches for what is new.
        format_name: of the file; a format that holds sentences alone says nothing about phrases.
    """
    kind = KINDS[format_name]
    by_class: dict[str, list[Description]] = {}
    for record in given:
        by_class.setdefault(record.class_id, []).append(record)
    edits = _Edits(editor)
    for class_id, held in _by_class(parent).items():
        texts = by_class.get(class_id, [])
        # A format that holds sentences alone says nothing about phrases.
        outside = [record for record in held if kind is not None and record.kind != kind]
        edits.add_class(held, _with_origins(held, texts, outside), outside)
    return edits.result(parent, unusable)


def _by_class(bundle: Bundle) -> dict[str, list[Description]]:
    held: dict[str, list[Description]] = {class_id: [] for class_id in bundle.header.label_set.ids}
    for record in bundle.records():
        held[record.class_id].append(record)
    return held


def _with_origins(
    held: Sequence[Description], given: Sequence[Description], outside: Sequence[Description] = ()
) -> list[tuple[Description, Description | None]]:
    """The texts of a file without ids, each with the record that it is, or is an edit of."""
    old = {record.text: record for record in held}
    new_texts = {record.text for record in given}
    gone = [record for record in held if record.text not in new_texts and record not in outside]
    origins = _pairs(gone, [record for record in given if record.text not in old])
    return [(record, old.get(record.text) or origins.get(record.text)) for record in given]


class _Edits:
    def __init__(self, editor: str) -> None:
        self.records: list[Description] = []
        self.rejected: list[Rejection] = []
        self.kept = self.edited = self.added = self.removed = 0
        self._editor = editor

    def add_class(
        self,
        held: Sequence[Description],
        given: Sequence[tuple[Description, Description | None]],
        outside: Sequence[Description] = (),
    ) -> None:
        """Take one class.

        Args:
            held: the parent's records.
            given: what the file has, with the record of the parent that each is, or is an edit of.
            outside: records that the file says nothing about.
        """
        for record, origin in given:
            if origin is None:
                self.added += 1
                self.records.append(record)
            elif (origin.class_id, origin.text, origin.kind) == (record.class_id, record.text, record.kind):
                self.kept += 1
                self.records.append(origin)
            else:
                self._edit(origin, record)
        texts = {record.text for record, _ in given}
        self.records += [record for record in outside if record.text not in texts]
        # One that was moved to another class is gone from this one.
        stays = {origin.text for record, origin in given if origin is not None and origin.class_id == record.class_id}
        for record in held:
            if record.text not in stays and record not in outside:
                self.removed += 1
                self._reject(record, "removed")

    def _edit(self, origin: Description, record: Description) -> None:
        self.edited += 1
        is_moved = origin.class_id != record.class_id
        if origin.text != record.text and not is_moved:
            self._reject(origin, "edited")
        # An earlier acceptance, and scores, were of the earlier text. An id is unique in its class alone.
        source = replace(origin.provenance, edited_by=self._editor, accepted_by=None)
        identifier = None if is_moved else origin.id
        self.records.append(replace(record, scores=None, provenance=source, id=identifier))

    def _reject(self, record: Description, reason: str) -> None:
        self.rejected.append(Rejection(record.class_id, record.text, reason, record.provenance, None, self._editor))

    def result(self, parent: Bundle, unusable: Sequence[Rejection] = ()) -> EditedTexts:
        """What came of all classes, with what was rejected before."""
        before = list(iter_rejected(parent.path, parent.header)) if rejected_path(parent.path).exists() else []
        rejected = [*before, *self.rejected, *unusable]
        return EditedTexts(self.records, rejected, self.kept, self.edited, self.added, self.removed)


def _pairs(gone: Sequence[Description], new: Sequence[Description]) -> dict[str, Description]:
    """New text -> the record that is gone and that it is closest to; each is the origin of one text at most."""
    if len(gone) > _COMPARED or len(new) > _COMPARED:
        return {}
    likeness = sorted(
        (
            (-difflib.SequenceMatcher(None, record.text[:500], old.text[:500]).ratio(), place, number)
            for place, record in enumerate(new)
            for number, old in enumerate(gone)
        ),
    )
    pairs: dict[str, Description] = {}
    used: set[int] = set()
    for ratio, place, number in likeness:
        if -ratio < _CLOSE:
            break
        if number not in used and new[place].text not in pairs:
            used.add(number)
            pairs[new[place].text] = gone[number]
    return pairs


EDIT_COLUMNS = ("row", "class", "name", "kind", "text")
_CORRECT = "Correct the file, and give it with --from"


def write_edit_file(bundle: Bundle, path: Path) -> None:
    """Write the sentences of a bundle as a CSV in which texts may be changed, rows removed, and rows without id added.

    Raises:
        BundleError, StorageError: the bundle is no longer the validated one; a file cannot be read or written.
    """
    names = bundle.header.label_set.names
    rows = (
        (row_id(record), record.class_id, names[record.class_id], record.kind, record.text)
        for record in bundle.records()
    )
    with atomic_write(path) as stream:
        for block in serialize_table(EDIT_COLUMNS, rows):
            stream.write(block)


def add_edited(
    repository: Repository,
    bundle: Bundle,
    path: Path,
    *,
    reviewer: str,
    onto: str | None = None,
    fork: bool = False,
    name: str | None = None,
    version: str | None = None,
    settling: Settling = REFUSE_CONFLICTS,
) -> str:
    """Carry out in a new version what was changed by hand in a file of a bundle's sentences.

    Unchanged sentences keep their records. Changed ones name the reviewer in ``edited_by`` and keep what generated
    them; removed ones, and the old texts, go to the rejected completions with the reviewer; new ones have the reviewer
    as their generator.

    Args:
        repository: a local store.
        bundle: whose sentences were edited. If the store has a newer version made of it, the edits go onto the newest.
        path: as ``write_edit_file`` writes it, an export of the bundle in CSV, or a review file without decisions whose
            texts were changed.
        reviewer: who edited, 1 to 1,000 characters.
        onto: the version that the edits go onto instead.
        fork: whether they go onto the edited version, whatever was made of it.
        name: of the new bundle; None: that of the version that the edits go onto.
        version: of the new bundle, as ``child_version`` takes it.
        settling: how conflicts with what was changed meanwhile are decided.

    Returns:
        The pinned reference of the new version; if nothing was changed, of the one that the edits would go onto.

    Raises:
        BundleError: a file that is none of these, no rows, a row that the bundle lacks, a text that cannot be
            one. UsageError: a version that was not made of the edited one. MergeConflictError: conflicts that are left.
        StorageError: the file cannot be read, or the store not be written.
    """
    with _named_errors(path):
        rows = _edit_rows(read_external_text(path))
        stated = next((row["bundle"].strip() for row in rows), "") or bundle.reference
        parent = find_changed(repository, bundle, stated, f"{printable(str(path))}: the file")
        if any((row["bundle"].strip() or parent.reference) != parent.reference for row in rows):
            raise ExternalFormatError(f"not all rows are of {parent.reference}")
        target = choose_target(repository, bundle, parent, onto=onto, fork=fork)
        editor = reviewer_generator(reviewer, [entry.id for entry in parent.header.generators], {})
        edited = _apply_rows(parent, rows, editor.id)
    if edited.is_unchanged:
        _logger.info("nothing was changed, so there is no new version")
        return target.reference
    write = _child_writer(parent, edited, editor, sha256_file(path))
    change = Change(f"{reviewer}'s {path.name}", sha256_file(path), write)
    manifest = add_changes(repository, parent, target, [change], name=name, version=version, settling=settling)
    if manifest is None:
        _logger.info("%s has these changes already, so there is no new version", target.reference)
        return target.reference
    _logger.info("%d kept, %d edited, %d new, %d removed", edited.kept, edited.edited, edited.added, edited.removed)
    warn_of_rejected_texts(parent, [record for record in edited.records if editor.id in _hands(record)])
    warn_of_empty_classes(parent, repository.read(manifest))
    return str(manifest)


def _hands(record: Description) -> tuple[str | None, str]:
    return record.provenance.edited_by, record.provenance.generator


def _child_writer(parent: Bundle, edited: EditedTexts, editor: Generator, file_digest: str) -> ChildWriter:
    described = {record.class_id for record in edited.records}
    parameters: dict[str, JsonValue] = {
        "accepted": 0,
        "edited": edited.edited,
        "rejected": edited.removed,
        "added": edited.added,
        "undecided": edited.kept,
        "sheet_digest": file_digest,
    }
    editor = editor.model_copy(update={"parameters": parameters})

    def write(path: Path, /, *, name: str, version: str) -> Bundle:
        return write_bundle(
            path,
            name=name,
            version=version,
            created=timestamp(),
            label_set=parent.header.label_set,
            generators=[*parent.header.generators, editor],
            license=parent.header.license,
            records=edited.records,
            rejected=edited.rejected,
            parents=[parent.reference],
            complete=parent.header.complete and len(described) == len(parent.header.label_set.classes),
        )

    return write


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ExternalFormatError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise BundleError(f"{printable(str(path))}{line}: {error.message}", remedy=_CORRECT) from None


def _edit_rows(text: str) -> list[TableRow]:
    rows = list(parse_table(text, ("class", "text"), ("bundle", "row", "kind", "decision", "new_text")))
    if not rows:  # who empties a file to leave the editor, as for a commit, means no version without sentences
        raise ExternalFormatError("the file has no rows, so that no sentence would be left")
    for row in rows:
        if row["decision"].strip() or row["new_text"].strip():
            raise ExternalFormatError(
                "the file has decisions: read it with `abs bundle review --read`, or leave these cells empty", row.line
            )
    return rows


def _apply_rows(parent: Bundle, rows: Sequence[TableRow], editor: str) -> EditedTexts:
    """What the rows of a file make of the parent, class by class in the order of the file."""
    held = _by_class(parent)
    by_id = {row_id(record): record for records in held.values() for record in records}
    ids = {key for row in rows if (key := row["row"].strip())}
    given: dict[str, list[tuple[Description, Description | None]]] = {class_id: [] for class_id in held}
    lines: dict[str, int] = {}
    added = 0
    for row in rows:
        key = row["row"].strip()
        origin = by_id.get(key)
        if key and origin is None:
            raise ExternalFormatError(f"{parent.reference} has no row {quoted(key)}, {quoted(row['text'])}", row.line)
        if key and key in lines:
            raise ExternalFormatError(f"the row {quoted(key)} is already on line {lines[key]}", row.line)
        lines[key] = row.line
        record = _given_record(row, origin, parent.header.label_set, Provenance(editor, added))
        if not key and ids and row_id(record) not in ids:
            origin = by_id.get(row_id(record))  # the row lost its id, and its text has not changed
            if origin is not None and not row["kind"].strip():
                record = replace(record, kind=origin.kind)
        added += origin is None
        if any(other.text == record.text for other, _ in given[record.class_id]):
            raise ExternalFormatError(f"{quoted(record.class_id)} has the text {quoted(record.text)} already", row.line)
        given[record.class_id].append((record, origin))
    edits = _Edits(editor)
    for class_id, records in held.items():
        pairs = given[class_id] if ids else _with_origins(records, [record for record, _ in given[class_id]])
        edits.add_class(records, pairs)
    return edits.result(parent)


def _given_record(row: TableRow, origin: Description | None, labels: LabelSet, source: Provenance) -> Description:
    class_id = find_class(row["class"].strip(), row.line, labels)
    text = normalized_text(row["text"])
    problem = "is an error of a spreadsheet" if ERROR_CELL.fullmatch(text) else text_problem(text)
    if problem is not None:
        remedy = "" if text else "; to remove a sentence remove its row"
        raise ExternalFormatError(f"the text {problem}{remedy}", row.line)
    kind = row["kind"].strip().lower() or (origin.kind if origin else "sentence")
    if kind not in ("sentence", "phrase"):
        raise ExternalFormatError(f"the kind must be 'sentence' or 'phrase', got {quoted(kind)}", row.line)
    if origin is not None and conversion(row["text"], origin.text) is not None:
        text = origin.text
    chosen: DescriptionKind = "phrase" if kind == "phrase" else "sentence"
    return Description(text, chosen, class_id=class_id, provenance=source)
