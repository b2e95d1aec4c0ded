"""One bundle out of several. Streams: memory holds one class at a time, and what reviewers rejected.

The rules of merging, in order:

1. Classes are matched by id. An id that has another name somewhere is refused.
2. Bundles with different label sets, or different notes of a class, are refused unless ``label_set`` is given, which
   must have all their classes; its notes hold.
3. Bundles with a common parent are merged three ways: what one of them changed holds (``reconciliation``). It is the
   nearest common parent. Where histories cross and there are several, these are merged first, and what they disagree
   on is a conflict unless all sides say the same.
4. Within a class the descriptions of the first source come first, then what the next ones add. A text that is there
   already is dropped: the earlier record stays, with its provenance; who accepted it, scores and id come from both.
5. Conflicts: two different decisions on one sentence; a text that a reviewer of one bundle rejected and another bundle
   accepted, edited or added; a text that is a sentence here and a phrase there; a record id with two texts.
6. All conflicts are listed. They are decided by hand in a file, the rest by a rule (``conflicts``), or the merge is
   refused. What loses goes to the rejected completions.
7. A text that a reviewer rejected or edited away in one bundle, and on which nobody of another decided, stays away.
8. Equal generators become one. A generator id with another meaning gets "-2", "-3" and so on appended.
9. Different licenses are refused unless ``license`` is given.
10. Rejected completions that lie beside the sources are all kept, each once. The parents are the sources, pinned.
11. The merged bundle is complete if all sources are and every class has a description.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, zip_longest
from pathlib import Path

from abs_core.descriptions import Description, Provenance, Rejection
from abs_core.errors import BundleError, UsageError
from abs_core.files import atomic_write, ensure_writable, exists, sha256_file
from abs_core.labels import LabelSet
from abs_core.text import counted, printable, quoted
from abs_core.text_files import ExternalFormatError, read_external_text
from abs_descriptions.bundles.ancestry import Ancestry, read_ancestry
from abs_descriptions.bundles.conflicts import (
    Conflict,
    ConflictRule,
    MergeConflictError,
    MergeSide,
    Resolution,
    Resolver,
    parse_conflicts,
    rule_for,
    serialize_conflicts,
)
from abs_descriptions.bundles.diff import align_classes
from abs_descriptions.bundles.format import Generator
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.merged_header import merged_generators, merged_labels, merged_license
from abs_descriptions.bundles.reader import Bundle, iter_rejected, read_bundle, read_header, rejected_path
from abs_descriptions.bundles.reconciliation import ClassSide, ReconciledClass, reconcile
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.reviewers import reviewer_generator
from abs_descriptions.bundles.versions import add_version, child_version, find_bundle, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["REFUSE_CONFLICTS", "MergeSource", "Settling", "add_merged", "merge_bundles", "merge_onto"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MergeSource:
    """A bundle that is merged.

    Args:
        bundle: validated.
        title: what users call it; None: its name and version.
        key: what it is known by in a file of conflicts; None: its digest.
    """

    bundle: Bundle
    title: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Settling:
    """How conflicts are decided: by hand in a file, the rest by a rule.

    Args:
        rule: see ``conflicts.rule_for``.
        file: decisions are read from it; if it does not exist, undecided conflicts are written to it.
        decided_by: who filled in the file; it is needed once there is one.
    """

    rule: ConflictRule = "refuse"
    file: Path | None = None
    decided_by: str | None = None


#: Every conflict stops the merge.
REFUSE_CONFLICTS = Settling()


@dataclass(frozen=True)
class _CommonParent:
    """The file of the common parent, and class and text of what its own parents did not agree on."""

    path: Path
    contested: frozenset[tuple[str, str]] = frozenset()


def merge_bundles(
    path: Path,
    sources: Sequence[Path],
    *,
    name: str,
    version: str,
    created: str,
    label_set: LabelSet | None = None,
    license: str | None = None,
    settling: Settling = REFUSE_CONFLICTS,
    base: Path | None = None,
) -> Bundle:
    """Write one bundle with the descriptions of several. How many are left out because of a reviewer is logged.

    The module's documentation states the rules.

    Args:
        sources: at least one bundle file; each is validated first.
        settling: how conflicts are decided.
        base: the common parent of all of them, for a three-way merge.

    Raises:
        MergeConflictError: conflicts that are left; nothing is written but, perhaps, the file of conflicts.
        BundleError: a source is broken, or one of the rules refuses.
        StorageError: a file cannot be read or written.
    """
    if not sources:
        raise BundleError("no bundles to merge are given", remedy="Name at least one bundle")
    merging = _Merging(
        [MergeSource(read_bundle(source)) for source in sources],
        None if base is None else _CommonParent(base),
        label_set,
        license,
        settling,
    )
    return merging.write(path, name=name, version=version, created=created)


def add_merged(
    repository: Repository,
    bundles: Sequence[Bundle],
    *,
    name: str | None = None,
    label_set: LabelSet | None = None,
    license: str | None = None,
    settling: Settling = REFUSE_CONFLICTS,
    two_way: bool = False,
    version: str | None = None,
) -> Manifest:
    """Merge bundles and add the result as a new version, three ways by their nearest common parent.

    A bundle that another one of them was made of adds nothing. If one was made of all the others, there is no new
    version unless ``name`` is another.

    Args:
        repository: a local store.
        bundles: at least two.
        name: of the result; None: that of the first.
        label_set: has the classes of all; None: they must have one label set.
        license: None: they must have one license.
        settling: how conflicts are decided.
        version: of the result, as ``child_version`` takes it.
        two_way: without the common parent: a sentence that only one of them lacks comes back, unless a reviewer
            rejected it.

    Raises:
        UsageError: fewer than two bundles, one twice, or three whose histories need two merges.
        MergeConflictError: conflicts that are left.
        BundleError: a bundle that cannot be used, a common parent that is not in the store, or a rule that refuses.
        StorageError: the store is not written.
    """
    if len({bundle.digest for bundle in bundles}) != len(bundles) or len(bundles) < 2:
        raise UsageError("a merge needs at least two different bundles", remedy="Name each bundle once")
    chosen = bundles[0].header.name if name is None else name
    ancestry = read_ancestry(repository, bundles)
    newest = ancestry.newest([bundle.reference for bundle in bundles])
    heads = bundles if two_way else [bundle for bundle in bundles if bundle.reference in newest]
    if len(heads) == 1:
        _logger.info("%s was made of %s", heads[0].reference, _titles(b for b in bundles if b is not heads[0]))
        if chosen == heads[0].header.name and label_set is None and license is None:
            return Manifest.of(heads[0].header, heads[0].digest, heads[0].path.stat().st_size)
    with _workspace(repository) as folder:
        base = None if two_way or len(heads) == 1 else _common_parent(repository, ancestry, heads, label_set, folder)
        merging = _Merging([MergeSource(bundle) for bundle in heads], base, label_set, license, settling)
        following = child_version(repository, chosen, [bundle.header for bundle in bundles], version)
        return _add(repository, merging, chosen, following, [bundle.reference for bundle in bundles])


def merge_onto(
    repository: Repository,
    parent: Bundle,
    target: Bundle,
    changes: Sequence[tuple[str, str, Callable[[Path], Bundle]]],
    *,
    name: str,
    version: str,
    settling: Settling = REFUSE_CONFLICTS,
) -> Manifest | None:
    """Carry out changes of ``parent`` in a child of ``target``, which is the parent or was made of it.

    Args:
        repository: a local store.
        parent: that the changes were made to.
        target: what the child is of.
        changes: for each a title, a digest, and what writes the child of ``parent`` with that change alone.
        name: of the child.
        version: of the child.
        settling: how conflicts among the changes, and with the target, are decided.

    Returns:
        None if the target has all changes already.

    Raises:
        MergeConflictError: conflicts that are left.
        BundleError, StorageError: as ``merge_bundles``.
    """
    with _workspace(repository) as folder:
        sources = [] if target.reference == parent.reference else [MergeSource(target)]
        for number, (title, key, write_child) in enumerate(changes):
            sources.append(MergeSource(write_child(folder / f"change-{number}.jsonl"), title, key))
        merging = _Merging(
            sources, _CommonParent(parent.path), target.header.label_set, target.header.license, settling
        )
        if merging.adds_nothing_to(target):
            return None
        return _add(repository, merging, name, version, [target.reference])


@contextmanager
def _workspace(repository: Repository) -> Iterator[Path]:
    """An empty folder on the disk of the store, for as long as it is needed."""
    if repository.root is not None:
        ensure_writable(repository.root)
    with tempfile.TemporaryDirectory(dir=repository.root, prefix=".bundle-") as folder:
        yield Path(folder)


def _add(repository: Repository, merging: _Merging, name: str, version: str, parents: Sequence[str]) -> Manifest:
    def write(path: Path) -> Bundle:
        return merging.write(path, name=name, version=version, created=timestamp(), parents=parents)

    return add_version(repository, write)


def _titles(bundles: Iterable[Bundle]) -> str:
    return ", ".join(f"{bundle.header.name}@{bundle.header.version}" for bundle in bundles)


def _common_parent(
    repository: Repository, ancestry: Ancestry, bundles: Sequence[Bundle], labels: LabelSet | None, folder: Path
) -> _CommonParent | None:
    """What a three-way merge starts from; None for bundles that have nothing to do with each other.

    Raises:
        UsageError: more than two bundles, of which two have a nearer common parent than all.
        BundleError: a common parent that is not in the store, or may not be.
    """
    references = [bundle.reference for bundle in bundles]
    nearest = ancestry.nearest_common(references)
    for pair in combinations(bundles, 2):
        if ancestry.nearest_common([bundle.reference for bundle in pair]) != nearest:
            first, second = (f"{bundle.header.name}@{bundle.header.version}" for bundle in pair)
            raise UsageError(
                f"{first} and {second} have another common parent than all {len(bundles)} bundles",
                remedy=f"Merge these two first: `abs bundle merge {first} {second}`",
            )
    missing = [reference for reference in nearest if reference in ancestry.missing]
    unknown = [] if nearest else _unknown_parents(ancestry, references)
    if missing or unknown:
        names = ", ".join(missing or unknown)
        problem = "is not in the store" if missing else "may be a parent of what is not in the store"
        raise BundleError(
            f"the common parent of {_titles(bundles)} {problem}: {names}",
            remedy=f"Fetch it with `abs bundle pull {bundles[0].header.name}@{bundles[0].header.version} LOCATION "
            "--with-parents`, or merge without it with --two-way, which brings back what only one of them removed",
        )
    if not nearest:
        return None
    parents = [find_bundle(repository, reference) for reference in nearest]
    if len(parents) == 1:
        _logger.info("three-way merge: %s is the common parent", parents[0].reference)
        return _CommonParent(parents[0].path)
    _logger.info("three-way merge: the histories cross, the common parents are %s", ", ".join(nearest))
    return _crossed_parent(repository, ancestry, parents, labels, folder)


def _unknown_parents(ancestry: Ancestry, references: Sequence[str]) -> list[str]:
    """Versions that are not here and through which bundles of one name may be related."""
    histories = [ancestry.ancestors(reference) for reference in references]
    names = [{reference.partition("@")[0] for reference in history} for history in histories]
    if not set.intersection(*names):
        return []
    return sorted(reference for history in histories for reference in history & ancestry.missing)


def _crossed_parent(
    repository: Repository, ancestry: Ancestry, parents: Sequence[Bundle], labels: LabelSet | None, folder: Path
) -> _CommonParent:
    """Several nearest common parents as one: merged, with what they do not agree on kept in and marked."""
    contested: set[tuple[str, str]] = set()

    def keep(conflict: Conflict) -> Resolution:
        stance = next(stance for stance in conflict.stances if stance.record is not None)
        contested.add((conflict.class_id, stance.record.text if stance.record is not None else conflict.text))
        return Resolution(stance.source, by_rule=True)

    inner = folder / "common"
    base = _common_parent(repository, ancestry, parents, labels, inner)
    sources = [MergeSource(parent) for parent in parents]
    merging = _Merging(sources, base, labels, parents[0].header.license, REFUSE_CONFLICTS, resolve=keep)
    path = inner / "common.jsonl"
    merging.write(path, name="common", version="0.0.0", created=timestamp(), parents=[])
    return _CommonParent(path, frozenset(contested))


class _Merging:
    """Several bundles as one, in the order of the merged label set. Can be gone through again."""

    def __init__(
        self,
        sources: Sequence[MergeSource],
        base: _CommonParent | None,
        label_set: LabelSet | None,
        license: str | None,
        settling: Settling,
        resolve: Resolver | None = None,
    ) -> None:
        bundles = [source.bundle for source in sources]
        headers = [bundle.header for bundle in bundles]
        self._bundles = bundles
        self._labels = merged_labels(headers, label_set)
        self._license = merged_license(headers, license)
        merged = merged_generators(headers)
        self._generators = list(merged.generators)
        names = {generator.id: generator.model for generator in self._generators if generator.backend == "review"}
        self._reviewers = frozenset(names)
        self._sides = [_side(source, names) for source in sources]
        self._settling = settling
        self._by_hand = {} if resolve is not None else self._read_decisions()
        self._decider = self._add_decider() if self._by_hand else None
        self._resolve = resolve or self._settle
        self._is_virtual = resolve is not None
        self._is_logged = False
        self._base = base
        self._renamed = merged.renamed
        self._refused = [_refused(*pair) for pair in zip(bundles, merged.renamed, strict=True)]
        self._base_side: tuple[Mapping[str, str], Mapping[str, list[Rejection]]] = ({}, {})
        if base is not None:
            parent = Bundle(base.path, read_header(base.path), "")
            mapping = merged.mapping_of(parent.header)
            self._base_side = (mapping, _refused(parent, mapping))
        self._lost: list[Rejection] = []

    def write(
        self, path: Path, *, name: str, version: str, created: str, parents: Sequence[str] | None = None
    ) -> Bundle:
        """Write the merged bundle; errors as ``merge_bundles``."""
        covered = self._check()
        headers = [bundle.header for bundle in self._bundles]
        pinned = [bundle.reference for bundle in self._bundles] if parents is None else parents
        return write_bundle(
            path,
            name=name,
            version=version,
            created=created,
            label_set=self._labels,
            generators=self._generators,
            license=self._license,
            records=self._records(),
            rejected=self._rejected(),
            parents=list(dict.fromkeys(pinned)),
            complete=all(header.complete for header in headers) and covered == set(self._labels.ids),
        )

    def adds_nothing_to(self, target: Bundle) -> bool:
        """Whether the records of the merged bundle are those of one of its sources, the first."""
        self._check()
        merged = (record for merged in self._classes() for record in merged.records)
        return all(one == other for one, other in zip_longest(merged, target.records()))

    def _check(self) -> set[str]:
        """Go through everything once; the classes that have records.

        Raises:
            MergeConflictError: conflicts that are left; those of a new file of conflicts are written to it.
        """
        covered: set[str] = set()
        conflicts: list[Conflict] = []
        left_out = agreed = 0
        self._met: set[str] = set()
        for merged in self._classes():
            conflicts += merged.conflicts
            left_out += merged.left_out
            agreed += merged.agreed
            covered.update(record.class_id for record in merged.records)
        unknown = [row for row in self._by_hand if row not in self._met]
        if unknown and self._settling.file is not None:
            raise _bad_file(
                self._settling.file, ExternalFormatError(f"the row {quoted(unknown[0])} is no conflict here")
            )
        if conflicts:
            raise self._conflict_error(conflicts)
        if self._is_virtual or self._is_logged:
            return covered
        self._is_logged = True
        if left_out:
            _logger.warning(
                "%s left out: a reviewer rejected or edited them in one bundle, another one has them",
                counted(left_out, "description", "descriptions"),
            )
        if agreed:
            _logger.info("%s decided on in the same way", counted(agreed, "sentence was", "sentences were"))
        return covered

    def _classes(self) -> Iterator[ReconciledClass]:
        self._lost = []
        base = self._base
        paths = [*([base.path] if base else []), *(bundle.path for bundle in self._bundles)]
        contested: dict[str, set[str]] = {}
        for class_id, text in base.contested if base else ():
            contested.setdefault(class_id, set()).add(text)
        # A class of the common parent that the merged label set lacks has no record elsewhere.
        order = list(dict.fromkeys([*self._labels.ids, *(read_header(base.path).label_set.ids if base else ())]))
        known = set(self._labels.ids)
        mapping, base_refused = self._base_side
        for class_id, groups in align_classes(paths, order):
            if class_id not in known:
                continue
            before = _renamed_records(groups[0], mapping) if base else []
            sides = [
                ClassSide(_renamed_records(group, renamed), refused.get(class_id, []))
                for group, renamed, refused in zip(
                    groups[1:] if base else groups, self._renamed, self._refused, strict=True
                )
            ]
            merged = reconcile(
                class_id,
                ClassSide(before, base_refused.get(class_id, [])),
                sides,
                self._resolve,
                reviewers=self._reviewers,
                contested=contested.get(class_id, set()),
                decider=None if self._decider is None else self._decider.id,
            )
            self._lost += merged.rejected
            yield merged

    def _records(self) -> Iterator[Description]:
        for merged in self._classes():
            yield from merged.records

    def _rejected(self) -> Iterator[Rejection]:
        # Bundles with a common parent have its rejections too.
        seen: set[Rejection] = set()
        for bundle, mapping in zip(self._bundles, self._renamed, strict=True):
            if not rejected_path(bundle.path).exists():
                continue
            for rejection in iter_rejected(bundle.path, bundle.header):
                merged = _renamed_rejection(rejection, mapping)
                if merged not in seen:
                    seen.add(merged)
                    yield merged
        yield from (rejection for rejection in self._lost if rejection not in seen)

    def _settle(self, conflict: Conflict) -> Resolution | None:
        self._met.add(conflict.row)
        return self._by_hand.get(conflict.row) or rule_for(self._settling.rule, self._sides)(conflict)

    def _read_decisions(self) -> dict[str, Resolution]:
        file = self._settling.file
        if file is None or not exists(file):
            return {}
        try:
            return parse_conflicts(read_external_text(file), self._sides)
        except ExternalFormatError as error:
            raise _bad_file(file, error) from None

    def _add_decider(self) -> Generator:
        if self._settling.decided_by is None or self._settling.file is None:
            raise UsageError("a file of conflicts needs who decided them", remedy="Give --decided-by NAME")
        own = sum(resolution.source is None for resolution in self._by_hand.values())
        decider = reviewer_generator(
            self._settling.decided_by,
            [generator.id for generator in self._generators],
            {"conflicts": len(self._by_hand), "own": own, "sheet_digest": sha256_file(self._settling.file)},
        )
        self._generators.append(decider)
        return decider

    def _conflict_error(self, conflicts: Sequence[Conflict]) -> MergeConflictError:
        file = self._settling.file
        if file is None:
            return MergeConflictError(conflicts, self._sides)
        if exists(file):
            remedy = f"Fill in the column decision of {str(file)!r} for them, or decide the rest by --on-conflict"
            return MergeConflictError(conflicts, self._sides, remedy)
        with atomic_write(file) as stream:
            for block in serialize_conflicts(conflicts, self._sides, self._labels.names):
                stream.write(block)
        remedy = f"Fill in the column decision of {str(file)!r}, and give the same command again"
        return MergeConflictError(conflicts, self._sides, remedy)


def _side(source: MergeSource, reviewers: Mapping[str, str]) -> MergeSide:
    header = source.bundle.header
    title = f"{header.name}@{header.version}" if source.title is None else source.title
    return MergeSide(title, source.key or source.bundle.digest, header.created, reviewers)


def _bad_file(file: Path, error: ExternalFormatError) -> BundleError:
    line = "" if error.line is None else f", line {error.line}"
    return BundleError(
        f"{printable(str(file))}{line}: {error.message}",
        remedy="Correct the file, or name one that does not exist to have the conflicts written anew",
    )


def _refused(bundle: Bundle, mapping: Mapping[str, str]) -> dict[str, list[Rejection]]:
    """By class what reviewers of a bundle rejected, and what they edited."""
    refused: dict[str, list[Rejection]] = {}
    if not rejected_path(bundle.path).exists():
        if bundle.header.counts.rejected:
            _logger.warning(
                "%s: the rejected completions are not here, so what its reviewers rejected is unknown",
                f"{bundle.header.name}@{bundle.header.version}",
            )
        return refused
    for entry in iter_rejected(bundle.path, bundle.header):
        if entry.rejected_by is not None:
            refused.setdefault(entry.class_id, []).append(_renamed_rejection(entry, mapping))
    return refused


def _renamed_records(records: Sequence[Description], mapping: Mapping[str, str]) -> Sequence[Description]:
    if all(old == new for old, new in mapping.items()):
        return records
    return [replace(record, provenance=_renamed(record.provenance, mapping)) for record in records]


def _renamed_rejection(rejection: Rejection, mapping: Mapping[str, str]) -> Rejection:
    reviewer = rejection.rejected_by
    return replace(
        rejection,
        provenance=_renamed(rejection.provenance, mapping),
        rejected_by=None if reviewer is None else mapping[reviewer],
    )


def _renamed(source: Provenance, mapping: Mapping[str, str]) -> Provenance:
    return replace(
        source,
        generator=mapping[source.generator],
        accepted_by=None if source.accepted_by is None else mapping[source.accepted_by],
        edited_by=None if source.edited_by is None else mapping[source.edited_by],
    )
