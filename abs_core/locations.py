"""Locations of what is shared: folders, buckets, web servers, repositories of the Hugging Face hub; without secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import UnknownNameError, UsageError

__all__ = ["PROTOCOLS", "Location", "is_address", "parse_location"]

#: protocol -> what is written after it
PROTOCOLS = {
    "file": "//FOLDER (or a path alone)",
    "s3": "//BUCKET/FOLDER",
    "gs": "//BUCKET/FOLDER",
    "http": "//HOST/FOLDER (to pull from)",
    "https": "//HOST/FOLDER (to pull from)",
    "hf": "//datasets/OWNER/NAME, then /FOLDER and @REVISION if need be",
}

_SECRETS = "Credentials come from the environment, see docs/sharing.md"

# as AWS, the Hugging Face hub, GitHub and GitLab make them, and JSON web tokens
_TOKEN = re.compile(
    r"AKIA[0-9A-Z]{16}|hf_\w{30}|gh[a-z]_\w{30}|github_pat_\w{30}|glpat-[\w-]{20}|eyJ[\w-]{10,}\.eyJ[\w-]{10}"
)

# Two letters at least: "C:" is a drive.
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+._-]+):")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9_.=+,~%-]{1,200}")

_HUB = re.compile(
    r"datasets/(?P<repo>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})"
    r"(?P<folder>(?:/[A-Za-z0-9_.=+,~-]{1,200}){0,20})"
    # a slash in the name of a branch is quoted, as the hub itself wants it; only its own references need not
    r"(?:@(?P<revision>refs/(?:pr|convert)/[A-Za-z0-9_.-]{1,99}|[A-Za-z0-9](?:[A-Za-z0-9_.-]|%2[Ff]){0,99}))?"
)


@dataclass(frozen=True)
class Location:
    """A place for bundles.

    Args:
        protocol: a key of ``PROTOCOLS``.
        path: a folder; ``bucket/folder``; ``host/folder``; for hf ``OWNER/NAME``. Without a final slash.
        revision: for hf a branch, a tag or a commit; else empty.
        folder: for hf the one in the repository, without slashes around it; else empty.
    """

    protocol: str
    path: str
    revision: str = ""
    folder: str = ""

    def __str__(self) -> str:
        if self.protocol == "file":
            return self.path
        if self.protocol == "hf":
            return self.at_revision(self.revision)
        return f"{self.protocol}://{self.path}"

    def at_revision(self, revision: str) -> str:
        """Of hf: the same place at another revision; empty for none."""
        folder = f"/{self.folder}" if self.folder else ""
        quoted = revision if revision.startswith("refs/") else revision.replace("/", "%2F")
        return f"hf://datasets/{self.path}{folder}" + (f"@{quoted}" if quoted else "")


def is_address(text: str) -> bool:
    """Whether a text is the address of a place that is no folder, such as ``s3://team/cache``."""
    return "://" in text or "::" in text


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
    if _TOKEN.search(rest):
        raise UsageError("the location holds what looks like an access token", remedy=_SECRETS)
    if protocol not in PROTOCOLS:
        valid = [f"{name}:{form}" for name, form in PROTOCOLS.items()]
        raise UnknownNameError("protocol", protocol[:20], valid)
    if protocol == "file":
        if rest.startswith("//") and "@" in rest[2:].partition("/")[0]:
            raise _refused(protocol, "holds '@', as a URL with a user and a password does")
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
    if match is None or ".." in rest or "/./" in rest:
        raise _refused("hf", "names no dataset repository, or has its folder after the revision")
    revision = (match["revision"] or "").replace("%2f", "%2F").replace("%2F", "/")
    return Location("hf", match["repo"], revision, match["folder"].strip("/"))


def _refused(protocol: str, problem: str) -> UsageError:
    return UsageError(
        f"the {protocol}: location {problem}",
        remedy=f"Write {protocol}:{PROTOCOLS[protocol]}; {_SECRETS[0].lower()}{_SECRETS[1:]}",
    )
