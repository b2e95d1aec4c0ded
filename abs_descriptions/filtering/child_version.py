"""Filter a bundle into a child version, which says what was removed and why.

filter_bundle(bundle, SentenceFilter(Criteria(keep=20)), FilterOutput(repository))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from abs_core.canonical import canonical_json
from abs_core.descriptions import Rejection
from abs_core.errors import UsageError
from abs_core.files import storage_errors
from abs_descriptions.bundles.format import Generator
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import (
    add_version,
    check_output,
    child_version,
    find_same_version,
    shipped_bundles,
    timestamp,
)
from abs_descriptions.bundles.writer import write_bundle
from abs_descriptions.filtering.bundle_filters import FilteredBundle, RemovedDescription

__all__ = ["FilterOutput", "FilterResult", "filter_bundle", "write_child"]


@dataclass(frozen=True)
class FilterResult:
    """What a filter decided, and where the child version is.

    Args:
        filtered: what stays and what goes.
        reference: the pinned reference of the child, or of the parent if nothing was removed; None after a dry run.
        is_new: whether the child was written now.
    """

    filtered: FilteredBundle
    reference: str | None
    is_new: bool


@dataclass(frozen=True)
class FilterOutput:
    """Where a child version goes.

    Args:
        repository: it gets a new version; if there is a ``file``, it only determines the version number.
        name: of the child; None: the parent's.
        file: the file to write; None: the repository.
    """

    repository: Repository
    name: str | None = None
    file: Path | None = None

    def check(self, parent: Bundle) -> None:
        """Find out before any work whether ``write`` could write.

        Raises:
            UsageError: an invalid name, or a file that is the parent itself.
            StorageError: the repository, or the folder of the file, cannot be written.
        """
        child_version(self.repository, self._name(parent), [parent.header])
        check_output(self.file or self.repository)
        if self.file is not None:
            with storage_errors(self.file, "write"):
                if self.file.exists() and self.file.samefile(parent.path):
                    raise UsageError(
                        f"the output must not be the bundle that is filtered, got {str(self.file)!r}",
                        remedy="Name another file",
                    )

    def settle(self, parent: Bundle, filtered: FilteredBundle) -> FilteredBundle:
        """Keep everything of a parent that is itself what a filter with the same criteria left, unchanged since then.

        Descriptions that were filtered are less alike than before, so the same criteria might remove more of them, and
        more again each time. A child with a name or file of its own is filtered as asked.
        """
        is_same_bundle = self.file is None and self.name in (None, parent.header.name)
        return _keep_own_result(parent, filtered) if is_same_bundle else filtered

    def write(self, parent: Bundle, filtered: FilteredBundle) -> FilterResult:
        """Write the child version, to the file or as a new version of the repository.

        A child that the repository has already, of the same parent and by the same criteria, is not written twice: what
        was lost of it is restored, and a warning says if it was yanked. Nor is a child written that would be the parent
        once more.

        Raises:
            BundleError, StorageError: as ``write_child``, or the repository cannot be written.
        """
        name = self._name(parent)
        version = child_version(self.repository, name, [parent.header])

        def write(path: Path, number: str, created: str) -> Bundle:
            return write_child(path, parent, filtered, name=name, version=number, created=created)

        if self.file is not None:
            return FilterResult(filtered, write(self.file, version, timestamp()).reference, True)
        if not filtered.removed and name == parent.header.name:
            return FilterResult(filtered, parent.reference, False)
        same = find_same_version(self.repository, name, len(filtered.kept), write)
        if same is not None:
            return FilterResult(filtered, str(same), False)
        versions = {manifest.version for manifest in self.repository.list(parent.header.name)}
        if parent.path in shipped_bundles().values() and parent.header.version not in versions:
            self.repository.add(parent.path)  # so that child and parent can be pushed together
        manifest = add_version(self.repository, lambda path: write(path, version, timestamp()))
        return FilterResult(filtered, str(manifest), True)

    def _name(self, parent: Bundle) -> str:
        return parent.header.name if self.name is None else self.name


def filter_bundle(
    bundle: Bundle, judge: Callable[[Bundle], FilteredBundle], output: FilterOutput, *, dry_run: bool = False
) -> FilterResult:
    """Write a child version of a bundle with the descriptions that a filter keeps.

    Args:
        bundle: the parent.
        judge: decides what stays: a ``SentenceFilter``, or a function that ends in ``filter_by_weight``.
        output: where the child goes.
        dry_run: only decide, write nothing.

    Raises:
        UsageError, StorageError: the child cannot be written there; found out before ``judge`` is called.
        BundleError: the bundle has no records, or is no longer the one that was validated; and what ``judge`` raises.
    """
    if not dry_run:
        output.check(bundle)
    filtered = output.settle(bundle, judge(bundle))
    return FilterResult(filtered, None, False) if dry_run else output.write(bundle, filtered)


def write_child(
    path: Path, parent: Bundle, filtered: FilteredBundle, *, name: str, version: str, created: str
) -> Bundle:
    """Write the child version of a bundle to ``path``, its rejected completions beside it.

    Label set, licence and completeness are the parent's; the parent's own rejected completions are kept.

    Raises:
        BundleError, StorageError: as ``write_bundle``, or the parent can no longer be read.
    """
    header = parent.header
    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=header.label_set,
        generators=[*header.generators, filtered.filter],
        license=header.license,
        records=filtered.kept,
        rejected=_rejections(parent, filtered.removed),
        parents=[parent.reference],
        complete=header.complete,
    )


def _rejections(parent: Bundle, removed: Sequence[RemovedDescription]) -> Iterator[Rejection]:
    if rejected_path(parent.path).exists():
        yield from iter_rejected(parent.path, parent.header)
    for removal in removed:
        record = removal.record
        yield Rejection(
            record.class_id,
            record.text,
            removal.reason.value,
            record.provenance,
            canonical_json(dict(removal.evidence)),
        )


def _keep_own_result(parent: Bundle, filtered: FilteredBundle) -> FilteredBundle:
    header = parent.header
    last = header.generators[-1] if header.generators else None
    # A review is a generator after the filter; a merge has several parents and may bring back what the filter removed.
    if last is None or len(header.parents) != 1 or _criteria(last) != _criteria(filtered.filter):
        return filtered
    kept = tuple(parent.records())
    keep = last.parameters.get("keep")
    if isinstance(keep, int) and max(Counter(record.class_id for record in kept).values(), default=0) > keep:
        return filtered
    return replace(filtered, kept=kept, removed=(), protected=0)


def _criteria(generator: Generator) -> tuple[str, str, dict[str, Any]]:
    """The settings of a filter, without the digest of the texts that it was applied to."""
    settings = {name: value for name, value in generator.parameters.items() if name != "texts_digest"}
    return generator.backend, generator.model, settings
