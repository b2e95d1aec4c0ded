"""The small files of a repository, and where everything lies in one. Pure.

    objects/sha256/ab/abcd....jsonl            a bundle, named by the sha256 of its bytes
    objects/sha256/ab/abcd....rejected.jsonl   the rejected completions beside it, if there are any
    versions/birds/1.2.0.json                  the manifest: which bytes birds@1.2.0 is
    versions/birds/1.2.0.yank                  if it is there: that birds@1.2.0 is yanked, and why
    versions/birds/1.2.0.0f3c....sig           a signature of the manifest, by the key with this digest

The layout is the same everywhere: docs/sharing.md is normative. What is parsed here may come from a hostile place.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from abs_core.canonical import canonical_json
from abs_descriptions.bundles.format import MAX_TEXT, BundleHeader, Counts, text_problem
from abs_descriptions.bundles.references import DIGEST, Reference

__all__ = [
    "VERSIONS",
    "Manifest",
    "Yank",
    "manifest_path",
    "parse_manifest",
    "parse_yank",
    "signature_file",
    "signature_key",
    "yank_path",
]

#: The folder with a folder of manifests for each name.
VERSIONS = "versions"
_SIGNATURE = re.compile(r"(.+)\.([0-9a-f]{32})\.sig")
_Digest = Annotated[str, StringConstraints(pattern="^" + DIGEST.pattern + r"\z")]


class _SmallFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def serialize(self) -> bytes:
        """The bytes of the file: one line of canonical JSON."""
        return (canonical_json(self.model_dump(mode="json")) + "\n").encode()


class Manifest(_SmallFile):
    """One version of one bundle, and what a listing shows of it. ``str`` gives the pinned reference."""

    format: Literal["abs-bundle-manifest"] = "abs-bundle-manifest"
    format_version: Literal[1] = 1
    name: str
    version: str
    digest: _Digest
    size: Annotated[int, Field(ge=0)]
    created: str
    complete: bool
    counts: Counts

    @classmethod
    def of(cls, header: BundleHeader, digest: str, size: int) -> Manifest:
        """The manifest of a bundle.

        Args:
            header: of the bundle.
            digest: of all its bytes, ``sha256:...``.
            size: the number of its bytes.
        """
        return cls(
            name=header.name,
            version=header.version,
            digest=digest,
            size=size,
            created=header.created,
            complete=header.complete,
            counts=header.counts,
        )

    @property
    def reference(self) -> Reference:
        """The pinned reference."""
        return Reference(self.name, self.version, self.digest)

    @property
    def object_path(self) -> str:
        """Where the bytes of the bundle are."""
        kind, _, hexadecimal = self.digest.partition(":")
        return f"objects/{kind}/{hexadecimal[:2]}/{hexadecimal}.jsonl"

    @property
    def rejected_path(self) -> str:
        """Where the rejected completions beside the bundle are."""
        return self.object_path.removesuffix(".jsonl") + ".rejected.jsonl"

    def describes(self, header: BundleHeader) -> bool:
        """Whether a header says what this manifest says of it."""
        return self == Manifest.of(header, self.digest, self.size)

    def __str__(self) -> str:
        return str(self.reference)


class Yank(_SmallFile):
    """That a version is yanked, and why: it is no longer what a bare name means, and every use of it says so."""

    format: Literal["abs-bundle-yank"] = "abs-bundle-yank"
    format_version: Literal[1] = 1
    name: str
    version: str
    digest: _Digest
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]


def manifest_path(name: str, version: str) -> str:
    """Where the manifest of a version is."""
    return f"{VERSIONS}/{name}/{version}.json"


def yank_path(name: str, version: str) -> str:
    """Where the yank of a version is."""
    # Not in .json: "1.2.0-rc.yank" is a version, and its manifest would have this name.
    return f"{VERSIONS}/{name}/{version}.yank"


def signature_file(version: str, key: str) -> str:
    """The name of the file, beside the manifest, with the signature of a version by a key.

    Args:
        version: the version.
        key: the first 32 hexadecimal digits of the sha256 of the public key in SSH's encoding.
    """
    return f"{version}.{key}.sig"


def signature_key(file: str, version: str) -> str | None:
    """By which key a file is a signature of a version; None if it is something else."""
    match = _SIGNATURE.fullmatch(file)
    return match[2] if match is not None and match[1] == version else None


def parse_manifest(data: bytes, name: str, version: str) -> Manifest | None:
    """The manifest that a file holds; None if it is broken or of another version than this one."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError:
        return None
    return manifest if (manifest.name, manifest.version) == (name, version) else None


def parse_yank(data: bytes, manifest: Manifest) -> Yank | None:
    """The yank that a file holds; None if it is broken or of other bytes than those of the manifest."""
    try:
        yank = Yank.model_validate_json(data)
    except ValidationError:
        return None
    is_of_it = (yank.name, yank.version, yank.digest) == (manifest.name, manifest.version, manifest.digest)
    return yank if is_of_it and text_problem(yank.reason) is None else None
