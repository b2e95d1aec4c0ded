"""What a remote holds: manifests and yanks, which are hostile until they are read here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from abs_core.errors import AbsError, BundleError, UnknownNameError, UsageError
from abs_core.printable import printable
from abs_descriptions.bundle import Version, parse_reference, parse_version
from abs_descriptions.bundles.format import text_fault
from abs_descriptions.references import Reference, name_fault
from abs_descriptions.remotes.base import Remote, fetch, manifest_path
from abs_descriptions.store import StoreEntry, Yank

__all__ = ["Listed", "Listing", "list_remote", "read_entry", "read_yank", "resolve", "versions_of"]

_MAX_BYTES = 64 * 1024
_AT_ONCE = 8


@dataclass(frozen=True)
class Listed:
    """A version in a remote, and why it is yanked if it is."""

    entry: StoreEntry
    yank: str | None


@dataclass(frozen=True)
class Listing:
    """What a remote holds.

    Args:
        versions: by name and semantic precedence.
        faults: what could not be read, and why.
        cut: whether there is more than was asked for.
    """

    versions: Sequence[Listed]
    faults: Sequence[str]
    cut: bool


def list_remote(remote: Remote, name: str | None = None, *, limit: int = 1000) -> Listing:
    """The first ``limit`` versions in a remote, of one name if it is given; eight manifests are read at a time.

    Raises:
        StorageError: the place cannot be read. UsageError: it cannot be listed, or no name.
    """
    if name is not None and name_fault(name) is not None:
        raise UsageError(f"the name {name!r} {name_fault(name)}", remedy="Choose another name")
    names = [name] if name is not None else sorted(one for one in remote.names("versions") if name_fault(one) is None)
    wanted: list[tuple[str, str, bool]] = []
    for one in names:
        if len(wanted) > limit:
            break
        versions, yanked = versions_of(remote, one)
        wanted += [(one, str(version), str(version) in yanked) for version in versions]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda what: _listed(remote, *what), wanted[:limit]))
    faults = [str(one) for one in found if isinstance(one, AbsError)]
    return Listing([one for one in found if isinstance(one, Listed)], faults, len(wanted) > limit)


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
    if yank is None or text_fault(yank.reason) is not None:
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


def _listed(remote: Remote, name: str, version: str, yanked: bool) -> Listed | AbsError:
    try:
        entry = read_entry(remote, name, version)
        if entry is None:
            return _broken(remote, manifest_path(name, version))
        yank = read_yank(remote, entry) if yanked else None
    except AbsError as error:
        return error
    return Listed(entry, yank.reason if yank else None)


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
        known = known or sorted(name for name in remote.names("versions") if name_fault(name) is None)
    except UsageError:  # a web server that shows no index
        known = []
    remedy = f"See `abs bundle ls --remote {remote.address}`" if known else ""
    return UnknownNameError(f"bundle in {remote.address}", str(wanted), known, remedy=remedy)
