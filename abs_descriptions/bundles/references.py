"""Names, semantic versions and references of bundles. Pure.

A reference is ``name``, ``name@version`` or ``name@version#sha256:HEX``. Only the last one pins what is read; a range
such as ``birds@^1.2`` is refused, because what it means changes while nobody looks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal

from abs_core.errors import UsageError
from abs_core.text import quoted

__all__ = [
    "DIGEST",
    "NAME",
    "VERSION",
    "Reference",
    "Version",
    "name_problem",
    "parse_reference",
    "parse_version",
    "pinned_problem",
]

#: What a digest looks like.
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,99}")

VERSION = re.compile(
    r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(?:-([0-9a-z-]{1,20}(?:\.[0-9a-z-]{1,20}){0,4}))?"
)

_RANGE = re.compile(r"[\^~<>=*, |]|(?:^|\.)[xX](?:\.|$)")

# Windows opens a device under these names, whatever follows the first full stop.
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))]
)


def name_problem(name: str) -> str | None:
    """Why ``name`` cannot name a bundle, continuing "the name ..."; None if it can.

    A name becomes a folder on every system, so it is lower-case ASCII, cannot climb (no separator, no leading dot),
    does not end in a full stop (Windows drops it) and is no Windows device.
    """
    if not NAME.fullmatch(name):
        return "must be 1 to 100 of a-z, 0-9, '.', '_', '-' without a leading dot"
    if name.endswith("."):
        return "ends in a full stop"
    if name.partition(".")[0] in _RESERVED:
        return "is the name of a Windows device"
    return None


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version (semver.org 2.0.0) in lower case and without build metadata.

    Build metadata does not enter precedence, so two versions could be equal and differ; the format refuses it.
    """

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    def __str__(self) -> str:
        tail = "-" + ".".join(self.pre) if self.pre else ""
        return f"{self.major}.{self.minor}.{self.patch}{tail}"

    def following(self, bump: Literal["major", "minor", "patch"]) -> Version:
        """The next release: after a pre-release the release itself."""
        if self.pre:
            return Version(self.major, self.minor, self.patch)
        if bump == "major":
            return Version(self.major + 1, 0, 0)
        if bump == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        # semver 11: a release is above its pre-releases, numbers are below words, a prefix is below what goes on
        parts = tuple((not p.isdigit(), int(p) if p.isdigit() else 0, "" if p.isdigit() else p) for p in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, parts)


def parse_version(text: str) -> Version | None:
    """The semantic version that ``text`` writes, or None if it is none."""
    match = VERSION.fullmatch(text)
    if match is None:
        return None
    pre = tuple(match[4].split(".")) if match[4] else ()
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in pre):
        return None
    return Version(int(match[1]), int(match[2]), int(match[3]), pre)


@dataclass(frozen=True, slots=True)
class Reference:
    """Which bundle is meant: by name, by name and version, or pinned by the digest of its bytes."""

    name: str
    version: str | None = None
    digest: str | None = None

    @property
    def pinned(self) -> bool:
        """Whether the reference can only mean one sequence of bytes."""
        return self.digest is not None

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version is not None else ""
        return f"{self.name}{version}" + (f"#{self.digest}" if self.digest is not None else "")


def parse_reference(text: str) -> Reference:
    """Read ``name``, ``name@version`` or ``name@version#sha256:HEX``.

    Raises:
        UsageError: a name that could climb out of a store, a range, an invalid version or digest.
    """
    head, hash_sign, digest = text.partition("#")
    name, at_sign, version = head.partition("@")
    problem = name_problem(name)
    if problem is not None:
        raise UsageError(f"bundle reference {quoted(text)}: the name {problem}", remedy="Choose another name")
    if at_sign and parse_version(version) is None:
        if _RANGE.search(version) or version == "latest" or version.count(".") < 2:
            raise UsageError(
                f"bundle reference {quoted(text)} names a range, not a version",
                remedy="Name one version, such as name@1.2.0",
            )
        raise UsageError(
            f"bundle reference {quoted(text)}: {quoted(version)} is not a semantic version",
            remedy="Write MAJOR.MINOR.PATCH, such as 1.2.0 or 1.3.0-rc.1, in lower case and without '+'",
        )
    if hash_sign and not (at_sign and DIGEST.fullmatch(digest)):
        raise UsageError(
            f"bundle reference {quoted(text, 120)} is not pinned correctly",
            remedy="Write name@version#sha256: and 64 hexadecimal digits in lower case",
        )
    return Reference(name, version if at_sign else None, digest if hash_sign else None)


def pinned_problem(text: str) -> str | None:
    """Why ``text`` is no pinned reference, continuing "the reference ..."; None if it is one."""
    try:
        reference = parse_reference(text)
    except UsageError as error:
        return f"cannot be read ({error.message})"
    return None if reference.pinned else "names no digest"
