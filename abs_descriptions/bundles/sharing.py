"""Push and pull: bundles copied between two repositories, verified on both ways.

Nothing enters a store before its digest, its header and every record were checked. Nothing is announced in a shared
place before its bytes are there.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from abs_core.canonical import canonical_json
from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError
from abs_core.files import publish, remove_leftovers, storage_errors
from abs_core.permissions import create_folder
from abs_descriptions.bundles.history import find_forks, has_version
from abs_descriptions.bundles.manifest import Manifest, Yank
from abs_descriptions.bundles.reader import read_header
from abs_descriptions.bundles.references import parse_reference
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.signatures import copy_signatures, verify_bundle
from abs_descriptions.bundles.signers import AllowedSigners
from abs_descriptions.bundles.versions import timestamp

__all__ = ["CopiedBundle", "copy_bundles"]

_logger = logging.getLogger(__name__)

_MAX_BUNDLES = 1000


@dataclass(frozen=True)
class CopiedBundle:
    """A bundle that was copied.

    Args:
        manifest: of the bundle.
        is_new: whether the target did not have it, or not whole.
        yanked: why it is yanked, if it is; both reasons where source and target have different ones.
        parents: pinned references of the bundles that it was made of.
        missing: those of the parents that were to be copied with it and were not found.
        signers: those of the allowed signers who vouch for it; empty where nobody asked.
        left_behind: those of the parents that were not to be copied with it and that the target lacks.
        forks: of the bundle that was asked for and copied to a shared place, what ``find_forks`` finds there.
        yanks: of the bundle that was asked for by its name alone, those of other versions that were copied with it.
    """

    manifest: Manifest
    is_new: bool
    yanked: str | None
    parents: Sequence[str]
    missing: list[str] = field(default_factory=list)
    signers: Sequence[str] = ()
    left_behind: list[str] = field(default_factory=list)
    forks: list[Manifest] = field(default_factory=list)
    yanks: list[Yank] = field(default_factory=list)


def copy_bundles(
    reference: str,
    source: Repository,
    target: Repository,
    *,
    with_parents: bool = False,
    signers: AllowedSigners | None = None,
) -> list[CopiedBundle]:
    """Copy a bundle, its rejected completions, its yank and its signatures. Copying it again changes nothing.

    ``abs bundle push`` copies from the local store to a shared place, ``abs bundle pull`` the other way. A local store
    notes in ``pulls.jsonl`` what it got from where. What a name alone means depends on yanks: with it go those of other
    versions that the target has.

    Args:
        reference: of the bundle.
        source, target: where it is, and where it is to be.
        with_parents: whether to copy what it was made of as well.
        signers: one of whom must have signed each version that is copied; None: it needs no signature.

    Returns:
        The bundle first, then, if they were asked for, its parents, their parents, and so on.

    Raises:
        UnknownNameError: the source has no such version, see ``Repository.resolve``.
        BundleError: what is read is not what the manifest names or breaks a rule of the format, is not signed as it
            must be, or the target has this version with another digest. Nothing was written.
        StorageError, UsageError: the source cannot be read, or the target not be written, or not safely. An error of a
            parent names what was copied before it.
    """
    target.check_writable()
    copied = [_copy(reference, source, target, signers)]
    seen = {str(copied[0].manifest)}
    for child in copied:  # grows as parents are found
        for parent in child.parents if with_parents else ():
            if parent in seen or len(copied) >= _MAX_BUNDLES:
                continue
            seen.add(parent)
            try:
                copied.append(_copy(parent, source, target, signers))
            except UnknownNameError:
                if not has_version(target, parent):
                    child.missing.append(parent)
            except AbsError as error:
                error.message += f"; copied before that: {', '.join(str(bundle.manifest) for bundle in copied)}"
                raise
    if not with_parents:
        copied[0].left_behind.extend(parent for parent in copied[0].parents if not has_version(target, parent))
    if parse_reference(reference).version is None:
        copied[0].yanks.extend(_copy_yanks(copied[0].manifest.name, source, target))
    if target.root is None:
        copied[0].forks.extend(find_forks(source, target, copied[0].manifest))
    return copied


def _copy(reference: str, source: Repository, target: Repository, signers: AllowedSigners | None) -> CopiedBundle:
    manifest = source.resolve(reference)
    vouching = () if signers is None else verify_bundle(source, manifest, signers)
    yank = source.yank_of(manifest)
    target.refuse_conflict(manifest, source)
    if target.holds(manifest):
        is_new, parents = False, read_header(target.path(manifest)).parents
    else:
        with _workspace(source, target) as folder:
            bundle = source.read(manifest, folder)
            is_new, parents = target.publish(bundle) or target.root is not None, bundle.header.parents
        if source.root is None and target.root is not None:
            _record(target.root, manifest, source.address)
    existing_yank = target.yank_of(manifest)
    if yank is not None and existing_yank is None:
        target.publish_yank(yank)
    try:
        copy_signatures(manifest, source, target)
    except StorageError as error:
        if target.root is None:
            raise
        # who asked for a signature has seen it, and others need none
        _logger.warning("the signatures of %s@%s were not copied: %s", manifest.name, manifest.version, error)
    reasons = dict.fromkeys(known.reason for known in (yank, existing_yank) if known is not None)
    return CopiedBundle(manifest, is_new, "; ".join(reasons) or None, parents, signers=vouching)


def _copy_yanks(name: str, source: Repository, target: Repository) -> Iterator[Yank]:
    """Yank in the target what the source has yanked of a name; those that the target did not have."""
    versions, known = target.versions_and_yanks(name)
    wanted = source.versions_and_yanks(name)[1] - known
    for version in versions:
        if str(version) not in wanted:
            continue
        try:
            yank = source.yank_of(target.resolve(f"{name}@{version}"))
        except BundleError:  # of other bytes under the same number, or broken: whoever names it there is told
            continue
        if yank is not None:
            target.publish_yank(yank)
            yield yank


@contextmanager
def _workspace(source: Repository, target: Repository) -> Iterator[Path | None]:
    """A folder to download to: in the local store, where the bytes are to be; None where nothing is downloaded."""
    root = target.root
    if source.root is not None:
        yield None
        return
    if root is not None:
        remove_leftovers(root, deep=False)
        with storage_errors(root, "write in"):
            create_folder(root)
    with storage_errors(root or Path(tempfile.gettempdir()), "write in"):
        folder = tempfile.TemporaryDirectory(dir=root, prefix=".pull-")
    with folder as path:
        yield Path(path)


def _record(root: Path, manifest: Manifest, address: str) -> None:
    """One line about where a bundle came from. Appending one short block is whole among processes."""
    value = {"bundle": str(manifest), "from": address, "pulled": timestamp()}
    path = root / "pulls.jsonl"
    with storage_errors(path, "write"):
        if not path.exists():
            publish(path, b"", rights_of=root)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, (canonical_json(value) + "\n").encode())
        finally:
            os.close(handle)
