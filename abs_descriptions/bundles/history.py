"""What became of a bundle: its versions, what each was made of, by whom, and what changed.

    read_history(store, "birds")       the versions that birds was made of, newest first
    history.changes(entry)             what one of them changed; reads the bytes of the two versions
    list_versions(store)               what a store and the toolkit have, with what a bare name means
    find_forks(store, place, pushed)   versions in a place that lack what was pushed, and that it lacks

A version is shown by the first line of its file, without its classes; only ``changes`` reads the descriptions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from abs_core.errors import AbsError, BundleError, UnknownNameError
from abs_core.files import sha256_file
from abs_descriptions.bundles.diff import (
    BundleBlocks,
    ChangeCounts,
    LabelChange,
    count_changes,
    diff_labels,
    label_value,
)
from abs_descriptions.bundles.format import Generator, HeaderSummary
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import read_header, read_summary
from abs_descriptions.bundles.references import Version, parse_reference, parse_version
from abs_descriptions.bundles.repository import CatalogueEntry, Repository
from abs_descriptions.bundles.versions import find_bundle, shipped_bundles

__all__ = [
    "History",
    "HistoryEntry",
    "ListedVersion",
    "ParentChange",
    "VersionListing",
    "find_forks",
    "has_version",
    "list_versions",
    "read_history",
]

Origin = Literal["store", "shipped", "file", "place"]

# Versions of a name in a place that are looked at after a push, the highest first, and ancestors of each.
_MAX_FORKS, _MAX_ANCESTORS = 20, 1000


@dataclass(frozen=True)
class HistoryEntry:
    """A version in a history.

    Args:
        reference: pinned.
        summary: its header.
        origin: where it is: in the local store, shipped with the toolkit, or the file that was named.
        path: of its bytes.
        found: of its parents, those that are here too.
        authors: the generators that none of these parents has.
        yanked: the reason, if it is.
        is_meant: whether its name alone means it.
    """

    reference: str
    summary: HeaderSummary
    origin: Origin
    path: Path
    found: frozenset[str]
    authors: Sequence[Generator]
    yanked: str | None
    is_meant: bool

    def to_dict(self, changes: Sequence[ParentChange]) -> dict[str, Any]:
        """The version as JSON values, texts as they are."""
        summary = self.summary
        return {
            "reference": self.reference,
            "name": summary.name,
            "version": summary.version,
            "created": summary.created,
            "origin": self.origin,
            "latest": self.is_meant,
            "yanked": self.yanked,
            "complete": summary.complete,
            "classes": summary.counts.classes,
            "descriptions": summary.counts.records,
            "rejected": summary.counts.rejected,
            "authors": [{"backend": author.backend, "model": author.model, "id": author.id} for author in self.authors],
            "parents": [change.to_dict() for change in changes],
        }


@dataclass(frozen=True)
class ParentChange:
    """What changed against a parent.

    Args:
        parent: its pinned reference.
        counts: how much differs; None if that is not known: the parent is not here, or for ``problem``.
        labels: how the label sets differ, if they do.
        found: whether the parent is here.
        problem: why the two cannot be compared.
    """

    parent: str
    counts: ChangeCounts | None
    labels: LabelChange | None
    found: bool
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON values."""
        return {
            "reference": self.parent,
            "found": self.found,
            "changes": None if self.counts is None else self.counts.to_dict(),
            **({} if self.labels is None else label_value(self.labels)),
            **({} if self.problem is None else {"problem": self.problem}),
        }


class History:
    """The versions that a bundle was made of.

    Args:
        entries: the newest first, each before its parents, up to the limit.
        total: the number of entries without a limit.
        others: versions of the same name that are none of these.
        problems: what is here and cannot be read.
    """

    def __init__(
        self, entries: Sequence[HistoryEntry], total: int, others: Sequence[str], graph: _VersionGraph
    ) -> None:
        self.entries = entries
        self.total = total
        self.others = others
        self.problems = list(graph.problems.values())
        self._graph = graph
        self._blocks = lru_cache(64)(_checked_blocks)

    def changes(self, entry: HistoryEntry) -> list[ParentChange]:
        """What a version changed against each of its parents. Reads all of them, each once for its children in turn.

        Raises:
            StorageError: a file cannot be read.
        """
        return [self._change(entry, parent) for parent in entry.summary.parents]

    def _change(self, entry: HistoryEntry, parent: str) -> ParentChange:
        node = self._graph.find(parent)
        if node is None:
            problem = self._graph.problems.get(parent)
            return ParentChange(parent, None, None, found=False, problem=None if problem is None else problem.message)
        try:
            old, new = self._blocks(node.path, node.reference), self._blocks(entry.path, entry.reference)
            counts = count_changes(old, new)
            labels = None
            if old.summary.label_set.digest != new.summary.label_set.digest:
                labels = diff_labels(read_header(node.path), read_header(entry.path))
        except BundleError as error:
            return ParentChange(parent, None, None, found=True, problem=error.message)
        return ParentChange(parent, counts, labels, found=True)


def _checked_blocks(path: Path, reference: str) -> BundleBlocks:
    blocks = BundleBlocks(path)
    if blocks.digest != parse_reference(reference).digest:
        raise BundleError(f"the bytes of {reference.partition('#')[0]} are damaged", remedy="Pull it again")
    return blocks


def read_history(repository: Repository, reference: str, *, every: bool = False, limit: int | None = None) -> History:
    """The versions that a bundle was made of, directly or not, as far as they are here, and the bundle itself.

    Args:
        repository: a local store; bundles that ship with the toolkit are found too.
        reference: as ``find_bundle`` takes it.
        every: whether all versions of the bundle's name are wanted, with what they were made of.
        limit: the number of entries; None: all.

    Raises:
        as ``find_bundle``; StorageError, BundleError: the store cannot be read, or the yank of a version.
    """
    bundle = find_bundle(repository, reference)
    graph = _VersionGraph(repository)
    head = graph.of_file(bundle.reference, bundle.path)
    tips = [head, *(graph.named(bundle.header.name) if every else [])]
    nodes = graph.ancestors(tips)
    ordered = _newest_first(nodes)
    shown = ordered if limit is None else ordered[:limit]
    others = [node.reference for node in graph.named(bundle.header.name) if node.reference not in nodes]
    return History([graph.entry(node) for node in shown], len(ordered), others, graph)


@dataclass(frozen=True)
class _Node:
    reference: str
    summary: HeaderSummary
    origin: Origin
    path: Path
    manifest: Manifest | None


class _VersionGraph:
    """Versions by their pinned references, in a local store and among those that ship; each is read once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.problems: dict[str, AbsError] = {}
        self._nodes: dict[str, _Node | None] = {}
        self._meant = cache(self._find_meant)

    def of_file(self, reference: str, path: Path) -> _Node:
        """A version that was read already, and may be in no store."""
        node = self.find(reference)
        if node is None:
            node = _Node(reference, read_summary(path), "file", path, None)
            self._nodes[reference] = node
        return node

    def find(self, reference: str) -> _Node | None:
        """A version by its pinned reference; None if it is not here, or cannot be read."""
        if reference not in self._nodes:
            self._nodes[reference] = self._stored(reference) or self._shipped.get(reference)
        return self._nodes[reference]

    def named(self, name: str) -> list[_Node]:
        """The versions of a name that are here and can be read."""
        nodes = []
        for version in self._repository.versions(name):
            try:
                nodes.append(self.find(str(self._repository.resolve(f"{name}@{version}"))))
            except AbsError as error:
                self.problems[f"{name}@{version}"] = error
        stored = {node.summary.version for node in nodes if node is not None}
        shipped = [
            node for node in self._shipped.values() if node.summary.name == name and node.summary.version not in stored
        ]
        return [node for node in (*nodes, *shipped) if node is not None]

    def ancestors(self, tips: Iterable[_Node]) -> dict[str, _Node]:
        """Versions, what they were made of, and so on, as far as these are here."""
        nodes: dict[str, _Node] = {}
        waiting = list(tips)
        while waiting:
            node = waiting.pop()
            if node.reference not in nodes:
                nodes[node.reference] = node
                parents = (self.find(parent) for parent in node.summary.parents)
                waiting += [parent for parent in parents if parent is not None]
        return nodes

    def entry(self, node: _Node) -> HistoryEntry:
        """A version with what only a history shows."""
        parents = [parent for reference in node.summary.parents if (parent := self.find(reference)) is not None]
        known = {_meaning(generator) for parent in parents for generator in parent.summary.generators}
        yank = None if node.manifest is None else self._repository.yank_of(node.manifest)
        return HistoryEntry(
            node.reference,
            node.summary,
            node.origin,
            node.path,
            frozenset(parent.reference for parent in parents),
            [generator for generator in node.summary.generators if _meaning(generator) not in known],
            None if yank is None else yank.reason,
            is_meant=self._meant(node.summary.name) == node.reference,
        )

    def _stored(self, reference: str) -> _Node | None:
        try:
            manifest = self._repository.resolve(reference)
        except AbsError:
            return None
        try:
            path = self._repository.path(manifest)
            return _Node(str(manifest), self._repository.summary(manifest), "store", path, manifest)
        except AbsError as error:
            self.problems[reference] = error
            return None

    @property
    def _shipped(self) -> dict[str, _Node]:
        return {
            reference: _Node(reference, summary, "shipped", path, None)
            for reference, summary, path in _shipped_summaries()
        }

    def _find_meant(self, name: str) -> str | None:
        try:
            return str(self._repository.resolve(name))
        except AbsError:
            if self._repository.versions(name):
                return None  # every version is yanked
        return next((node.reference for node in self._shipped.values() if node.summary.name == name), None)


@cache
def _shipped_summaries() -> list[tuple[str, HeaderSummary, Path]]:
    """What ships with the toolkit, which does not change while it runs."""
    listed = []
    for path in shipped_bundles().values():
        summary = read_summary(path)
        listed.append((f"{summary.name}@{summary.version}#{sha256_file(path)}", summary, path))
    return listed


def _meaning(generator: Generator) -> str:
    return generator.model_dump_json(exclude={"id"})


def _newest_first(nodes: dict[str, _Node]) -> list[_Node]:
    """By the time of creation, but each version before those that it was made of, whatever the clocks said."""
    ranks = {
        reference: rank
        for rank, reference in enumerate(
            sorted(nodes, key=lambda name: (nodes[name].summary.created, _version(nodes[name].summary.version), name))
        )
    }
    children = dict.fromkeys(nodes, 0)
    for node in nodes.values():
        for parent in set(node.summary.parents) & nodes.keys():
            children[parent] += 1
    heap = [(-ranks[reference], reference) for reference, count in children.items() if not count]
    heapq.heapify(heap)
    ordered = []
    while heap:
        node = nodes[heapq.heappop(heap)[1]]
        ordered.append(node)
        for parent in set(node.summary.parents) & nodes.keys():
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(heap, (-ranks[parent], parent))
    return ordered


def _version(text: str) -> Version:
    version = parse_version(text)
    assert version is not None  # the format has checked it
    return version


@dataclass(frozen=True)
class ListedVersion:
    """A version in a listing.

    Args:
        manifest: of the version.
        origin: "store", "shipped", or "place" for one in a place that others write as well.
        parents: pinned references; None where they are not known: in a place, or if the bytes cannot be read.
        yanked: the reason, if it is.
        is_meant: whether the name alone means it.
    """

    manifest: Manifest
    origin: Origin
    parents: Sequence[str] | None
    yanked: str | None
    is_meant: bool

    def to_dict(self) -> dict[str, Any]:
        """The version as JSON values, texts as they are."""
        manifest = self.manifest
        return {
            "reference": str(manifest),
            "yanked": self.yanked,
            "name": manifest.name,
            "version": manifest.version,
            "created": manifest.created,
            "complete": manifest.complete,
            "classes": manifest.counts.classes,
            "descriptions": manifest.counts.records,
            "rejected": manifest.counts.rejected,
            "parents": None if self.parents is None else list(self.parents),
            "latest": self.is_meant,
            "origin": self.origin,
        }


@dataclass(frozen=True)
class VersionListing:
    """What a store or a place has.

    Args:
        versions: by name and semantic precedence; what ships with the toolkit comes last.
        problems: what could not be read.
        truncated: whether there is more than was asked for.
    """

    versions: Sequence[ListedVersion]
    problems: Sequence[AbsError]
    truncated: bool


def list_versions(repository: Repository, name: str | None = None, *, limit: int = 100_000) -> VersionListing:
    """The versions in a repository; of a local store with those that ship with the toolkit.

    Args:
        repository: a local store, or a place.
        name: of the bundle; None: all.
        limit: the number of versions in the repository.

    Raises:
        UnknownNameError: no version of this name.
        StorageError: the storage cannot be read. UsageError: it cannot be listed.
    """
    catalogue = repository.catalogue(limit, name)
    is_local = repository.root is not None
    names = [entry.manifest.name for entry in catalogue.entries]
    # of the last name there may be more
    meant = (
        _meant_versions(catalogue.entries)
        if not catalogue.truncated
        else _meant_versions([entry for entry in catalogue.entries if entry.manifest.name != names[-1]])
    )
    listed = [
        ListedVersion(
            entry.manifest,
            "store" if is_local else "place",
            _parents(repository, entry.manifest) if is_local else None,
            entry.yanked,
            str(entry.manifest) in meant,
        )
        for entry in catalogue.entries
    ]
    if is_local:
        listed += _listed_shipped(listed, name)
    if name is not None and not listed and not catalogue.problems:
        known = {*repository.names(), *(shipped_bundles() if is_local else ())}
        raise UnknownNameError("bundle", name, sorted(known))
    return VersionListing(listed, catalogue.problems, catalogue.truncated)


def _meant_versions(entries: Sequence[CatalogueEntry]) -> set[str]:
    """What each name alone means, as ``Repository.resolve`` decides it."""
    best: dict[str, tuple[tuple[bool, Version], str]] = {}
    for entry in entries:
        version = _version(entry.manifest.version)
        rank = (not version.pre, version)
        if entry.yanked is None and (entry.manifest.name not in best or best[entry.manifest.name][0] < rank):
            best[entry.manifest.name] = (rank, str(entry.manifest))
    return {reference for _, reference in best.values()}


def _parents(repository: Repository, manifest: Manifest) -> Sequence[str] | None:
    try:
        return repository.summary(manifest).parents
    except AbsError:
        return None


def _listed_shipped(stored: Sequence[ListedVersion], name: str | None) -> Iterator[ListedVersion]:
    versions = {(listed.manifest.name, listed.manifest.version) for listed in stored}
    names = {stored_name for stored_name, _ in versions}
    for reference, summary, path in _shipped_summaries():
        if (summary.name, summary.version) in versions or name not in (None, summary.name):
            continue
        manifest = Manifest(
            name=summary.name,
            version=summary.version,
            digest=reference.partition("#")[2],
            size=path.stat().st_size,
            created=summary.created,
            complete=summary.complete,
            counts=summary.counts,
        )
        yield ListedVersion(manifest, "shipped", summary.parents, None, is_meant=summary.name not in names)


def has_version(repository: Repository, reference: str) -> bool:
    """Whether a pinned reference is in a repository, or ships with the toolkit."""
    if any(reference == shipped for shipped, _, _ in _shipped_summaries()):
        return True
    try:
        repository.resolve(reference)
    except AbsError:
        return False
    return True


def find_forks(store: Repository, place: Repository, pushed: Manifest) -> list[Manifest]:
    """The versions in a place that neither ``pushed`` was made of nor that were made of it, although they are newer
    than the version of the same name that it was made of; without such a one, newer than ``pushed``. Yanked ones do
    not count. Nothing where the place cannot be listed or read.

    Args:
        store: a local store that has ``pushed``.
        place: that it was pushed to.
        pushed: the version.

    Returns:
        The highest first, without those that others of them were made of.
    """
    graph = _VersionGraph(store)
    node = graph.find(str(pushed))
    if node is None:
        return []
    known = {reference for ancestor in graph.ancestors([node]).values() for reference in ancestor.summary.parents}
    bases = [parse_reference(reference) for reference in known]
    versions = [_version(base.version or "") for base in bases if base.name == pushed.name]
    base = max(versions, default=_version(pushed.version))
    try:
        newer = [version for version in reversed(place.versions(pushed.name)) if version > base]
        manifests = [place.resolve(f"{pushed.name}@{version}") for version in newer[:_MAX_FORKS]]
        forks: list[Manifest] = []
        for manifest in manifests:
            if (
                str(manifest) not in {*known, str(pushed)}
                and place.yank_of(manifest) is None
                and not any(_is_made_of(place, graph, fork, str(manifest)) for fork in forks)
                and not _is_made_of(place, graph, manifest, str(pushed))
            ):
                forks.append(manifest)
        return forks
    except AbsError:
        return []


def _is_made_of(place: Repository, graph: _VersionGraph, manifest: Manifest, wanted: str) -> bool:
    """Whether a version in a place was made of another one, directly or not, as far as headers can be read."""
    waiting, seen = [str(manifest)], set[str]()
    while waiting and len(seen) < _MAX_ANCESTORS:
        reference = waiting.pop()
        if reference == wanted:
            return True
        if reference in seen:
            continue
        seen.add(reference)
        node = graph.find(reference)
        try:
            waiting += node.summary.parents if node is not None else place.summary(place.resolve(reference)).parents
        except AbsError:
            continue
    return False
