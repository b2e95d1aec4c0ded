"""Which versions bundles were made of, as far as the store has them, and which of them they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from abs_core.errors import AbsError, BundleError, StorageError
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle, read_bundle, read_summary
from abs_descriptions.bundles.references import parse_reference
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import shipped_bundles

__all__ = ["Ancestry", "read_ancestry", "unmerged_descendants"]


@dataclass(frozen=True)
class Ancestry:
    """A graph of pinned references.

    Args:
        parents: reference -> those of its parents; None for a version that is not here.
    """

    parents: Mapping[str, Sequence[str] | None]

    @cached_property
    def missing(self) -> frozenset[str]:
        """The versions that something was made of and that are not here."""
        return frozenset(reference for reference, parents in self.parents.items() if parents is None)

    def ancestors(self, reference: str) -> frozenset[str]:
        """A version and all that it was made of."""
        known: set[str] = set()
        waiting = [reference]
        while waiting:
            current = waiting.pop()
            if current not in known:
                known.add(current)
                waiting += self.parents.get(current) or ()
        return frozenset(known)

    def nearest_common(self, references: Iterable[str]) -> list[str]:
        """The common ancestors that are no ancestors of another one: none, one, or several where histories cross."""
        common = frozenset.intersection(*(self.ancestors(reference) for reference in references))
        older = {ancestor for reference in common for ancestor in self.ancestors(reference) if ancestor != reference}
        return sorted(common - older)

    def newest(self, references: Sequence[str]) -> list[str]:
        """Those of several versions that no other one of them was made of, in their order."""
        return [
            reference
            for reference in references
            if not any(other != reference and reference in self.ancestors(other) for other in references)
        ]


def read_ancestry(repository: Repository, bundles: Iterable[Bundle]) -> Ancestry:
    """What bundles were made of, and what that was made of, by the headers in a local store.

    A version that the store lacks, has with another digest or cannot read is one that is not here.
    """
    parents: dict[str, Sequence[str] | None] = {bundle.reference: bundle.header.parents for bundle in bundles}
    waiting = [parent for known in parents.values() for parent in known or ()]
    while waiting:
        reference = waiting.pop()
        if reference not in parents:
            parents[reference] = _parents_of(repository, reference)
            waiting += parents[reference] or ()
    return Ancestry(parents)


def _parents_of(repository: Repository, reference: str) -> Sequence[str] | None:
    try:
        return read_summary(repository.path(reference)).parents
    except AbsError:
        shipped = shipped_bundles().get(parse_reference(reference).name)
    if shipped is None:
        return None
    bundle = read_bundle(shipped)
    return bundle.header.parents if bundle.reference == reference else None


def unmerged_descendants(repository: Repository, bundle: Bundle) -> list[Manifest]:
    """The newest versions of a bundle's name that were made of it, without yanked ones, in semantic order.

    One if all reviews of it were made one after the other or were merged, several where they were not.
    """
    parents: dict[str, Sequence[str] | None] = {}
    usable: dict[str, Manifest] = {}
    for version in repository.versions(bundle.header.name):
        with suppress(BundleError, StorageError):  # one that cannot be read has no changes to lose
            manifest = repository.resolve(f"{bundle.header.name}@{version}")
            parents[str(manifest)] = read_summary(repository.path(manifest)).parents
            if repository.yank_of(manifest) is None:
                usable[str(manifest)] = manifest
    ancestry = Ancestry(parents)
    made_of_it = [
        reference
        for reference in usable
        if reference != bundle.reference and bundle.reference in ancestry.ancestors(reference)
    ]
    return [usable[reference] for reference in ancestry.newest(made_of_it)]
