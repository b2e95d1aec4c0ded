"""One bundle out of several. Streams: memory holds one class at a time.

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
8. Different licenses are refused unless ``license`` is given.
9. Rejected completions that lie beside the sources are all kept, each once. The parents are the sources, pinned.
10. A text that a reviewer rejected or edited away in one source stays away, although another one has it. Where that one
    accepted or edited it, that is a conflict.
11. Sources with a common parent in the store are merged three ways (``reconcile``): what one of them changed counts.
12. The merged bundle is complete if all sources are and every class has a description.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from abs_core.descriptions import Description, Provenance, Rejection
from abs_core.errors import AbsError, BundleError, UsageError
from abs_core.labels import LabelSet
from abs_core.text import quoted
from abs_descriptions.bundles.diff import align_classes, diff_labels, show_note
from abs_descriptions.bundles.format import BundleHeader, Generator
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle, iter_rejected, read_bundle, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import add_version, child_version, find_bundle, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["add_merged", "merge_bundles", "reconcile"]

_logger = logging.getLogger(__name__)


def merge_bundles(
    path: Path,
    sources: Sequence[Path],
    *,
    name: str,
    version: str,
    created: str,
    label_set: LabelSet | None = None,
    license: str | None = None,
    on_conflict: Literal["refuse", "first"] = "refuse",
    base: Path | None = None,
) -> Bundle:
    """Write one bundle with the descriptions of several. How many are left out because of a reviewer is logged.

    The module's documentation states the rules by which conflicts are settled.

    Args:
        sources: at least one bundle file; each is validated first.
        base: the common parent of all of them, for a three-way merge; it has no class that the merged bundle lacks.

    Raises:
        BundleError: a source is broken, or one of the rules refuses.
        StorageError: a file cannot be read or written.
    """
    if not sources:
        raise BundleError("no bundles to merge are given", remedy="Name at least one bundle")
    bundles = [read_bundle(source) for source in sources]
    headers = [bundle.header for bundle in bundles]
    labels = _merged_labels(headers, label_set)
    generators, renamed = _merged_generators(headers)
    merging = _Merging(bundles, labels, renamed, base, first_wins=on_conflict == "first")
    covered = {record.class_id for record in merging.records()}
    if merging.dropped:
        _logger.warning(
            "%d descriptions left out: a reviewer rejected or edited them in one bundle, another one has them",
            merging.dropped,
        )
    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=labels,
        generators=generators,
        license=_merged_license(headers, license),
        records=merging.records(),
        rejected=_merged_rejected(bundles, renamed),
        parents=list(dict.fromkeys(bundle.reference for bundle in bundles)),
        complete=all(header.complete for header in headers) and covered == set(labels.ids),
    )


def add_merged(
    repository: Repository,
    bundles: Sequence[Bundle],
    *,
    name: str | None = None,
    version: str | None = None,
    label_set: LabelSet | None = None,
    license: str | None = None,
    on_conflict: Literal["refuse", "first"] = "refuse",
) -> Manifest:
    """Merge bundles and add the result as a new version, three ways if the store has a common parent of all.

    Args:
        repository: a local store.
        bundles: at least two.
        name: of the result; None: that of the first.
        version: of the result, as ``child_version`` takes it.
        label_set: has the classes of all; None: they must have one label set.
        license: None: they must have one license.
        on_conflict: see the module's documentation.

    Raises:
        UsageError: fewer than two bundles, one twice, or a version that cannot be.
        BundleError: a bundle that cannot be used, or one of the rules refuses. StorageError: the store is not written.
    """
    if len({bundle.digest for bundle in bundles}) != len(bundles) or len(bundles) < 2:
        raise UsageError("a merge needs at least two different bundles", remedy="Name each bundle once")
    chosen = bundles[0].header.name if name is None else name
    number = child_version(repository, chosen, [bundle.header for bundle in bundles], version)
    base = _common_parent(repository, bundles, label_set)
    if base is not None:
        _logger.info("three-way merge: %s is the common parent", base.reference)

    def write(path: Path) -> Bundle:
        return merge_bundles(
            path,
            [bundle.path for bundle in bundles],
            name=chosen,
            version=number,
            created=timestamp(),
            label_set=label_set,
            license=license,
            on_conflict=on_conflict,
            base=None if base is None else base.path,
        )

    return add_version(repository, write)


def _common_parent(repository: Repository, bundles: Sequence[Bundle], labels: LabelSet | None) -> Bundle | None:
    """The nearest bundle that all were made of, or are; None without one that the store still has."""
    ancestors = [_ancestors(repository, bundle) for bundle in bundles]
    common = set.intersection(*map(set, ancestors))
    known = {entry.id for bundle in bundles for entry in bundle.header.label_set.classes}
    if labels is not None:
        known = set(labels.ids)
    for reference in sorted(common, key=lambda parent: (sum(steps[parent] for steps in ancestors), parent)):
        try:
            base = find_bundle(repository, reference)
        except AbsError:
            continue
        if known.issuperset(base.header.label_set.ids):
            return base
    return None


def _ancestors(repository: Repository, bundle: Bundle) -> dict[str, int]:
    """The bundle, its parents, and theirs, as far as the store has them: pinned reference -> steps from the bundle."""
    steps = {bundle.reference: 0}
    waiting = [(parent, 1) for parent in bundle.header.parents]
    while waiting:
        reference, distance = waiting.pop(0)
        if reference in steps:
            continue
        steps[reference] = distance
        try:
            parents = find_bundle(repository, reference).header.parents
        except AbsError:
            continue
        waiting += [(parent, distance + 1) for parent in parents]
    return steps


def _merged_labels(headers: Sequence[BundleHeader], label_set: LabelSet | None) -> LabelSet:
    labels = headers[0].label_set if label_set is None else label_set
    if label_set is None and any(header.label_set.digest != labels.digest for header in headers):
        raise BundleError(
            "the bundles describe different label sets",
            remedy="Name the label set of the merged bundle; it must have all their classes",
        )
    if label_set is None:
        _refuse_other_notes(headers)
    names = labels.names
    for header in headers:
        for entry in header.label_set.classes:
            if names.get(entry.id) != entry.name:
                conflict = "is missing" if entry.id not in names else f"is called {quoted(names[entry.id])}"
                raise BundleError(
                    f"the class {quoted(entry.id)}, {quoted(entry.name)} in {header.name}@{header.version}, {conflict} "
                    f"in the label set {quoted(labels.name)}",
                    remedy="Merge bundles whose classes agree, or name a label set that has them all",
                )
    return labels


def _refuse_other_notes(headers: Sequence[BundleHeader]) -> None:
    first = headers[0]
    for header in headers[1:]:
        for class_id, first_note, note in diff_labels(first, header).noted:
            raise BundleError(
                f"the note of the class {quoted(class_id)} is {show_note(first_note)} in {first.name}@{first.version} "
                f"and {show_note(note)} in {header.name}@{header.version}",
                remedy="Name a label set whose notes hold (--labels)",
            )


def _merged_license(headers: Sequence[BundleHeader], license: str | None) -> str:
    if license is not None:
        return license
    licenses = list(dict.fromkeys(header.license for header in headers))
    if len(licenses) > 1:
        raise BundleError(
            f"the bundles have different licenses: {', '.join(map(quoted, licenses))}",
            remedy="Name the license of the merged bundle (--license)",
        )
    return licenses[0]


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


class _Merging:
    """The records of several bundles as one, in the order of the merged label set. Can be gone through again."""

    def __init__(
        self,
        bundles: Sequence[Bundle],
        labels: LabelSet,
        renamed: Sequence[Mapping[str, str]],
        base: Path | None,
        *,
        first_wins: bool,
    ) -> None:
        self.dropped = 0
        self._bundles = bundles
        self._order = labels.ids
        self._renamed = renamed
        self._base = base
        self._first_wins = first_wins
        self._refused = [_refused(bundle) for bundle in bundles]

    def records(self) -> Iterator[Description]:
        self.dropped = 0
        paths = [*([self._base] if self._base else []), *(bundle.path for bundle in self._bundles)]
        for class_id, groups in align_classes(paths, self._order):
            if self._base:
                items = reconcile(class_id, groups[0], groups[1:], first_wins=self._first_wins)
            else:
                items = ((source, record) for source, group in enumerate(groups) for record in group)
            yield from self._joined(class_id, items)

    def _joined(self, class_id: str, items: Iterable[tuple[int, Description]]) -> Iterator[Description]:
        texts: dict[str, str] = {}
        ids: set[str] = set()
        for source, record in items:
            conflict = _conflict(record, texts, ids)
            if conflict is not None and not self._first_wins:
                raise _conflict_error(class_id, conflict)
            if record.text in texts:
                continue
            if self._stays_away(source, record):
                self.dropped += 1
                continue
            kept = None if record.id in ids else record.id
            texts[record.text] = record.kind
            if kept is not None:
                ids.add(kept)
            yield replace(record, provenance=_renamed(record.provenance, self._renamed[source]), id=kept)

    def _stays_away(self, source: int, record: Description) -> bool:
        """Whether a reviewer of another bundle took the record away, and nobody of its own bundle wants it."""
        key = (record.class_id, record.text)
        refusing = [number for number, refused in enumerate(self._refused) if key in refused]
        if not refusing or source in refusing:
            return False
        if record.provenance.accepted_by is None and record.provenance.edited_by is None:
            return True
        if not self._first_wins:
            raise _conflict_error(
                record.class_id, f"{quoted(record.text)} is accepted or edited in one bundle and rejected in another"
            )
        return refusing[0] < source


def _refused(bundle: Bundle) -> set[tuple[str, str]]:
    """The class and text of what reviewers of a bundle rejected, and of what they edited."""
    if not rejected_path(bundle.path).exists():
        return set()
    return {
        (entry.class_id, entry.text)
        for entry in iter_rejected(bundle.path, bundle.header)
        if entry.rejected_by is not None
    }


def _conflict_error(class_id: str, conflict: str) -> BundleError:
    return BundleError(
        f"the class {quoted(class_id)} has a conflict: {conflict}",
        remedy="Change one of the bundles, or let the first one win (--on-conflict first)",
    )


def _conflict(record: Description, texts: Mapping[str, str], ids: set[str]) -> str | None:
    if record.text in texts:
        kind = texts[record.text]
        return None if kind == record.kind else f"{quoted(record.text)} is a {kind} and a {record.kind}"
    return f"two texts have the id {quoted(record.id)}" if record.id is not None and record.id in ids else None


def _merged_rejected(bundles: Sequence[Bundle], renamed: Sequence[Mapping[str, str]]) -> Iterator[Rejection]:
    seen: set[Rejection] = set()
    for bundle, mapping in zip(bundles, renamed, strict=True):
        if not rejected_path(bundle.path).exists():
            continue
        for rejection in iter_rejected(bundle.path, bundle.header):
            reviewer = rejection.rejected_by
            merged = replace(
                rejection,
                provenance=_renamed(rejection.provenance, mapping),
                rejected_by=None if reviewer is None else mapping[reviewer],
            )
            # Bundles with a common parent have its rejections too.
            if merged not in seen:
                seen.add(merged)
                yield merged


def _renamed(source: Provenance, mapping: Mapping[str, str]) -> Provenance:
    return replace(
        source,
        generator=mapping[source.generator],
        accepted_by=None if source.accepted_by is None else mapping[source.accepted_by],
        edited_by=None if source.edited_by is None else mapping[source.edited_by],
    )


_Origin = tuple[str, int, str | None, str | None]


@dataclass(frozen=True, slots=True)
class _Change:
    """What one bundle did to a record of the parent: the record that it has now, None where it has none."""

    source: int
    record: Description | None
    words: str


def reconcile(
    class_id: str, base: Sequence[Description], groups: Sequence[Sequence[Description]], *, first_wins: bool
) -> Iterator[tuple[int, Description]]:
    """The records of a class in the order of the bundles, each with the place of the bundle that it is taken from.

    Args:
        class_id: for messages.
        base: the parent's records of the class.
        groups: those of each bundle.
        first_wins: whether the bundle named first settles a conflict.

    Raises:
        BundleError: two bundles changed one record in different ways, and ``first_wins`` is false.
    """
    edits = [_edits(base, group) for group in groups]
    texts = [{record.text: record for record in group} for group in groups]
    settled: dict[str, tuple[int, Description] | None] = {}
    for record in base:
        changes = [
            change
            for source in range(len(groups))
            if (change := _change(source, record, texts[source], edits[source])) is not None
        ]
        if len({(change.words, change.record and change.record.text) for change in changes}) > 1 and not first_wins:
            done = " and ".join(f"{change.words} in bundle {change.source + 1}" for change in changes)
            raise BundleError(
                f"the class {quoted(class_id)} has a conflict: {quoted(record.text)} is {done}",
                remedy="Change one of the bundles, or let the first one win (--on-conflict first)",
            )
        settled[record.text] = _settled(record, changes, texts)
    written: set[str] = set()
    for source, group in enumerate(groups):
        origins = {edited.text: text for text, edited in edits[source].items()}
        for record in group:
            text = record.text if record.text in settled else origins.get(record.text)
            if text is None:
                yield source, record
                continue
            chosen = settled[text]
            if chosen is not None and text not in written:
                written.add(text)
                yield chosen


def _settled(
    record: Description, changes: Sequence[_Change], texts: Sequence[dict[str, Description]]
) -> tuple[int, Description] | None:
    if changes:
        change = changes[0]
        return None if change.record is None else (change.source, change.record)
    # All have it unchanged; one of them may have measured scores.
    return next(
        ((source, held[record.text]) for source, held in enumerate(texts) if held[record.text] != record), (0, record)
    )


def _change(
    source: int, record: Description, held: dict[str, Description], edits: dict[str, Description]
) -> _Change | None:
    now = held.get(record.text)
    if now is not None:
        accepted = now.provenance.accepted_by
        is_new = accepted is not None and accepted != record.provenance.accepted_by
        return _Change(source, now, "accepted") if is_new else None
    edited = edits.get(record.text)
    if edited is not None:
        return _Change(source, edited, f"edited to {quoted(edited.text, 40)}")
    return _Change(source, None, "taken away")


def _edits(base: Sequence[Description], group: Sequence[Description]) -> dict[str, Description]:
    """Text of the parent -> the edited record that a bundle has in its place; an edit keeps what generated the text."""
    count = Counter(map(_origin, base))
    by_origin = {_origin(record): record.text for record in base if count[_origin(record)] == 1}
    held = {record.text for record in group}
    known = {record.text for record in base}
    edits: dict[str, Description] = {}
    for record in group:
        text = by_origin.get(_origin(record))
        if (
            record.provenance.edited_by is not None
            and record.text not in known
            and text is not None
            and text not in held
        ):
            edits[text] = record
    return edits


def _origin(record: Description) -> _Origin:
    source = record.provenance
    return source.generator, source.sample, source.prompt, source.request
