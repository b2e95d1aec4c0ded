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
9. Rejected completions that lie beside the sources are all kept. The parents are the sources, pinned.
10. The merged bundle is complete if all sources are and every class is in one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from abs_core.descriptions import Description, Provenance, Rejection
from abs_core.errors import BundleError, UsageError
from abs_core.labels import LabelSet
from abs_core.text import quoted
from abs_descriptions.bundles.diff import align_classes, diff_labels, show_note
from abs_descriptions.bundles.format import BundleHeader, Generator
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle, iter_rejected, read_bundle, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import add_version, child_version, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["add_merged", "count_readmitted", "merge_bundles"]

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
        raise BundleError("no bundles to merge are given", remedy="Name at least one bundle")
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
        license=_merged_license(headers, license),
        records=_merged_records(sources, labels.ids, renamed, on_conflict == "first"),
        rejected=_merged_rejected(bundles, renamed),
        parents=list(dict.fromkeys(bundle.reference for bundle in bundles)),
        complete=all(header.complete for header in headers) and all(entry.id in covered for entry in labels.classes),
    )


def add_merged(
    repository: Repository,
    bundles: Sequence[Bundle],
    *,
    name: str | None = None,
    label_set: LabelSet | None = None,
    license: str | None = None,
    on_conflict: Literal["refuse", "first"] = "refuse",
) -> Manifest:
    """Merge bundles and add the result as a new version. A warning says how many texts a review had rejected.

    Args:
        repository: a local store.
        bundles: at least two.
        name: of the result; None: that of the first.
        label_set: has the classes of all; None: they must have one label set.
        license: None: they must have one license.
        on_conflict: see the module's documentation.

    Raises:
        UsageError: fewer than two bundles, or one twice.
        BundleError: a bundle that cannot be used, or one of the rules refuses. StorageError: the store is not written.
    """
    if len({bundle.digest for bundle in bundles}) != len(bundles) or len(bundles) < 2:
        raise UsageError("a merge needs at least two different bundles", remedy="Name each bundle once")
    chosen = bundles[0].header.name if name is None else name
    version = child_version(repository, chosen, [bundle.header for bundle in bundles])

    def write(path: Path) -> Bundle:
        return merge_bundles(
            path,
            [bundle.path for bundle in bundles],
            name=chosen,
            version=version,
            created=timestamp(),
            label_set=label_set,
            license=license,
            on_conflict=on_conflict,
        )

    manifest = add_version(repository, write)
    readmitted = count_readmitted(repository.read(manifest))
    if readmitted:
        _logger.warning("%d descriptions were rejected by a reviewer in one bundle and are in another one", readmitted)
    return manifest


def count_readmitted(merged: Bundle) -> int:
    """How many descriptions of a merged bundle a reviewer rejected in one of its sources, and another one has.

    Raises:
        StorageError, BundleError: a file cannot be read or is broken.
    """
    if not rejected_path(merged.path).exists():
        return 0
    rejections = iter_rejected(merged.path, merged.header)
    refused = {(entry.class_id, entry.text) for entry in rejections if entry.rejected_by is not None}
    return sum((record.class_id, record.text) in refused for record in merged.records())


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


def _merged_records(
    sources: Sequence[Path], order: Sequence[str], renamed: Sequence[Mapping[str, str]], first_wins: bool
) -> Iterator[Description]:
    for class_id, groups in align_classes(sources, order):
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
        kind = texts[record.text]
        return None if kind == record.kind else f"{quoted(record.text)} is a {kind} and a {record.kind}"
    return f"two texts have the id {quoted(record.id)}" if record.id is not None and record.id in ids else None


def _merged_rejected(bundles: Sequence[Bundle], renamed: Sequence[Mapping[str, str]]) -> Iterator[Rejection]:
    for bundle, mapping in zip(bundles, renamed, strict=True):
        if not rejected_path(bundle.path).exists():
            continue
        for rejection in iter_rejected(bundle.path, bundle.header):
            reviewer = rejection.rejected_by
            yield replace(
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
