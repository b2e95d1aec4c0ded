"""A bundle that was exported, changed by hand and imported again: what was not changed keeps where it comes from.

A text that the parent has keeps its record. A new text that is close to one that is gone is an edit of it, as in a
review: it keeps what generated the old text, which goes to the rejected completions, as other texts that are gone do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from abs_core.descriptions import Description, DescriptionKind, Rejection
from abs_core.errors import AbsError
from abs_descriptions.bundles.exchange import KINDS, ExternalText, to_records
from abs_descriptions.bundles.matching import match_labels
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle

__all__ = ["EditedTexts", "apply_edits", "find_edited"]

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
    merged = _Merge(editor, kind)
    held: dict[str, list[Description]] = {}
    for record in parent.records():
        held.setdefault(record.class_id, []).append(record)
    for class_id in parent.header.label_set.ids:
        merged.add_class(held.get(class_id, []), by_class.get(class_id, []))
    before = list(iter_rejected(parent.path, parent.header)) if rejected_path(parent.path).exists() else []
    return EditedTexts(
        merged.records, [*before, *merged.rejected, *unusable], merged.kept, merged.edited, merged.added, merged.removed
    )


class _Merge:
    def __init__(self, editor: str, kind: DescriptionKind | None) -> None:
        self.records: list[Description] = []
        self.rejected: list[Rejection] = []
        self.kept = self.edited = self.added = self.removed = 0
        self._editor = editor
        self._kind = kind

    def add_class(self, held: Sequence[Description], given: Sequence[Description]) -> None:
        old = {record.text: record for record in held}
        new_texts = {record.text for record in given}
        outside = [record for record in held if self._kind is not None and record.kind != self._kind]
        gone = [record for record in held if record.text not in new_texts and record not in outside]
        origins = _pairs(gone, [record for record in given if record.text not in old])
        for record in given:
            origin = old.get(record.text) or origins.get(record.text)
            if origin is None:
                self.added += 1
                self.records.append(record)
            elif (origin.text, origin.kind) == (record.text, record.kind):
                self.kept += 1
                self.records.append(origin)
            else:
                self._edit(origin, record)
        self.records += [record for record in outside if record.text not in new_texts]
        edited = {record.text for record in origins.values()}
        for record in gone:
            if record.text not in edited:
                self.removed += 1
                self._reject(record, "removed")

    def _edit(self, origin: Description, record: Description) -> None:
        self.edited += 1
        if origin.text != record.text:
            self._reject(origin, "edited")
        # An earlier acceptance, and scores, were of the earlier text.
        source = replace(origin.provenance, edited_by=self._editor, accepted_by=None)
        self.records.append(replace(origin, text=record.text, kind=record.kind, scores=None, provenance=source))

    def _reject(self, record: Description, reason: str) -> None:
        self.rejected.append(Rejection(record.class_id, record.text, reason, record.provenance, None, self._editor))


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
