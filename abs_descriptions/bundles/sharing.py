"""Push and pull: bundles between a store and a remote, verified on both ways.

Nothing enters the store before its digest, its header and every record were checked. Nothing is announced in a remote
before its bytes are there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from abs_core.canonical import canonical_json
from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError, UsageError
from abs_core.files import remove_leftovers, sha256_file, storage_errors
from abs_core.text import printable
from abs_descriptions.bundles.format import text_problem
from abs_descriptions.bundles.reader import read_header, rejected_path
from abs_descriptions.bundles.references import Reference, Version, name_problem, parse_reference, parse_version
from abs_descriptions.bundles.repository import BundleStore, StoreEntry, Yank
from abs_descriptions.bundles.storage.base import Remote, RemoteBlob, fetch, manifest_path, object_path, rejected_object

__all__ = [
    "MAX_BYTES",
    "ListedBundle",
    "RemoteListing",
    "SharedBundle",
    "list_remote",
    "pull",
    "push",
    "read_entry",
    "read_yank",
    "resolve",
    "versions_of",
]


_MAX_BYTES = 64 * 1024


_AT_ONCE = 8


@dataclass(frozen=True)
class ListedBundle:
    """A version in a remote, and why it is yanked if it is."""

    entry: StoreEntry
    yank: str | None


@dataclass(frozen=True)
class RemoteListing:
    """What a remote holds.

    Args:
        versions: by name and semantic precedence.
        faults: what could not be read, and why.
        cut: whether there is more than was asked for.
    """

    versions: Sequence[ListedBundle]
    faults: Sequence[str]
    cut: bool


def list_remote(remote: Remote, name: str | None = None, *, limit: int = 1000) -> RemoteListing:
    """The first ``limit`` versions in a remote, of one name if it is given; eight manifests are read at a time.

    Raises:
        StorageError: the place cannot be read. UsageError: it cannot be listed, or no name.
    """
    if name is not None and name_problem(name) is not None:
        raise UsageError(f"the name {name!r} {name_problem(name)}", remedy="Choose another name")
    names = [name] if name is not None else sorted(one for one in remote.names("versions") if name_problem(one) is None)
    wanted: list[tuple[str, str, bool]] = []
    for one in names:
        if len(wanted) > limit:
            break
        versions, yanked = versions_of(remote, one)
        wanted += [(one, str(version), str(version) in yanked) for version in versions]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda what: _listed(remote, *what), wanted[:limit]))
    faults = [str(one) for one in found if isinstance(one, AbsError)]
    return RemoteListing([one for one in found if isinstance(one, ListedBundle)], faults, len(wanted) > limit)


def versions_of(remote: Remote, name: str) -> tuple[Sequence[Version], set[str]]:
    """The versions of a bundle by precedence, and those of them that are yanked; errors as ``Remote.names``."""
    files = remote.names(f"versions/{name}")
    stems = [file.removesuffix(".json") for file in files if file.endswith(".json")]
    yanked = {file.removesuffix(".yank") for file in files if file.endswith(".yank")}
    return sorted(version for stem in stems if (version := parse_version(stem))), yanked


def resolve(remote: Remote, reference: str) -> StoreEntry:
    """What a reference means in a remote, as ``BundleStore.resolve``: a bare name never means a yanked version.

    Raises:
        UsageError: no reference, or a bare name where the place cannot be listed.
        UnknownNameError: no such bundle or version.
        BundleError: another digest than the pinned one, a broken manifest, or a name of which every version is yanked.
        StorageError: the place cannot be read.
    """
    wanted = parse_reference(reference)
    version = wanted.version or _latest(remote, wanted)
    entry = read_entry(remote, wanted.name, version)
    if entry is None:
        raise _unknown(remote, wanted)
    if wanted.digest is not None and wanted.digest != entry.digest:
        raise BundleError(
            f"{remote.address} has {wanted.name}@{version} with the digest {entry.digest}, not {wanted.digest}",
            remedy="Do not use it before you know who changed it, or pin the digest that is meant",
        )
    return entry


def read_entry(remote: Remote, name: str, version: str) -> StoreEntry | None:
    """The manifest of a version; None if there is none.

    Raises:
        BundleError: it is broken or of another bundle. StorageError: it cannot be read.
    """
    text = _read(remote, manifest_path(name, version))
    if text is None:
        return None
    try:
        entry = StoreEntry.model_validate_json(text)
    except ValidationError:
        entry = None
    if entry is None or (entry.name, entry.version) != (name, version):
        raise _broken(remote, manifest_path(name, version))
    return entry


def read_yank(remote: Remote, entry: StoreEntry) -> Yank | None:
    """That a version is yanked there; None if it is not. Errors as ``read_entry``."""
    path = manifest_path(entry.name, entry.version, ".yank")
    text = _read(remote, path)
    if text is None:
        return None
    try:
        yank = Yank.model_validate_json(text)
    except ValidationError:
        yank = None
    if yank is None or text_problem(yank.reason) is not None:
        raise _broken(remote, path)
    if (yank.name, yank.version, yank.digest) != (entry.name, entry.version, entry.digest):
        raise _broken(remote, path)
    return yank


def _read(remote: Remote, path: str) -> bytes | None:
    text = bytearray()
    try:
        fetch(remote, path, text.extend, _MAX_BYTES)
    except FileNotFoundError:
        return None
    return bytes(text)


def _broken(remote: Remote, path: str) -> BundleError:
    return BundleError(
        f"{path} in {remote.address}, line 1: the file is broken or of another bundle",
        remedy="Tell whoever keeps this place",
    )


def _listed(remote: Remote, name: str, version: str, yanked: bool) -> ListedBundle | AbsError:
    try:
        entry = read_entry(remote, name, version)
        if entry is None:
            return _broken(remote, manifest_path(name, version))
        yank = read_yank(remote, entry) if yanked else None
    except AbsError as error:
        return error
    return ListedBundle(entry, yank.reason if yank else None)


def _latest(remote: Remote, wanted: Reference) -> str:
    versions, yanked = versions_of(remote, wanted.name)
    if not versions:
        raise _unknown(remote, wanted)
    good = [version for version in versions if str(version) not in yanked]
    if good:
        return str(max(good, key=lambda version: (not version.pre, version)))
    entry = read_entry(remote, wanted.name, str(versions[-1]))
    yank = read_yank(remote, entry) if entry else None
    raise BundleError(
        f"every version of {wanted.name!r} in {remote.address} is yanked, {versions[-1]} because: "
        f"{printable(yank.reason if yank else 'not said', 200)}",
        remedy=f"Name the version if you need it all the same, such as {wanted.name}@{versions[-1]}",
    )


def _unknown(remote: Remote, wanted: Reference) -> UnknownNameError:
    try:
        versions, _ = versions_of(remote, wanted.name)
        known = [f"{wanted.name}@{version}" for version in reversed(versions)]
        known = known or sorted(name for name in remote.names("versions") if name_problem(name) is None)
    except UsageError:  # a web server that shows no index
        known = []
    remedy = f"See `abs bundle ls --remote {remote.address}`" if known else ""
    return UnknownNameError(f"bundle in {remote.address}", str(wanted), known, remedy=remedy)


#: Bytes that a bundle, or its rejected completions, may have to be pulled.
MAX_BYTES = 4 * 1024**3


_MAX_BUNDLES = 1000


@dataclass(frozen=True)
class SharedBundle:
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


def push(store: BundleStore, reference: str, remote: Remote, *, with_parents: bool = False) -> list[SharedBundle]:
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


def pull(store: BundleStore, reference: str, remote: Remote, *, with_parents: bool = False) -> list[SharedBundle]:
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


def _family(reference: str, with_parents: bool, carry: Callable[[str], SharedBundle]) -> list[SharedBundle]:
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


def _push(store: BundleStore, reference: str, remote: Remote) -> SharedBundle:
    entry = store.resolve(reference)
    bundle = store.read(str(entry))
    there = read_entry(remote, entry.name, entry.version)
    _refuse_other(entry, there, store, remote)
    # The rejected completions first: a bundle that is there is there whole.
    pieces = [RemoteBlob(object_path(entry.digest), bundle.path, entry.digest)]
    if entry.counts.rejected and rejected_path(bundle.path).exists():
        rejected = rejected_path(bundle.path)
        pieces.insert(0, RemoteBlob(rejected_object(entry.digest), rejected, bundle.header.rejected_digest))
    manifest = canonical_json(entry.model_dump(mode="json")) + "\n"
    created = remote.publish(pieces, manifest_path(entry.name, entry.version), manifest.encode())
    if not created:
        there = read_entry(remote, entry.name, entry.version)
        _refuse_other(entry, there, store, remote)
        if there is None:
            raise StorageError(f"{remote.address} is being changed by somebody else", remedy="Push again")
    return SharedBundle(entry, created, _push_yank(store, entry, remote), tuple(bundle.header.parents))


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


def _pull(store: BundleStore, reference: str, remote: Remote) -> SharedBundle:
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
    return SharedBundle(entry, fresh, "; ".join(reasons) or None, tuple(header.parents))


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
