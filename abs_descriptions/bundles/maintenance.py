"""Housekeeping of a repository: what nothing names is collected, and what is damaged is found and restored.

    collect_garbage(repository)               what could go, and with ``delete`` goes
    verify_repository(repository)             every version read as a pull reads it
    verify_repository(repository, source)     the same, and what is damaged restored from another repository

A push writes the objects first and the manifest last, so for a while nothing names what it has written. Garbage is
therefore at least an hour old, by default a day, and a push makes what it finds there young or writes it again.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError, UsageError
from abs_core.files import is_leftover
from abs_core.text import quoted
from abs_descriptions.bundles.manifest import VERSIONS, Manifest
from abs_descriptions.bundles.references import name_problem, parse_version
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.storage.base import ListedFile
from abs_descriptions.bundles.storage.folder import FolderStorage

__all__ = [
    "MIN_AGE",
    "DamagedVersion",
    "Garbage",
    "GarbageFile",
    "RepositoryCheck",
    "collect_garbage",
    "verify_repository",
]

#: Seconds that garbage must be old at least.
MIN_AGE = 3600.0
_DAY = 86400.0

_OBJECT = re.compile(r"objects/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})(?:\.rejected)?\.jsonl")
_VERSION_FILE = re.compile(rf"{VERSIONS}/([^/]+)/([^/]+)\.(json|yank|[0-9a-f]{{32}}\.sig)")

# Manifests that are read at a time.
_CONCURRENCY = 8


@dataclass(frozen=True)
class GarbageFile:
    """A file that nothing needs, and why."""

    file: ListedFile
    reason: str


@dataclass(frozen=True)
class Garbage:
    """What nothing in a repository needs.

    Args:
        files: those that are old enough; with ``delete``, those that are gone.
        young: how many are not old enough.
        kept: where the bytes of deleted files stay nevertheless, continuing "the bytes stay "; empty if nowhere.
    """

    files: Sequence[GarbageFile]
    young: int
    kept: str

    @property
    def size(self) -> int:
        """Of the files, in bytes."""
        return sum(garbage.file.size for garbage in self.files)


@dataclass(frozen=True)
class DamagedVersion:
    """A version that a pull would refuse.

    Args:
        reference: NAME@VERSION.
        problem: what is wrong, and the remedy.
        restored: whether it is whole again.
    """

    reference: str
    problem: AbsError
    restored: bool


@dataclass(frozen=True)
class RepositoryCheck:
    """What was found in a repository.

    Args:
        checked: how many versions there are.
        damaged: those that are not whole, or were not.
        unnamed: objects that no manifest names; None where that cannot be known.
    """

    checked: int
    damaged: Sequence[DamagedVersion]
    unnamed: int | None

    @property
    def is_sound(self) -> bool:
        """Whether every version is whole now."""
        return all(version.restored for version in self.damaged)


def collect_garbage(repository: Repository, *, min_age: float = _DAY, delete: bool = False) -> Garbage:
    """Find the files that nothing needs: objects that no manifest names, yanks and signatures of versions that are not
    there, and what processes that were killed left half-written. Files that are no part of the layout stay.

    Args:
        repository: of any kind that can be listed.
        min_age: seconds since such a file was written.
        delete: whether to remove them.

    Raises:
        UsageError: an age below ``MIN_AGE``, or a repository that cannot be listed or changed.
        BundleError: a manifest is broken, so that it is unknown what it names. Nothing was removed.
        StorageError: the storage cannot be read, or a file not removed.
    """
    if not min_age >= MIN_AGE:
        raise UsageError(
            f"garbage must be at least {MIN_AGE / 3600:.0f} hour old, got {min_age / 3600:g} hours",
            remedy="A push that is under way needs what nothing names yet; give a longer time",
        )
    storage = repository.storage
    if delete:
        repository.check_writable()
    # First the files, then the manifests: what is published in between names files that are listed.
    files = _files(repository)
    listed = storage.files(VERSIONS)
    versions = _versions(listed)
    _refuse_strange_manifests(listed, versions)
    named = {manifest.digest.partition(":")[2] for manifest in _read_manifests(repository, versions)}
    candidates = [
        GarbageFile(file, reason) for file in files if (reason := _uselessness(file.path, named, versions)) is not None
    ]
    limit = time.time() - min_age
    old = [garbage for garbage in candidates if garbage.file.modified is None or garbage.file.modified < limit]
    young = len(candidates) - len(old)
    if delete:
        gone = {file.path for file in storage.delete([garbage.file for garbage in old])}
        old = [garbage for garbage in old if garbage.file.path in gone]
    return Garbage(sorted(old, key=lambda garbage: garbage.file.path), young, storage.keeps_deleted)


def verify_repository(
    repository: Repository, source: Repository | None = None, *, quick: bool = False
) -> RepositoryCheck:
    """Read every version as a pull does; bytes, digests, headers, every record, yanks.

    Args:
        repository: of any kind; one that is not a local store is downloaded, one bundle at a time.
        source: a local store from which to restore what is damaged or missing.
        quick: look only whether the bytes are there and as many as the manifest says.

    Raises:
        StorageError: the storage cannot be read, or not written. UsageError: it cannot be listed, or not be written.
    """
    if source is not None:
        repository.check_writable()
    try:
        files = {file.path: file for file in _files(repository)}
        versions = _versions(list(files.values()))
    except UsageError:  # a web server: its index may still name the versions
        if quick:
            raise
        files = {}
        versions = {(name, str(version)) for name in repository.names() for version in repository.versions(name)}
    damaged, named = [], set()
    for name, version in sorted(versions):
        try:
            manifest = repository.resolve_version(f"{name}@{version}")
        except UnknownNameError:  # removed meanwhile
            continue
        except _faults_of(repository) as error:
            damaged.append(DamagedVersion(f"{name}@{version}", error, restored=False))
            continue
        named.add(manifest.digest.partition(":")[2])
        problem = _problem(repository, manifest, files if quick else None)
        if problem is not None:
            restored = source is not None and _restore(repository, manifest, source)
            damaged.append(DamagedVersion(f"{name}@{version}", problem, restored))
    objects = {match[2] for path in files if (match := _OBJECT.fullmatch(path))}
    return RepositoryCheck(len(versions), damaged, len(objects - named) if files else None)


def _problem(repository: Repository, manifest: Manifest, files: dict[str, ListedFile] | None) -> AbsError | None:
    """What keeps a version from being pulled; with the files of a listing, as far as these show it."""
    try:
        if files is None:
            with _download_folder(repository) as folder:
                repository.read(manifest, folder)
            repository.yank_of(manifest)
            return None
        file = files.get(manifest.object_path)
        if file is None:
            raise BundleError("its bytes are not there", remedy="Push it again from where it is whole")
        if file.size != manifest.size:
            raise BundleError(
                f"it has {file.size} bytes, not {manifest.size}", remedy="Push it again from where it is whole"
            )
    except _faults_of(repository) as error:
        return error
    return None


def _faults_of(repository: Repository) -> tuple[type[AbsError], ...]:
    """The errors that concern one version: in a folder also an unreadable file, which elsewhere is the network."""
    return (BundleError, StorageError) if isinstance(repository.storage, FolderStorage) else (BundleError,)


def _restore(repository: Repository, manifest: Manifest, source: Repository) -> bool:
    if not source.holds(manifest):
        return False
    try:
        bundle = source.read(manifest)
    except (BundleError, StorageError):  # the copy is damaged as well, which is no reason to leave the others so
        return False
    repository.restore(bundle)
    return _problem(repository, manifest, None) is None


@contextmanager
def _download_folder(repository: Repository) -> Iterator[Path | None]:
    if repository.root is not None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="abs-verify-") as folder:
        yield Path(folder)


def _files(repository: Repository) -> list[ListedFile]:
    """The files of the layout, and of pulls that were killed; not what else a user keeps in that folder."""
    storage, folders = repository.storage, ["objects", VERSIONS]
    if isinstance(storage, FolderStorage):
        folders += [name for name in storage.names("") if is_leftover(name)]
    return [file for folder in folders for file in storage.files(folder)]


def _versions(files: Sequence[ListedFile]) -> set[tuple[str, str]]:
    """Name and version of each manifest in a listing."""
    matches = [match for file in files if (match := _VERSION_FILE.fullmatch(file.path)) is not None]
    return {
        (match[1], match[2])
        for match in matches
        if match[3] == "json" and name_problem(match[1]) is None and parse_version(match[2]) is not None
    }


def _refuse_strange_manifests(files: Sequence[ListedFile], versions: set[tuple[str, str]]) -> None:
    """Refuse to judge what is garbage where a manifest may be one of a later release, whose objects look unnamed."""
    known = {f"{VERSIONS}/{name}/{version}.json" for name, version in versions}
    strange = [
        file.path
        for file in files
        if file.path.endswith(".json") and file.path not in known and not any(map(is_leftover, file.path.split("/")))
    ]
    if strange:
        raise BundleError(
            f"what {quoted(strange[0], 200)} names is unknown: it is called as no manifest is",
            remedy="Update abs-toolkit, or move it away if it is none; nothing was removed",
        )


def _read_manifests(repository: Repository, versions: set[tuple[str, str]]) -> list[Manifest]:
    def read(version: tuple[str, str]) -> Manifest | BundleError | None:
        try:
            return repository.resolve_version("@".join(version))
        except UnknownNameError:  # removed meanwhile
            return None
        except BundleError as error:
            return error

    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        manifests = list(pool.map(read, sorted(versions)))
    broken = [error for error in manifests if isinstance(error, BundleError)]
    if broken:
        raise BundleError(
            f"what {len(broken)} of {len(versions)} manifests name is unknown: {broken[0].message}",
            remedy=f"{broken[0].remedy}; nothing was removed",
        )
    return [manifest for manifest in manifests if isinstance(manifest, Manifest)]


def _uselessness(path: str, named: set[str], versions: set[tuple[str, str]]) -> str | None:
    """Why nothing needs a file; None if something may."""
    if any(is_leftover(part) for part in path.split("/")):
        return "left half-written by a process that was killed"
    entry = _OBJECT.fullmatch(path)
    if entry is not None:
        return None if entry[2] in named else "no manifest names it"
    match = _VERSION_FILE.fullmatch(path)
    if match is not None and match[3] != "json" and (match[1], match[2]) not in versions:
        return "its version is not here"
    return None
