"""Bundles by name and version: in the local store, a shared folder, a bucket, on the Hugging Face hub or a web server.

    Repository.local()                       the store of one user; several of that user's processes may share it
    Repository.open("s3://team/bundles")     a place that others write as well

``manifest`` says where everything lies. Objects are written first and the manifest last, by an operation that fails if
there is one. So a killed process leaves at most an object that nothing names, and of two processes that add one version
with different bytes exactly one succeeds. A version never changes its bytes. Removing goes the other way, the manifest
first. Whatever is read is checked: it may be damaged in the local store, and hostile anywhere else.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError, UsageError
from abs_core.files import sha256_file, storage_errors
from abs_core.home import Home
from abs_core.text import printable, quoted
from abs_core.text_files import foreign_content
from abs_descriptions.bundles.format import MAX_HEADER_BYTES, HeaderSummary, text_problem
from abs_descriptions.bundles.manifest import (
    VERSIONS,
    Manifest,
    Yank,
    manifest_path,
    parse_manifest,
    parse_yank,
    signature_key,
    yank_path,
)
from abs_descriptions.bundles.reader import (
    Bundle,
    parse_summary,
    read_bundle,
    read_header,
    read_summary,
    rejected_path,
)
from abs_descriptions.bundles.references import Reference, Version, name_problem, parse_reference, parse_version
from abs_descriptions.bundles.storage import Blob, Storage, open_storage, parse_location
from abs_descriptions.bundles.storage.base import HEAD_BYTES, EditableStorage, explain_alteration, fetch, first_line
from abs_descriptions.bundles.storage.folder import FolderStorage

__all__ = ["MAX_BYTES", "Catalogue", "CatalogueEntry", "Repository"]

_logger = logging.getLogger(__name__)

#: Bytes that a bundle, or its rejected completions, may have to be downloaded.
MAX_BYTES = 4 * 1024**3
_MAX_SMALL_FILE = 64 * 1024

# Small files that are read at a time.
_CONCURRENCY = 8


@dataclass(frozen=True)
class CatalogueEntry:
    """A version, and the reason if it is yanked."""

    manifest: Manifest
    yanked: str | None


@dataclass(frozen=True)
class Catalogue:
    """What a repository holds.

    Args:
        entries: by name and semantic precedence.
        problems: what could not be read.
        truncated: whether there is more than was asked for.
    """

    entries: Sequence[CatalogueEntry]
    problems: Sequence[AbsError]
    truncated: bool


class Repository:
    """The bundles in a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @classmethod
    def local(cls, folder: Path | str | None = None) -> Repository:
        """The local store. A folder that does not exist is an empty store; writing creates it.

        Args:
            folder: of the store; None: the one that ``abs bundle`` uses, in ``ABS_HOME`` or its default.
        """
        return cls(FolderStorage(Home.at(None, None).bundles if folder is None else Path(folder)))

    @classmethod
    def open(cls, location: str) -> Repository:
        """A place that others write as well: a folder, or a URL as in docs/sharing.md. Nothing is asked of it yet.

        Raises:
            UsageError: no location, or one that holds a secret.
            MissingExtraError: the package that speaks its protocol is not installed.
        """
        return cls(open_storage(parse_location(location)))

    def __repr__(self) -> str:
        return f"Repository({self.address!r})"

    @property
    def address(self) -> str:
        """Where it is, without secrets; on the hub with the commit."""
        return self._storage.address

    @property
    def root(self) -> Path | None:
        """The folder of a local store; None for a place that others write as well."""
        return self._storage.root

    @property
    def storage(self) -> Storage:
        """Where the files are."""
        return self._storage

    def names(self) -> Sequence[str]:
        """The names that have a version, sorted.

        Raises:
            StorageError: the storage cannot be read. UsageError: it cannot be listed.
        """
        names = sorted(name for name in self._storage.names(VERSIONS) if name_problem(name) is None)
        # In a folder the one of a name stays when its last version goes.
        return [name for name in names if self.versions(name)] if self.root is not None else names

    def versions(self, name: str) -> Sequence[Version]:
        """The versions of a bundle by semantic precedence, yanked ones as well; errors as ``names``."""
        return self.versions_and_yanks(name)[0]

    def list(self, name: str | None = None) -> list[Manifest]:
        """All versions, by name and then by semantic precedence; of one name if it is given.

        Raises:
            StorageError, BundleError: a manifest cannot be read or is broken. UsageError: the storage cannot be listed.
        """
        names = self.names() if name is None else [name]
        versions = [(bundle_name, str(version)) for bundle_name in names for version in self.versions(bundle_name)]
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            manifests = pool.map(lambda version: self._manifest(*version), versions)
            return [manifest for manifest in manifests if manifest is not None]

    def catalogue(self, limit: int = 1000, name: str | None = None) -> Catalogue:
        """The first ``limit`` versions, of one name if it is given, with their yanks, whatever the rest is like.

        Raises:
            StorageError: the storage cannot be read. UsageError: it cannot be listed.
        """
        wanted: list[tuple[str, str, bool]] = []
        for listed in self.names() if name is None else [name]:
            if len(wanted) > limit:
                break
            versions, yanked = self.versions_and_yanks(listed)
            wanted += [(listed, str(version), str(version) in yanked) for version in versions]
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            entries = list(pool.map(lambda version: self._catalogue_entry(*version), wanted[:limit]))
        return Catalogue(
            [entry for entry in entries if isinstance(entry, CatalogueEntry)],
            [entry for entry in entries if isinstance(entry, AbsError)],
            len(wanted) > limit,
        )

    def resolve(self, reference: str | Reference) -> Manifest:
        """What a reference means now.

        A bare name means the highest release, or pre-release if there is no release. Yanked versions do not count for
        it; with their version they resolve, and whoever uses one shows ``yank_of``.

        Raises:
            UsageError: no reference, a range, or a bare name where the storage cannot be listed.
            UnknownNameError: no such bundle or version; lists those that are there.
            BundleError: the version has another digest than the reference pins, its manifest is broken, or every
                version of a bare name is yanked.
            StorageError: the storage cannot be read.
        """
        wanted = parse_reference(str(reference))
        version = wanted.version or self._best_version(wanted.name)
        manifest = None if version is None else self._manifest(wanted.name, version)
        if manifest is None:
            raise self._unknown(wanted)
        if wanted.digest is not None and wanted.digest != manifest.digest:
            raise BundleError(
                f"{self.address} has {wanted.name}@{version} with the digest {manifest.digest}, not {wanted.digest}",
                remedy="Pin the digest that is meant, and do not use the bundle before you know who changed it",
            )
        return manifest

    def resolve_version(self, reference: str | Reference) -> Manifest:
        """As ``resolve``, for what must not depend on what a bare name means; UsageError for a bare name."""
        wanted = parse_reference(str(reference))
        if wanted.version is None:
            raise UsageError(
                f"the reference must name a version, got {str(wanted)!r}",
                remedy=f"Name one, such as {wanted.name}@1.2.0",
            )
        return self.resolve(wanted)

    def path(self, reference: str | Reference | Manifest) -> Path:
        """The file of the local store that holds a bundle's bytes. It is not checked.

        Raises:
            as ``resolve``; UsageError: not a local store.
        """
        if self.root is None:
            raise UsageError(f"{self.address} is not a local store", remedy="Pull the bundle first")
        return self.root / self._meant(reference).object_path

    def read(self, reference: str | Reference | Manifest, folder: Path | None = None) -> Bundle:
        """A bundle by reference, validated and with the digest that its manifest names.

        Args:
            reference: of the bundle, or its manifest.
            folder: an empty one to which the bundle and its rejected completions are downloaded; None: they are read
                where they are, in a local store.

        Raises:
            as ``resolve``; BundleError: the bytes are not what the manifest names, or break a rule of the format.
            StorageError: the bytes cannot be read, or not written to the folder.
        """
        manifest = self._meant(reference)
        path = self.path(manifest) if folder is None else self._download(manifest, folder)
        bundle = read_bundle(path, digest=manifest.digest)
        if not manifest.describes(bundle.header):
            raise self._misreported(manifest, bundle.header.name, bundle.header.version)
        return bundle

    def summary(self, manifest: Manifest) -> HeaderSummary:
        """The header of a version without its classes. The first line alone is read, so no digest is checked.

        Raises:
            StorageError: the bytes cannot be read. BundleError: they are no bundle, or not what the manifest says.
        """
        if self.root is not None:
            summary = read_summary(self.path(manifest))
        else:
            summary = parse_summary(first_line(self._storage, manifest.object_path, MAX_HEADER_BYTES))
        if (summary.name, summary.version, summary.counts) != (manifest.name, manifest.version, manifest.counts):
            raise self._misreported(manifest, summary.name, summary.version)
        return summary

    def add(self, path: Path) -> Manifest:
        """Validate the bundle at ``path`` and keep it, with its rejected completions, under its name and version.

        Adding the same bytes again changes nothing, and in a folder restores an object that was lost or damaged.

        Raises:
            BundleError: the bundle is broken, or its version exists with another digest.
            StorageError, UsageError: the storage cannot be written.
        """
        bundle = read_bundle(path)
        self.publish(bundle)
        return self._manifest_of(bundle)

    def publish(self, bundle: Bundle) -> bool:
        """As ``add``, of a bundle that was validated; whether its version is new here."""
        manifest = self._manifest_of(bundle)
        self.refuse_conflict(manifest)
        path = manifest_path(manifest.name, manifest.version)
        created = self._storage.publish(self._blobs(bundle), path, manifest.serialize())
        if not created and not self.refuse_conflict(manifest):
            raise StorageError(f"{self.address} is being changed by another process", remedy="Try again")
        return created

    def restore(self, bundle: Bundle) -> None:
        """Write the bytes of a bundle that was validated, and of its rejected completions, whatever is there of them.

        Raises:
            StorageError, UsageError: the storage cannot be written.
        """
        self._storage.restore(self._blobs(bundle))

    def publish_yank(self, yank: Yank) -> None:
        """Yank a version for the reason that it has elsewhere, unless it is yanked here."""
        self._storage.publish([], yank_path(yank.name, yank.version), yank.serialize())

    def check_writable(self) -> None:
        """Prove that bundles can be published here without overwriting those of others.

        Raises:
            StorageError, UsageError: they cannot.
        """
        self._storage.check_writable()

    def holds(self, manifest: Manifest) -> bool:
        """Whether this is a local store that has a bundle whole, with its rejected completions."""
        existing = None if self.root is None else self._manifest(manifest.name, manifest.version)
        if existing is None or existing.digest != manifest.digest:
            return False
        path = self.path(existing)
        whole = path.is_file() and sha256_file(path) == existing.digest
        return whole and (not existing.counts.rejected or rejected_path(path).is_file())

    def refuse_conflict(self, manifest: Manifest, other: Repository | None = None) -> bool:
        """Whether the version of a manifest exists here.

        Args:
            manifest: of a bundle that is to be added.
            other: a repository with versions of that name; the error proposes one that is free in both.

        Raises:
            BundleError: it exists with another digest.
        """
        existing = self._manifest(manifest.name, manifest.version)
        if existing is not None and existing.digest != manifest.digest:
            version, free = f"{manifest.name}@{manifest.version}", self._free_version(manifest.name, other)
            command = "" if other is None else f", with `abs bundle renumber {version} --version {free}`"
            raise BundleError(
                f"{self.address} has {version} with the digest {existing.digest}, not {manifest.digest}",
                remedy=f"Give yours a new version, such as {free}{command}",
            )
        return existing is not None

    def yank_of(self, manifest: Manifest) -> Yank | None:
        """That a version is yanked, and why; None if it is not.

        Raises:
            StorageError, BundleError: the yank cannot be read or is broken.
        """
        path = yank_path(manifest.name, manifest.version)
        data = self._read_small_file(path)
        if data is None:
            return None
        yank = parse_yank(data, manifest)
        if yank is None:
            raise BundleError(
                f"{self.address}/{path}, line 1: the yank is broken or of another bundle",
                remedy="Remove the file, and yank the version again if it should be",
            )
        return yank

    def warn_if_yanked(self, manifest: Manifest) -> None:
        """Log a warning with the reason if a version is yanked; errors as ``yank_of``."""
        yank = self.yank_of(manifest)
        if yank is not None:
            _logger.warning("%s@%s was yanked: %s", manifest.name, manifest.version, yank.reason)

    def yank(self, reference: str | Reference, reason: str) -> Yank:
        """Yank one version: a bare name no longer means it. A version that is yanked already gets the new reason, or
        keeps the old one where files cannot be replaced.

        Args:
            reference: with a version.
            reason: one line for those who use the version.

        Raises:
            as ``resolve``; UsageError: a bare name, or a reason that cannot be one.
        """
        manifest = self.resolve_version(reference)
        problem = text_problem(reason)
        if problem is not None:
            raise UsageError(f"the reason {problem}", remedy="Say in one line why the version should not be used")
        yank = Yank(name=manifest.name, version=manifest.version, digest=manifest.digest, reason=reason)
        if not isinstance(self._storage, EditableStorage):
            self.publish_yank(yank)
            return self.yank_of(manifest) or yank
        self._storage.replace(yank_path(manifest.name, manifest.version), yank.serialize())
        return yank

    def undo_yank(self, reference: str | Reference) -> Manifest:
        """Make a yanked version one like any other.

        Raises:
            as ``resolve``; UsageError: a bare name, a version that is not yanked, or files that cannot be removed.
        """
        manifest = self.resolve_version(reference)
        if not self._editable_storage().remove(yank_path(manifest.name, manifest.version)):
            raise UsageError(f"{manifest.name}@{manifest.version} is not yanked", remedy="Name a yanked version")
        return manifest

    def children(self, parent: Manifest) -> Iterator[Manifest]:
        """The versions in this local store whose headers name ``parent``.

        Reads the first line of every bundle. One that cannot be read needs no parent, and is left out.

        Raises:
            StorageError: a folder of the store cannot be read. UsageError: not a local store.
        """
        for name in self.names():
            for version in self.versions(name):
                try:
                    manifest = self._manifest(name, str(version))
                    is_child = manifest is not None and str(parent) in read_summary(self.path(manifest)).parents
                except (BundleError, StorageError):
                    continue
                if manifest is not None and is_child:
                    yield manifest

    def remove(self, reference: str | Reference) -> Manifest:
        """Remove one version with its bytes and its rejected completions. Whether others need it is for the caller to
        ask, see ``children``.

        Raises:
            as ``resolve``; UsageError: a bare name, or files that cannot be removed; StorageError: one is not removed.
        """
        manifest = self.resolve_version(reference)
        path = manifest_path(manifest.name, manifest.version)
        storage = self._editable_storage()
        storage.remove(path, [manifest.object_path, manifest.rejected_path])
        storage.remove(yank_path(manifest.name, manifest.version))
        folder = f"{VERSIONS}/{manifest.name}"
        for file in storage.names(folder):
            if signature_key(file, manifest.version) is not None:
                storage.remove(f"{folder}/{file}")
        return manifest

    def next_version(self, name: str, bump: Literal["major", "minor", "patch"] = "minor") -> str:
        """The version that follows the highest one of ``name``; "1.0.0" if there is none, X.Y.Z after X.Y.Z-pre.

        Raises:
            UsageError: a name that cannot be one, or a storage that cannot be listed.
        """
        problem = name_problem(name)
        if problem is not None:
            raise UsageError(f"the bundle name {quoted(name)} {problem}", remedy="Choose another name")
        versions = self.versions(name)
        return str(versions[-1].following(bump)) if versions else "1.0.0"

    def _free_version(self, name: str, other: Repository | None) -> str:
        """The version that follows all of ``name`` here and, as far as it can be listed, in another repository."""
        versions = [self.next_version(name)]
        if other is not None:
            with suppress(StorageError, UsageError):
                versions.append(other.next_version(name))
        return str(max(version for text in versions if (version := parse_version(text)) is not None))

    def _meant(self, reference: str | Reference | Manifest) -> Manifest:
        return reference if isinstance(reference, Manifest) else self.resolve(reference)

    def _editable_storage(self) -> EditableStorage:
        if not isinstance(self._storage, EditableStorage):
            raise UsageError(f"nothing can be removed from {self.address} here", remedy="Use the tools of that service")
        return self._storage

    def versions_and_yanks(self, name: str) -> tuple[Sequence[Version], set[str]]:
        """As ``versions``, and those of which a yank is there, unread."""
        if name_problem(name) is not None:
            return [], set()
        files = self._storage.names(f"{VERSIONS}/{name}")
        stems = [file.removesuffix(".json") for file in files if file.endswith(".json")]
        yanked = {file.removesuffix(".yank") for file in files if file.endswith(".yank")}
        return sorted(version for stem in stems if (version := parse_version(stem))), yanked

    def _best_version(self, name: str) -> str | None:
        """The version that a bare name means, see ``resolve``; None if there is no version."""
        versions, yanked = self.versions_and_yanks(name)
        for version in sorted(versions, key=lambda v: (not v.pre, v), reverse=True):
            if str(version) not in yanked or not self._is_yanked(name, str(version)):
                return str(version)
        if not versions:
            return None
        last = str(versions[-1])
        manifest = self._manifest(name, last)
        yank = None if manifest is None else self.yank_of(manifest)
        reason = printable(yank.reason if yank else "", 200)
        raise BundleError(
            f"every version of {name!r} is yanked, {name}@{last} because: {reason}",
            remedy=f"Name the version if you need it anyway, such as {name}@{last}",
        )

    def _is_yanked(self, name: str, version: str) -> bool:
        manifest = self._manifest(name, version)
        return manifest is not None and self.yank_of(manifest) is not None

    def _unknown(self, wanted: Reference) -> UnknownNameError:
        try:
            known = [f"{wanted.name}@{version}" for version in reversed(self.versions(wanted.name))] or self.names()
        except UsageError:  # a web server that shows no index
            return UnknownNameError("bundle", str(wanted), [])
        where = "" if self.root is not None else f" --remote {self.address}"
        return UnknownNameError("bundle", str(wanted), known, remedy=f"See `abs bundle ls{where}`")

    def _manifest(self, name: str, version: str) -> Manifest | None:
        """The manifest of a version; None if there is none.

        Raises:
            BundleError: it is broken or of another bundle. StorageError: it cannot be read.
        """
        path = manifest_path(name, version)
        data = self._read_small_file(path)
        if data is None:
            return None
        manifest = parse_manifest(data, name, version)
        if manifest is None:
            foreign = foreign_content(data)
            what = "the manifest is broken or of another bundle" if foreign is None else f"this is {foreign[0]}"
            remedy = "Remove the file and add the bundle again, or tell whoever maintains this place"
            raise BundleError(
                f"{self.address}/{path}, line 1: {what}", remedy=remedy if foreign is None else foreign[1]
            )
        return manifest

    def _catalogue_entry(self, name: str, version: str, yanked: bool) -> CatalogueEntry | AbsError:
        try:
            manifest = self._manifest(name, version)
            if manifest is None:
                return StorageError(f"{name}@{version} in {self.address} was just removed", remedy="List it again")
            yank = self.yank_of(manifest) if yanked else None
        except AbsError as error:
            return error
        return CatalogueEntry(manifest, yank.reason if yank else None)

    def _read_small_file(self, path: str) -> bytes | None:
        data = bytearray()
        try:
            fetch(self._storage, path, data.extend, _MAX_SMALL_FILE)
        except FileNotFoundError:
            return None
        return bytes(data)

    def _manifest_of(self, bundle: Bundle) -> Manifest:
        with storage_errors(bundle.path, "read"):
            return Manifest.of(bundle.header, bundle.digest, bundle.path.stat().st_size)

    def _blobs(self, bundle: Bundle) -> Sequence[Blob]:
        manifest = self._manifest_of(bundle)
        blob = Blob(manifest.object_path, bundle.path, bundle.digest)
        rejected = rejected_path(bundle.path)
        if not bundle.header.counts.rejected or not rejected.exists():
            return [blob]
        # The rejected completions first: a bundle that is there is there whole.
        return [Blob(manifest.rejected_path, rejected, bundle.header.rejected_digest), blob]

    def _download(self, manifest: Manifest, folder: Path) -> Path:
        """Fetch a bundle, and its rejected completions if they are there; only the digests are checked."""
        version = f"{manifest.name}@{manifest.version}"
        if manifest.size > MAX_BYTES:
            raise BundleError(
                f"{version} in {self.address} has {manifest.size} bytes, more than {MAX_BYTES}",
                remedy="Split it by classes",
            )
        if shutil.disk_usage(folder).free < 2 * manifest.size:
            raise StorageError(
                f"{version} needs {2 * manifest.size} bytes while it is fetched, more than are free",
                remedy="Free some space or choose a home on another disk",
            )
        path = folder / f"{manifest.name}.jsonl"
        try:
            self._save(manifest.object_path, path, manifest.size, manifest.digest)
        except FileNotFoundError:
            raise BundleError(
                f"{self.address} lists {version} but lacks its bytes", remedy="Push it again from where it is whole"
            ) from None
        header = read_header(path)
        if not manifest.describes(header):
            raise self._misreported(manifest, header.name, header.version)
        if header.counts.rejected:
            with suppress(FileNotFoundError):  # the format allows them to be missing
                self._save(manifest.rejected_path, rejected_path(path), MAX_BYTES, header.rejected_digest)
        return path

    def _save(self, source: str, target: Path, limit: int, expected: str) -> None:
        digest = hashlib.sha256()
        head = bytearray()
        with storage_errors(target, "write"):
            stream = target.open("wb", buffering=0)

        def write(block: bytes) -> None:
            digest.update(block)
            head.extend(block[: HEAD_BYTES - len(head)])
            with storage_errors(target, "write"):
                rest = memoryview(block)
                while rest:
                    rest = rest[stream.write(rest) :]

        with stream:
            try:
                fetch(self._storage, source, write, limit)
            except BundleError as error:  # it is longer than its manifest says
                why, remedy = explain_alteration(bytes(head))
                raise BundleError(f"{error.message}{why}", remedy=remedy if why else error.remedy) from None
        if "sha256:" + digest.hexdigest() != expected:
            why, remedy = explain_alteration(bytes(head))
            raise BundleError(
                f"{self.address}/{source} has the digest sha256:{digest.hexdigest()}, not {expected}{why}",
                remedy=remedy,
            )

    def _misreported(self, manifest: Manifest, name: str, version: str) -> BundleError:
        return BundleError(
            f"the manifest of {manifest.name}@{manifest.version} in {self.address} names the bytes of {name}@{version} "
            "or misreports them",
            remedy="Remove the manifest and add the bundle again, or tell whoever maintains this place",
        )
