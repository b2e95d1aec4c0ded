"""Push and pull: bundles between a store and a remote, verified on both ways.

Nothing enters the store before its digest, its header and every record were checked. Nothing is announced in a remote
before its bytes are there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from abs_core.canonical import canonical_json
from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError
from abs_core.files import remove_leftovers, sha256_file, storage_errors
from abs_descriptions.bundle import Version, parse_version, read_header, rejected_path
from abs_descriptions.remotes.base import Piece, Remote, fetch, manifest_path, object_path, rejected_object
from abs_descriptions.remotes.catalogue import read_entry, read_yank, resolve, versions_of
from abs_descriptions.store import BundleStore, StoreEntry

__all__ = ["MAX_BYTES", "Shared", "pull", "push"]

#: Bytes that a bundle, or its rejected completions, may have to be pulled.
MAX_BYTES = 4 * 1024**3

_MAX_BUNDLES = 1000


@dataclass(frozen=True)
class Shared:
    """A bundle that travelled.

    Args:
        entry: its manifest.
        fresh: whether it was not at its destination before.
        yank: why it is yanked, if it is; after a pull both reasons, if the store has one of its own.
        parents: pinned references of the bundles it was made of.
        missing: those of them that were to travel with it and were not found.
    """

    entry: StoreEntry
    fresh: bool
    yank: str | None
    parents: tuple[str, ...]
    missing: list[str] = field(default_factory=list)


def push(store: BundleStore, reference: str, remote: Remote, *, with_parents: bool = False) -> list[Shared]:
    """Copy a bundle, its rejected completions and its yank to a remote. Pushing it again changes nothing.

    Returns:
        The bundle first, then, if they were asked for, its parents, their parents, and so on.

    Raises:
        as ``BundleStore.read``; BundleError: the remote has this version with another digest; nothing was overwritten.
        StorageError, UsageError: the remote cannot be written, or not safely.
        An error of a parent names what travelled before it.
    """
    remote.check_writable()
    return _family(reference, with_parents, lambda one: _push(store, one, remote))


def pull(store: BundleStore, reference: str, remote: Remote, *, with_parents: bool = False) -> list[Shared]:
    """Fetch a bundle, check all of it, and keep it in the store with its rejected completions and its yank.

    Returns:
        as ``push``.

    Raises:
        as ``catalogue.resolve``; BundleError: what came is not what the manifest names or breaks a rule of the format,
        or the store has this version with another digest. The store is as it was.
        StorageError: the remote cannot be read, or the store not be written.
        An error of a parent names what travelled before it.
    """
    return _family(reference, with_parents, lambda one: _pull(store, one, remote))


def _family(reference: str, with_parents: bool, carry: Callable[[str], Shared]) -> list[Shared]:
    carried = [carry(reference)]
    seen = {str(carried[0].entry)}
    for child in carried:  # grows as parents are found
        for parent in child.parents if with_parents else ():
            if parent in seen or len(carried) >= _MAX_BUNDLES:
                continue
            seen.add(parent)
            try:
                carried.append(carry(parent))
            except UnknownNameError:
                child.missing.append(parent)
            except AbsError as error:
                error.message += f"; before that travelled: {', '.join(str(one.entry) for one in carried)}"
                raise
    return carried


def _push(store: BundleStore, reference: str, remote: Remote) -> Shared:
    entry = store.resolve(reference)
    bundle = store.read(str(entry))
    there = read_entry(remote, entry.name, entry.version)
    _refuse_other(entry, there, store, remote)
    # The rejected completions first: a bundle that is there is there whole.
    pieces = [Piece(object_path(entry.digest), bundle.path, entry.digest)]
    if entry.counts.rejected and rejected_path(bundle.path).exists():
        rejected = rejected_path(bundle.path)
        pieces.insert(0, Piece(rejected_object(entry.digest), rejected, bundle.header.rejected_digest))
    manifest = canonical_json(entry.model_dump(mode="json")) + "\n"
    created = remote.publish(pieces, manifest_path(entry.name, entry.version), manifest.encode())
    if not created:
        there = read_entry(remote, entry.name, entry.version)
        _refuse_other(entry, there, store, remote)
        if there is None:
            raise StorageError(f"{remote.address} is being changed by somebody else", remedy="Push again")
    return Shared(entry, created, _push_yank(store, entry, remote), tuple(bundle.header.parents))


def _push_yank(store: BundleStore, entry: StoreEntry, remote: Remote) -> str | None:
    yank = store.yank_of(entry)
    if yank is not None and read_yank(remote, entry) is None:
        text = canonical_json(yank.model_dump(mode="json")) + "\n"
        remote.publish([], manifest_path(entry.name, entry.version, ".yank"), text.encode())
    there = read_yank(remote, entry)
    return there.reason if there else None


def _refuse_other(entry: StoreEntry, there: StoreEntry | None, store: BundleStore, remote: Remote) -> None:
    if there is None or there.digest == entry.digest:
        return
    versions, _ = versions_of(remote, entry.name)
    last = max([*versions, parse_version(entry.version) or Version(0, 0, 0)])
    mine = parse_version(store.next_version(entry.name)) or last
    free = max(mine, Version(last.major, last.minor + 1, 0))
    raise BundleError(
        f"{remote.address} has {entry.name}@{entry.version} with the digest {there.digest}, not {entry.digest}",
        remedy=f"Pull that one, or give yours a new version, such as {free}",
    )


def _pull(store: BundleStore, reference: str, remote: Remote) -> Shared:
    entry = resolve(remote, reference)
    yank = read_yank(remote, entry)
    fresh = not _has(store, entry, remote)
    if fresh:
        remove_leftovers(store.root, deep=False)
        with storage_errors(store.root, "write in"):
            store.root.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(dir=store.root, prefix=".pull-")
        with folder:
            store.add(_download(remote, entry, Path(folder.name)))
        _record(store.root, entry, remote)
    mine = store.yank_of(entry)
    if yank is not None and mine is None:
        store.yank(str(entry), yank.reason)
    reasons = dict.fromkeys(one.reason for one in (yank, mine) if one is not None)
    header = read_header(store.path(str(entry)))
    return Shared(entry, fresh, "; ".join(reasons) or None, tuple(header.parents))


def _has(store: BundleStore, entry: StoreEntry, remote: Remote) -> bool:
    """Whether the store has the bundle whole; raises BundleError if it has another one under its version."""
    try:
        mine = store.resolve(f"{entry.name}@{entry.version}")
    except UnknownNameError:
        return False
    if mine.digest != entry.digest:
        raise BundleError(
            f"{entry.name}@{entry.version} is here with the digest {mine.digest}, and {remote.address} has it with "
            f"{entry.digest}",
            remedy="Find out which one is meant; the other needs a new version",
        )
    path = store.path(str(entry))
    whole = path.is_file() and sha256_file(path) == entry.digest
    return whole and (not entry.counts.rejected or rejected_path(path).is_file())


def _download(remote: Remote, entry: StoreEntry, folder: Path) -> Path:
    """Fetch a bundle, and its rejected completions if they are there, into a folder of its own."""
    if entry.size > MAX_BYTES:
        raise BundleError(
            f"{entry.name}@{entry.version} in {remote.address} has {entry.size} bytes, more than {MAX_BYTES}",
            remedy="Split it by classes",
        )
    if shutil.disk_usage(folder).free < 2 * entry.size:
        raise StorageError(
            f"{entry.name}@{entry.version} needs {2 * entry.size} bytes while it is fetched, more than are free",
            remedy="Free some space or choose a home on another disk",
        )
    path = folder / f"{entry.name}.jsonl"
    try:
        _take(remote, object_path(entry.digest), path, entry.size, entry.digest)
    except FileNotFoundError:
        raise BundleError(
            f"{remote.address} names {entry.name}@{entry.version} but has not its bytes", remedy="Push it again"
        ) from None
    header = read_header(path)
    said = (entry.name, entry.version, entry.created, entry.complete, entry.counts)
    if (header.name, header.version, header.created, header.complete, header.counts) != said:
        raise BundleError(
            f"the manifest of {entry.name}@{entry.version} in {remote.address} names the bytes of "
            f"{header.name}@{header.version} or misreports them",
            remedy="Tell whoever keeps this place",
        )
    if header.counts.rejected:
        with suppress(FileNotFoundError):  # the format allows them to be missing
            _take(remote, rejected_object(entry.digest), rejected_path(path), MAX_BYTES, header.rejected_digest)
    return path


def _take(remote: Remote, source: str, target: Path, limit: int, digest: str) -> None:
    seen = hashlib.sha256()
    with storage_errors(target, "write"):
        stream = target.open("wb", buffering=0)

    def keep(block: bytes) -> None:
        seen.update(block)
        with storage_errors(target, "write"):
            rest = memoryview(block)
            while rest:
                rest = rest[stream.write(rest) :]

    with stream:
        fetch(remote, source, keep, limit)
    found = "sha256:" + seen.hexdigest()
    if found != digest:
        raise BundleError(
            f"{source} in {remote.address} has the digest {found}, not {digest}",
            remedy="Pull again; if it stays so, tell whoever keeps this place",
        )


def _record(root: Path, entry: StoreEntry, remote: Remote) -> None:
    """One line about where a bundle came from. Appending one short block is whole among processes."""
    value = {"bundle": str(entry), "from": remote.address, "pulled": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    path = root / "pulls.jsonl"
    with storage_errors(path, "write"):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, (canonical_json(value) + "\n").encode())
        finally:
            os.close(handle)
