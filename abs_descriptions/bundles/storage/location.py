"""Locations of bundles as a user writes them: which protocols there are, and what no location may hold. Pure.

A location never holds a secret: credentials come from the environment. One that is refused is not repeated in the
message, because what is wrong with it may be a password or a signature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import UnknownNameError, UsageError

__all__ = ["PROTOCOLS", "Location", "parse_location"]


#: protocol -> what is written after it
PROTOCOLS = {
    "file": "//FOLDER (or a path alone)",
    "s3": "//BUCKET/FOLDER",
    "gs": "//BUCKET/FOLDER",
    "http": "//HOST/FOLDER (to pull from)",
    "https": "//HOST/FOLDER (to pull from)",
    "hf": "//datasets/OWNER/NAME@REVISION",
}


# Two letters at least: "C:" is a drive.
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+._-]+):")


_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?")


_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


_SEGMENT = re.compile(r"[A-Za-z0-9_.=+,~%-]{1,200}")


_HUB = re.compile(
    r"datasets/(?P<repo>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9_.-]{0,99}))?"
)


@dataclass(frozen=True)
class Location:
    """A place for bundles.

    Args:
        protocol: a key of ``PROTOCOLS``.
        path: a folder; ``bucket/folder``; ``host/folder``; for hf ``OWNER/NAME``. Without a final slash.
        revision: for hf a branch, a tag or a commit; else empty.
    """

    protocol: str
    path: str
    revision: str = ""

    def __str__(self) -> str:
        if self.protocol == "file":
            return self.path
        if self.protocol == "hf":
            return f"hf://datasets/{self.path}" + (f"@{self.revision}" if self.revision else "")
        return f"{self.protocol}://{self.path}"


def parse_location(text: str) -> Location:
    """Read a location.

    Raises:
        UnknownNameError: a protocol that is not in ``PROTOCOLS``.
        UsageError: chained protocols, user information, a query, a path that climbs. The text is not in the message.
    """
    if not text or "\0" in text:
        raise UsageError("the location is empty or holds a NUL character", remedy="Name a folder, or a URL")
    if "::" in text:
        raise UsageError("the location chains protocols with '::'", remedy="Name one place, such as s3://team/bundles")
    match = _PROTOCOL.match(text)
    if match is None:
        return _folder(text)
    protocol, rest = match[1].lower(), text[match.end() :]
    if protocol not in PROTOCOLS:
        valid = [f"{name}:{form}" for name, form in PROTOCOLS.items()]
        raise UnknownNameError("protocol of a location", protocol[:20], valid)
    if protocol == "file":
        return _folder(rest.removeprefix("//"))
    if not rest.startswith("//"):
        raise _refused(protocol, "lacks '//'")
    return _hub(rest[2:]) if protocol == "hf" else _address(protocol, rest[2:])


def _folder(text: str) -> Location:
    if not text:
        raise _refused("file", "names no folder")
    return Location("file", str(Path(text).expanduser().absolute()))


def _address(protocol: str, rest: str) -> Location:
    if "@" in rest:
        raise _refused(protocol, "holds '@', as a URL with a user and a password does")
    if "?" in rest or "#" in rest:
        raise _refused(protocol, "has a query or a fragment, as a signed URL has")
    host, _, folder = rest.rstrip("/").partition("/")
    if not (_HOST if protocol.startswith("http") else _BUCKET).fullmatch(host):
        raise _refused(protocol, "names no host or bucket that can be one")
    segments = folder.split("/") if folder else []
    if any(not _SEGMENT.fullmatch(segment) or segment in (".", "..") for segment in segments):
        raise _refused(protocol, "has a part that is empty, climbs, or holds a sign that means something else there")
    return Location(protocol, "/".join([host, *segments]))


def _hub(rest: str) -> Location:
    match = _HUB.fullmatch(rest.rstrip("/"))
    if match is None or ".." in rest:
        raise _refused("hf", "names no dataset repository")
    return Location("hf", match["repo"], match["revision"] or "")


def _refused(protocol: str, problem: str) -> UsageError:
    return UsageError(
        f"the {protocol}: location {problem}",
        remedy=f"Write {protocol}:{PROTOCOLS[protocol]}; credentials come from the environment, see docs/sharing.md",
    )
