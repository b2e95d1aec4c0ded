"""What people change in a version while others change it too: carried out in the newest version that was made of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from abs_core.descriptions import Description
from abs_core.errors import AbsError, BundleError, UsageError
from abs_core.remarks import RemarkCounter
from abs_core.text import quoted
from abs_descriptions.bundles.ancestry import read_ancestry, unmerged_descendants
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.merge import REFUSE_CONFLICTS, Settling, merge_onto
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.references import pinned_problem
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import add_version, child_version, find_bundle

__all__ = ["Change", "add_changes", "choose_target", "find_changed", "warn_of_empty_classes", "warn_of_rejected_texts"]

_logger = logging.getLogger(__name__)


class ChildWriter(Protocol):
    """Writes the child of a bundle with one change."""

    def __call__(self, path: Path, /, *, name: str, version: str) -> Bundle:
        """Write it to a path."""


@dataclass(frozen=True)
class Change:
    """A change of a bundle.

    Args:
        title: what conflicts call it.
        digest: of the file that states it.
        write: writes the child of the bundle with this change alone.
    """

    title: str
    digest: str
    write: ChildWriter


def find_changed(repository: Repository, bundle: Bundle, reference: str, what: str) -> Bundle:
    """The version that a file of changes is of.

    Args:
        repository: a local store.
        bundle: that the user names: this version, or one that was made of it.
        reference: that the file states; if it is none the bundle is returned, and reading the file tells the rest.
        what: the file, for messages.

    Raises:
        UsageError: the bundle was not made of that version. BundleError: that version is not in the store.
    """
    if reference == bundle.reference or pinned_problem(reference) is not None:
        return bundle
    ancestry = read_ancestry(repository, [bundle])
    is_ancestor = reference in ancestry.ancestors(bundle.reference)
    short = f"{bundle.header.name}@{bundle.header.version}"
    try:
        changed = find_bundle(repository, reference)
    except AbsError as error:
        version = reference.partition("#")[0]
        fetched = f"{short} LOCATION --with-parents" if is_ancestor else f"{version} LOCATION"
        raise BundleError(
            f"{what} is of {quoted(reference, 120)}, which is not in the store"
            + ("" if is_ancestor else f", and {short} was not made of it"),
            remedy=f"Fetch it with `abs bundle pull {fetched}`",
        ) from error
    if not is_ancestor:
        older = f"{changed.header.name}@{changed.header.version}"
        raise UsageError(
            f"{what} is of {older}, and {short} was not made of it",
            remedy=f"Read it with {older}, and merge the result with {short}",
        )
    return changed


def choose_target(
    repository: Repository, bundle: Bundle, changed: Bundle, *, onto: str | None = None, fork: bool = False
) -> Bundle:
    """The version that gets the changes of another.

    Args:
        repository: a local store.
        bundle: that the user names: the changed one, or one that was made of it.
        changed: that the changes were made to.
        onto: the version that the user chose.
        fork: whether it is the changed one.

    Returns:
        Without ``onto`` and ``fork`` the newest version that was made of the bundle; the bundle if there is none.

    Raises:
        UsageError: both ``onto`` and ``fork``; a version that was not made of the changed one; or several newest ones.
    """
    if onto is not None and fork:
        raise UsageError("--onto and --fork exclude each other", remedy="Give one of them")
    if fork:
        return changed
    if onto is not None:
        target = find_bundle(repository, onto)
        if changed.reference not in read_ancestry(repository, [target]).ancestors(target.reference):
            raise UsageError(
                f"{onto} was not made of {changed.reference}, which the changes are of",
                remedy=f"Leave out --onto, and merge the result with {onto}",
            )
        return target
    newest = unmerged_descendants(repository, bundle)
    titles = [f"{manifest.name}@{manifest.version}" for manifest in newest]
    if len(newest) > 1:
        raise UsageError(
            f"{', '.join(titles)} were made of {bundle.header.name}@{bundle.header.version}, none has all changes",
            remedy=f"Join them with `abs bundle merge {' '.join(titles)}`, choose one with --onto, or give --fork",
        )
    return repository.read(newest[0]) if newest else bundle


def add_changes(
    repository: Repository,
    changed: Bundle,
    target: Bundle,
    changes: Sequence[Change],
    *,
    name: str | None = None,
    version: str | None = None,
    settling: Settling = REFUSE_CONFLICTS,
) -> Manifest | None:
    """Add one child of ``target`` with all changes; None if it has them already.

    Args:
        repository: a local store.
        changed: that each change was made to.
        target: that version, or one that was made of it.
        changes: at least one.
        name: of the child; None: that of the target.
        version: of the child, as ``child_version`` takes it.
        settling: how conflicts are decided.

    Raises:
        MergeConflictError: conflicts that are left.
        BundleError, UsageError, StorageError: a change that cannot be carried out, or the store is not written.
    """
    chosen = target.header.name if name is None else name
    following = child_version(repository, chosen, [target.header], version)
    if len(changes) == 1 and changed.reference == target.reference:
        return add_version(repository, partial(changes[0].write, name=chosen, version=following))
    manifest = merge_onto(
        repository,
        changed,
        target,
        [(change.title, change.digest, partial(change.write, name=chosen, version=following)) for change in changes],
        name=chosen,
        version=following,
        settling=settling,
    )
    if changed.reference != target.reference:
        _logger.info("the changes are of %s, and went onto %s", changed.reference, target.reference)
    return manifest


def warn_of_empty_classes(before: Bundle, after: Bundle) -> None:
    """Log a warning for each class that had a description and has none."""
    described = {record.class_id for record in after.records()}
    for class_id in dict.fromkeys(record.class_id for record in before.records()):
        if class_id not in described:
            _logger.warning("the class %s has no description left, so the new version is not complete", class_id)


def warn_of_rejected_texts(before: Bundle, new: Sequence[Description]) -> None:
    """Log a warning if new texts are ones that a reviewer of the version before rejected."""
    texts = {(record.class_id, record.text) for record in new}
    remarks = RemarkCounter()
    if texts and rejected_path(before.path).exists():
        for entry in iter_rejected(before.path, before.header):
            if entry.rejected_by is not None and (entry.class_id, entry.text) in texts:
                texts.discard((entry.class_id, entry.text))
                remarks.add("added again after a reviewer rejected it", entry.text)
    for remark in remarks.remarks:
        _logger.warning("%s", remark)
