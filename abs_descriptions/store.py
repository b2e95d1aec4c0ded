"""Bundles by name and version in a folder that several processes may share.

    ROOT/objects/sha256/ab/abcd....jsonl            a bundle, named by the sha256 of its bytes
    ROOT/objects/sha256/ab/abcd....rejected.jsonl   the rejected completions beside it, if there are any
    ROOT/versions/birds/1.2.0.json                  the manifest: which bytes birds@1.2.0 is

Objects are written first and the manifest last, by linking a finished file to a name that must not exist. So a killed
process leaves at most an object that nothing names, and of two processes that add one version with different bytes
exactly one succeeds. A version never changes its bytes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError, UnknownNameError, UsageError
from abs_core.files import atomic_write, sha256_file, storage_errors
from abs_core.printable import printable
from abs_descriptions.bundles.models import Counts
from abs_descriptions.bundles.reader import Bundle, read_bundle
from abs_descriptions.bundles.rejected import rejected_path
from abs_descriptions.references import DIGEST, Reference, Version, name_fault, parse_reference, parse_version, quoted

__all__ = ["BundleStore", "StoreEntry"]

_CHUNK = 1024 * 1024
_MAX_MANIFEST = 64 * 1024
_SHOWN = 20
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class StoreEntry(BaseModel):
    """A manifest: one version of one bundle, and what a listing shows of it. ``str`` gives the pinned reference."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["abs-bundle-manifest"] = "abs-bundle-manifest"
    format_version: Literal[1] = 1
    name: str
    version: str
    digest: Annotated[str, StringConstraints(pattern="^" + DIGEST.pattern + r"\z")]
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
        """What a reference means now. A bare name means the highest release, or pre-release if there is no release.

        Raises:
            UsageError: no reference, or a range.
            UnknownNameError: no such bundle or version; lists those that are there.
            BundleError: the version is there with another digest than the reference pins.
            StorageError: the manifest cannot be read.
        """
        wanted = parse_reference(reference) if isinstance(reference, str) else parse_reference(str(reference))
        versions = self._versions_of(wanted.name)
        if not versions:
            raise UnknownNameError("bundle", str(wanted), _shortened(self._names()))
        version = str(max(versions, key=lambda v: (not v.pre, v))) if wanted.version is None else wanted.version
        if parse_version(version) not in versions:
            known = [f"{wanted.name}@{v}" for v in reversed(versions)]
            raise UnknownNameError("bundle", str(wanted), _shortened(known))
        entry = self._entry(wanted.name, version)
        if wanted.digest is not None and wanted.digest != entry.digest:
            raise BundleError(
                f"{wanted.name}@{version} is in the store with the digest {entry.digest}, not {wanted.digest}",
                remedy="Pin the digest that is meant, or get that bundle from where it was pinned",
            )
        return entry

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
        self._refuse_other(header.name, header.version, bundle.digest)
        target = self._object(bundle.digest)
        # The rejected completions first: a bundle that is there is there whole.
        if rejected_path(path).exists() and header.counts.rejected:
            _copy(rejected_path(path), rejected_path(target), header.rejected_digest)
        size = _copy(path, target, bundle.digest)
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
        if not _publish(self._manifest(header.name, header.version), text.encode()):
            self._refuse_other(header.name, header.version, bundle.digest)
        return entry

    def next_version(self, name: str, bump: Literal["major", "minor", "patch"] = "minor") -> str:
        """The version that follows the highest one of ``name``; "1.0.0" if there is none, X.Y.Z after X.Y.Z-pre.

        Raises:
            UsageError: a name that cannot be one.
        """
        fault = name_fault(name)
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

    def _names(self) -> Sequence[str]:
        with storage_errors(self._versions, "read"):
            if not self._versions.is_dir():
                return []
            return sorted(entry.name for entry in self._versions.iterdir() if name_fault(entry.name) is None)

    def _versions_of(self, name: str) -> Sequence[Version]:
        if name_fault(name) is not None:
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

    def _refuse_other(self, name: str, version: str, digest: str) -> None:
        if not self._manifest(name, version).exists():
            return
        entry = self._entry(name, version)
        if entry.digest != digest:
            raise BundleError(
                f"{name}@{version} exists with the digest {entry.digest} and cannot become {digest}",
                remedy=f"Give the bundle a new version, such as {self.next_version(name)}",
            )

    def _manifest(self, name: str, version: str) -> Path:
        return self._versions / name / f"{version}.json"

    def _object(self, digest: str) -> Path:
        kind, _, hexadecimal = digest.partition(":")
        return self.root / "objects" / kind / hexadecimal[:2] / f"{hexadecimal}.jsonl"


def _shortened(names: Sequence[str]) -> Sequence[str]:
    return names if len(names) <= _SHOWN else [*names[:_SHOWN], f"and {len(names) - _SHOWN} more"]


def _copy(source: Path, target: Path, digest: str) -> int:
    """Copy a file whose bytes have ``digest``, unless the target has them; the number of bytes."""
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


def _publish(path: Path, data: bytes) -> bool:
    """Let a small file appear under a name that must not exist; False if it does."""
    with storage_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            return _link(Path(name), path)
        finally:
            with suppress(OSError):
                Path(name).unlink()


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links (FAT, some network folders): look first, then rename.
        if target.exists():
            return False
        source.replace(target)
    return True
