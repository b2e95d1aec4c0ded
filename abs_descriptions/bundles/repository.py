"""Bundles by name and version in a folder that several processes may share.

    ROOT/objects/sha256/ab/abcd....jsonl            a bundle, named by the sha256 of its bytes
    ROOT/objects/sha256/ab/abcd....rejected.jsonl   the rejected completions beside it, if there are any
    ROOT/versions/birds/1.2.0.json                  the manifest: which bytes birds@1.2.0 is
    ROOT/versions/birds/1.2.0.yank                  if it is there: that birds@1.2.0 is yanked, and why

Objects are written first and the manifest last, by linking a finished file to a name that must not exist. So a killed
process leaves at most an object that nothing names, and of two processes that add one version with different bytes
exactly one succeeds. A version never changes its bytes. Removing goes the other way, the manifest first.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError, StorageError, UnknownNameError, UsageError
from abs_core.files import atomic_write, data_folder, is_file, publish, sha256_file, storage_errors
from abs_core.home import Home
from abs_core.text import printable
from abs_descriptions.bundles.format import MAX_TEXT, Counts, text_problem
from abs_descriptions.bundles.reader import Bundle, read_bundle, read_header, rejected_path
from abs_descriptions.bundles.references import (
    DIGEST,
    Reference,
    Version,
    name_problem,
    parse_reference,
    parse_version,
    quoted,
)

__all__ = [
    "BundleStore",
    "StoreEntry",
    "Yank",
    "copy_checked",
    "find_bundle",
    "is_bundle_name",
    "refuse_shipped",
    "shipped_bundles",
    "warn_of_yank",
]


_logger = logging.getLogger(__name__)


_CHUNK = 1024 * 1024


def copy_checked(source: Path, target: Path, digest: str) -> int:
    """Copy a file whose bytes have ``digest``, unless the target has them.

    Returns:
        The number of bytes.

    Raises:
        StorageError: a file cannot be read or written.
        BundleError: the source's bytes have another digest.
    """
    with storage_errors(source, "read"), source.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if target.is_file() and sha256_file(target) == digest:
            return size
        seen = hashlib.sha256()
        with atomic_write(target) as out:
            while block := stream.read(_CHUNK):
                seen.update(block)
                out.write(block)
            if "sha256:" + seen.hexdigest() != digest:
                raise BundleError(
                    f"{printable(str(source))} changed while it was copied", remedy="Add it again when it is written"
                )
    return size


_MAX_MANIFEST = 64 * 1024


_Digest = Annotated[str, StringConstraints(pattern="^" + DIGEST.pattern + r"\z")]


class StoreEntry(BaseModel):
    """A manifest: one version of one bundle, and what a listing shows of it. ``str`` gives the pinned reference."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["abs-bundle-manifest"] = "abs-bundle-manifest"
    format_version: Literal[1] = 1
    name: str
    version: str
    digest: _Digest
    size: Annotated[int, Field(ge=0)]
    created: str
    complete: bool
    counts: Counts

    @property
    def reference(self) -> Reference:
        """The pinned reference."""
        return Reference(self.name, self.version, self.digest)

    def __str__(self) -> str:
        return str(self.reference)


class Yank(BaseModel):
    """That a version is yanked, and why: it is no longer what a bare name means, and every use of it says so."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["abs-bundle-yank"] = "abs-bundle-yank"
    format_version: Literal[1] = 1
    name: str
    version: str
    digest: _Digest
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]


class BundleStore:
    """The bundles in one folder. A folder that does not exist is an empty store; writing creates it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._versions = root / "versions"

    def list(self, name: str | None = None) -> list[StoreEntry]:
        """All versions, by name and then by semantic precedence; of one name if it is given.

        Raises:
            StorageError, BundleError: a manifest cannot be read or is broken.
        """
        names = self._names() if name is None else [name]
        return [self._entry(each, str(version)) for each in names for version in self._versions_of(each)]

    def resolve(self, reference: str | Reference) -> StoreEntry:
        """What a reference means now.

        A bare name means the highest release, or pre-release if there is no release. Yanked versions do not count for
        it; with their version they resolve, and whoever uses one shows ``yank_of``.

        Raises:
            UsageError: no reference, or a range.
            UnknownNameError: no such bundle or version; lists those that are there.
            BundleError: the version is there with another digest than the reference pins, or a bare name of which every
                version is yanked.
            StorageError: the manifest cannot be read.
        """
        wanted = parse_reference(reference) if isinstance(reference, str) else parse_reference(str(reference))
        versions = self._versions_of(wanted.name)
        if not versions:
            raise UnknownNameError("bundle", str(wanted), self._names(), remedy="See `abs bundle ls`")
        version = self._best(wanted.name, versions) if wanted.version is None else wanted.version
        if parse_version(version) not in versions:
            known = [f"{wanted.name}@{v}" for v in reversed(versions)]
            raise UnknownNameError("bundle", str(wanted), known, remedy="See `abs bundle ls`")
        entry = self._entry(wanted.name, version)
        if wanted.digest is not None and wanted.digest != entry.digest:
            raise BundleError(
                f"{wanted.name}@{version} is in the store with the digest {entry.digest}, not {wanted.digest}",
                remedy="Pin the digest that is meant, or get that bundle from where it was pinned",
            )
        return entry

    def resolve_version(self, reference: str | Reference) -> StoreEntry:
        """As ``resolve``, for what must not depend on what a bare name means; UsageError for a bare name."""
        wanted = parse_reference(str(reference))
        if wanted.version is None:
            raise UsageError(f"{str(wanted)!r} names no version", remedy=f"Name one, such as {wanted.name}@1.2.0")
        return self.resolve(wanted)

    def path(self, reference: str | Reference) -> Path:
        """The file that holds a bundle's bytes; errors as ``resolve``. The file is not checked."""
        return self._object(self.resolve(reference).digest)

    def read(self, reference: str | Reference) -> Bundle:
        """A bundle by reference, validated and with the digest that its manifest names.

        Raises:
            as ``resolve``, and BundleError or StorageError if the bytes are broken or gone.
        """
        entry = self.resolve(reference)
        bundle = read_bundle(self._object(entry.digest), digest=entry.digest)
        if (bundle.header.name, bundle.header.version) != (entry.name, entry.version):
            raise BundleError(
                f"the manifest of {entry.name}@{entry.version} names the bytes of {bundle.reference}",
                remedy="Remove the manifest and add the bundle again",
            )
        return bundle

    def add(self, path: Path) -> StoreEntry:
        """Validate the bundle at ``path`` and keep it, with its rejected completions, under its name and version.

        Adding the same bytes again changes nothing (and mends an object that was lost or damaged).

        Raises:
            BundleError: the bundle is broken, or its version exists with another digest.
            StorageError: the store cannot be written.
        """
        bundle = read_bundle(path)
        header = bundle.header
        self.refuse_other(header.name, header.version, bundle.digest)
        target = self._object(bundle.digest)
        # The rejected completions first: a bundle that is there is there whole.
        if rejected_path(path).exists() and header.counts.rejected:
            copy_checked(rejected_path(path), rejected_path(target), header.rejected_digest)
        size = copy_checked(path, target, bundle.digest)
        entry = StoreEntry(
            name=header.name,
            version=header.version,
            digest=bundle.digest,
            size=size,
            created=header.created,
            complete=header.complete,
            counts=header.counts,
        )
        text = canonical_json(entry.model_dump(mode="json")) + "\n"
        if not publish(self._manifest(header.name, header.version), text.encode()):
            self.refuse_other(header.name, header.version, bundle.digest)
        if not target.is_file():
            # Somebody removed this version in between: see ``remove``.
            return self.add(path)
        return entry

    def yank_of(self, entry: StoreEntry) -> Yank | None:
        """That a version is yanked, and why; None if it is not.

        Raises:
            StorageError, BundleError: the yank cannot be read or is broken.
        """
        path = self._yank(entry.name, entry.version)
        with storage_errors(path, "read"):
            try:
                with path.open("rb") as stream:
                    text = stream.read(_MAX_MANIFEST)
            except FileNotFoundError:
                return None
        try:
            yank = Yank.model_validate_json(text)
        except ValidationError:
            yank = None
        if yank is None or (yank.name, yank.version, yank.digest) != (entry.name, entry.version, entry.digest):
            raise BundleError(
                f"{printable(str(path))}, line 1: the yank is broken or of another bundle",
                remedy="Remove the file, and yank the version again if it should be",
            )
        return yank

    def yank(self, reference: str | Reference, reason: str) -> Yank:
        """Yank one version: a bare name no longer means it. A version that is yanked already gets the new reason.

        Args:
            reference: with a version.
            reason: one line for those who use the version.

        Raises:
            as ``resolve``; UsageError: a bare name, or a reason that cannot be one.
        """
        entry = self.resolve_version(reference)
        fault = text_problem(reason)
        if fault is not None:
            raise UsageError(f"the reason {fault}", remedy="Say in one line why the version should not be used")
        yank = Yank(name=entry.name, version=entry.version, digest=entry.digest, reason=reason)
        with atomic_write(self._yank(entry.name, entry.version)) as stream:
            stream.write((canonical_json(yank.model_dump(mode="json")) + "\n").encode())
        return yank

    def undo_yank(self, reference: str | Reference) -> StoreEntry:
        """Make a yanked version one like any other.

        Raises:
            as ``resolve``; UsageError: a bare name, or a version that is not yanked.
        """
        entry = self.resolve_version(reference)
        path = self._yank(entry.name, entry.version)
        with storage_errors(path, "remove"):
            try:
                path.unlink()
            except FileNotFoundError:
                raise UsageError(
                    f"{entry.name}@{entry.version} is not yanked", remedy="Name a yanked version"
                ) from None
        return entry

    def children(self, entry: StoreEntry) -> Iterator[StoreEntry]:
        """The versions in this store whose headers name ``entry`` as a parent.

        Reads the first line of every bundle. One that cannot be read needs no parent, and is left out.

        Raises:
            StorageError: a folder of the store cannot be read.
        """
        for name in self._names():
            for version in self._versions_of(name):
                try:
                    other = self._entry(name, str(version))
                    is_child = str(entry) in read_header(self._object(other.digest)).parents
                except (BundleError, StorageError):
                    continue
                if is_child:
                    yield other

    def remove(self, reference: str | Reference) -> StoreEntry:
        """Take one version out of the store, with its bytes and its rejected completions. Whether others need it is
        the caller's question, see ``children``.

        Raises:
            as ``resolve``; UsageError: a bare name; StorageError: a file cannot be removed.
        """
        entry = self.resolve_version(reference)
        manifest, found = self._manifest(entry.name, entry.version), self._object(entry.digest)
        with storage_errors(manifest, "remove"):
            manifest.unlink(missing_ok=True)
            self._yank(entry.name, entry.version).unlink(missing_ok=True)
        for path in (found, rejected_path(found)):
            # Moved away first: whoever adds the version again in this instant either finds the bytes gone and writes
            # them again, or has published its manifest, which is seen here.
            away = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
            with storage_errors(path, "remove"), suppress(FileNotFoundError):
                path.replace(away)
                if manifest.exists():
                    away.replace(path)
                else:
                    away.unlink()
        return entry

    def next_version(self, name: str, bump: Literal["major", "minor", "patch"] = "minor") -> str:
        """The version that follows the highest one of ``name``; "1.0.0" if there is none, X.Y.Z after X.Y.Z-pre.

        Raises:
            UsageError: a name that cannot be one.
        """
        fault = name_problem(name)
        if fault is not None:
            raise UsageError(f"the bundle name {quoted(name)} {fault}", remedy="Choose another name")
        versions = self._versions_of(name)
        if not versions:
            return "1.0.0"
        last = versions[-1]
        if last.pre:
            return str(Version(last.major, last.minor, last.patch))
        if bump == "major":
            return str(Version(last.major + 1, 0, 0))
        if bump == "minor":
            return str(Version(last.major, last.minor + 1, 0))
        return str(Version(last.major, last.minor, last.patch + 1))

    def refuse_other(self, name: str, version: str, digest: str) -> None:
        """Raise BundleError if the version exists with another digest than this one."""
        if not self._manifest(name, version).exists():
            return
        entry = self._entry(name, version)
        if entry.digest != digest:
            raise BundleError(
                f"{name}@{version} exists with the digest {entry.digest} and cannot become {digest}",
                remedy=f"Give the bundle a new version, such as {self.next_version(name)}",
            )

    def _best(self, name: str, versions: Sequence[Version]) -> str:
        """The version that a bare name means: see ``resolve``."""
        for version in sorted(versions, key=lambda v: (not v.pre, v), reverse=True):
            if self.yank_of(self._entry(name, str(version))) is None:
                return str(version)
        last = f"{name}@{versions[-1]}"
        yank = self.yank_of(self._entry(name, str(versions[-1])))
        raise BundleError(
            f"every version of {name!r} is yanked, {last} because: {printable(yank.reason if yank else '', 200)}",
            remedy=f"Name the version if you need it all the same, such as {last}",
        )

    def _names(self) -> Sequence[str]:
        with storage_errors(self._versions, "read"):
            if not self._versions.is_dir():
                return []
            names = sorted(entry.name for entry in self._versions.iterdir() if name_problem(entry.name) is None)
        return [name for name in names if self._versions_of(name)]  # the folder stays when its last version goes

    def _versions_of(self, name: str) -> Sequence[Version]:
        if name_problem(name) is not None:
            return []
        folder = self._versions / name
        with storage_errors(folder, "read"):
            if not folder.is_dir():
                return []
            files = [entry.name for entry in folder.iterdir() if entry.suffix == ".json"]
        return sorted(version for file in files if (version := parse_version(file.removesuffix(".json"))))

    def _entry(self, name: str, version: str) -> StoreEntry:
        path = self._manifest(name, version)
        with storage_errors(path, "read"), path.open("rb") as stream:
            text = stream.read(_MAX_MANIFEST)
        try:
            entry = StoreEntry.model_validate_json(text)
        except ValidationError:
            entry = None
        if entry is None or (entry.name, entry.version) != (name, version):
            raise BundleError(
                f"{printable(str(path))}, line 1: the manifest is broken or of another bundle",
                remedy="Remove the file and add the bundle again",
            )
        return entry

    def _manifest(self, name: str, version: str) -> Path:
        return self._versions / name / f"{version}.json"

    def _yank(self, name: str, version: str) -> Path:
        # Not in .json: "1.2.0-rc.yank" is a version, and its manifest would have this name.
        return self._versions / name / f"{version}.yank"

    def _object(self, digest: str) -> Path:
        kind, _, hexadecimal = digest.partition(":")
        return self.root / "objects" / kind / hexadecimal[:2] / f"{hexadecimal}.jsonl"


def find_bundle(home: Home, reference: str) -> Bundle:
    """A validated bundle by reference, or by path if there is such a file. Says on stderr if it was yanked.

    A file without the ending of bundles gives way to a bundle of its name, unless it is written ./NAME.

    Raises:
        UnknownNameError: no such bundle; lists those that are there.
        BundleError, StorageError: it cannot be read, or breaks a rule.
    """
    from abs_descriptions.bundles.reader import read_bundle
    from abs_descriptions.bundles.references import parse_reference

    path = Path(reference)
    if path.suffix == ".jsonl" or (is_file(path) and not is_bundle_name(home, reference)):
        return read_bundle(path)
    store = BundleStore(home.bundles)
    parse_reference(reference)  # a range is refused, whoever could answer it
    name, at, _ = reference.partition("@")
    shipped = shipped_bundles().get(name)
    if shipped is not None and not store.list(name):
        return _pinned(read_bundle(shipped), reference)
    try:
        entry = store.resolve(reference)
    except (UnknownNameError, BundleError) as error:
        # A version of one's own does not hide the shipped one; one of its number does, unless a digest is named.
        is_unknown = isinstance(error, UnknownNameError)
        named = shipped is not None and at and (is_unknown or "#" in reference)
        if shipped is not None and named and _is_named((bundle := read_bundle(shipped)), reference):
            return bundle
        if not is_unknown or store.list(name):
            raise  # the name is there, and the error says which versions of it
        names = sorted({entry.name for entry in store.list()} | shipped_bundles().keys())
        remedy = "See `abs bundle ls`, or write one with `abs gen-descriptions LABELS --name NAME`"
        raise UnknownNameError("bundle", reference, names, remedy=remedy) from error
    warn_of_yank(store, entry)
    return store.read(entry.reference)


def warn_of_yank(store: BundleStore, entry: StoreEntry) -> bool:
    """Whether a version is yanked; if so, a warning says why."""
    yank = store.yank_of(entry)
    if yank is not None:
        _logger.warning("%s@%s was yanked: %s", entry.name, entry.version, yank.reason)
    return yank is not None


def is_bundle_name(home: Home, reference: str) -> bool:
    """Whether the local store, or what ships with the toolkit, has a bundle of the name in a reference."""

    name = reference.partition("@")[0]
    return name in shipped_bundles() or bool(BundleStore(home.bundles).list(name))


def shipped_bundles() -> dict[str, Path]:
    """The bundles that ship with the toolkit: name to file. A bare name means one in the store, if there is any."""
    return {path.name.rpartition("-")[0]: path for path in sorted((data_folder() / "bundles").glob("*.jsonl"))}


def refuse_shipped(home: Home, reference: str) -> None:
    """For what changes or copies versions of the local store.

    Raises:
        UsageError: the reference can only mean a bundle that ships with the toolkit.
    """

    name = reference.partition("@")[0]
    if name in shipped_bundles() and not BundleStore(home.bundles).list(name):
        raise UsageError(
            f"{reference!r} ships with the toolkit and is not in the local store",
            remedy="Name a version of the local store; who has the toolkit has the shipped ones",
        )


def _pinned(bundle: Bundle, reference: str) -> Bundle:
    if not _is_named(bundle, reference):
        raise UnknownNameError("bundle", reference, [bundle.reference])
    return bundle


def _is_named(bundle: Bundle, reference: str) -> bool:
    return f"{bundle.reference}#".startswith((f"{reference}#", f"{reference}@"))
