"""Locations of bundles, what every storage of them can do, and its client's errors in our words."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from abs_core.errors import BundleError, StorageError, UnknownNameError, UsageError
from abs_core.http import longest_transfer, retry_after
from abs_core.text_files import foreign_content

__all__ = [
    "BLOCK",
    "HEAD_BYTES",
    "MAX_NAMES",
    "PROTOCOLS",
    "Blob",
    "EditableStorage",
    "ListedFile",
    "Location",
    "Storage",
    "code_of",
    "explain_alteration",
    "fetch",
    "first_line",
    "may_pass",
    "parse_location",
    "problem_of",
    "retried",
    "status_of",
]

T = TypeVar("T")

#: Bytes that are read at once.
BLOCK = 1024 * 1024

#: Names that one folder may have.
MAX_NAMES = 100_000

# What a client library calls it -> (what it is called here, what to do). Its own words may hold a signed URL.
_REASONS = {
    "PermissionError": ("access was refused", "Check the credentials and rights, see docs/sharing.md"),
    "NoCredentialsError": ("no credentials were found", "Set them as docs/sharing.md says"),
    "FileNotFoundError": ("there is no such bucket", "Create it, or check its name"),
    "RepositoryNotFoundError": ("there is no such repository, or not for you", "Create it on the hub, or log in there"),
    "RevisionNotFoundError": ("there is no such revision", "Name a branch, a tag or a commit of the repository"),
    "TimeoutError": ("it did not answer in time", "Try again, or check the connection"),
    "TimeoutException": ("it did not answer in time", "Try again, or check the connection"),
    "ConnectTimeoutError": ("it did not answer in time", "Try again, or check the connection"),
    "EndpointConnectionError": ("it cannot be reached", "Check the address and the connection"),
    "ConnectionError": ("it cannot be reached", "Check the address and the connection"),
    "ConnectError": ("it cannot be reached", "Check the address and the connection"),
    "ClientConnectorError": ("it cannot be reached", "Check the address and the connection"),
    "OfflineModeIsEnabled": ("HF_HUB_OFFLINE forbids it", "Unset HF_HUB_OFFLINE"),
}

_REGION_REMEDY = "Set AWS_DEFAULT_REGION to the region of the bucket"
_KEY_REMEDY = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, see docs/sharing.md"
_BUSY = ("it is busy", "Try again later")

#: of S3, by its own names; the address of a bucket's region is told in a header
_CODES = {
    "AccessDenied": ("access was refused", "Check the credentials and rights, see docs/sharing.md"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION_REMEDY),
    "ExpiredToken": ("the credentials have expired", "Get new ones, such as with `aws sso login`"),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION_REMEDY),
    "InternalError": ("it failed", "Try again later"),
    "InvalidAccessKeyId": ("the access key does not exist there", _KEY_REMEDY),
    "InvalidToken": ("the session token is not valid there", "Get new credentials, or unset AWS_SESSION_TOKEN"),
    "NoSuchBucket": _REASONS["FileNotFoundError"],
    "PermanentRedirect": ("the bucket is in another region", _REGION_REMEDY),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "Set it"),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", _KEY_REMEDY),
    "SlowDown": _BUSY,
    "TokenRefreshRequired": ("the credentials have expired", "Get new ones, such as with `aws sso login`"),
}

_STATUSES = {
    301: ("it is elsewhere", _REGION_REMEDY),
    401: ("access was refused", "Check the credentials, see docs/sharing.md"),
    403: ("access was refused", "Check the credentials and rights, see docs/sharing.md"),
    429: ("it asks for fewer requests", "Try again later, or log in: a token raises the limit"),
    **dict.fromkeys((500, 502, 503, 504), ("it failed", "Try again later")),
}

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9.]{2,60}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,20}){1,4}")

# seconds before the second, third and fourth attempt, and the longest that a service may ask for
_PAUSES = (0.5, 2.0, 8.0)
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Blob:
    """A large file to be published: where it goes, where it is on this machine, and the digest of its bytes."""

    path: str
    file: Path
    digest: str


@dataclass(frozen=True)
class ListedFile:
    """A file in a storage.

    Args:
        path: relative to the storage.
        size: in bytes.
        modified: when it was written last, in seconds since 1970; None where the storage does not say it.
    """

    path: str
    size: int
    modified: float | None


class Storage(ABC):
    """A place with files for a ``Repository``. Paths are relative to it, with ``/``.

    Attributes:
        address: where it is, for messages and records: without secrets, and with the commit where there is one.
        root: its folder, if it is one on this machine that only we write, so that its files are read where they are;
            None: others write there as well, and nothing that is read there is trusted until it has been checked.
        keeps_deleted: what stays of files that are deleted there, continuing "the bytes stay "; empty if nothing does.
    """

    address: str
    root: Path | None = None
    keeps_deleted = ""

    @abstractmethod
    def names(self, folder: str) -> Sequence[str]:
        """The names directly in a folder, at most ``MAX_NAMES``, in any order; none if there is no such folder.

        Raises:
            StorageError: it cannot be read. UsageError: it cannot be listed.
        """

    @abstractmethod
    def blocks(self, path: str) -> Generator[bytes, None, None]:
        """The bytes of a file in blocks of at most a few ``BLOCK``, as they come.

        Raises:
            FileNotFoundError: there is no such file. StorageError: it cannot be read.
        """

    @abstractmethod
    def check_writable(self) -> None:
        """Prove that ``publish`` can keep its promise here.

        Raises:
            UsageError: nothing can be written there. StorageError: the proof failed.
        """

    @abstractmethod
    def publish(self, blobs: Sequence[Blob], path: str, data: bytes) -> bool:
        """Write files that are not there yet, and then, only if there is none, a small file.

        Args:
            blobs: files whose paths stand for their bytes.
            path: of the small file.
            data: its bytes.

        Returns:
            Whether the small file was created; False if there was one before, whatever it holds.

        Raises:
            StorageError: it cannot be written.
        """

    @abstractmethod
    def files(self, folder: str) -> Sequence[ListedFile]:
        """The files below a folder, at any depth, in any order; none if there is no such folder.

        Raises:
            StorageError: it cannot be read. UsageError: it cannot be listed.
        """

    @abstractmethod
    def restore(self, blobs: Sequence[Blob]) -> None:
        """Write files whose paths stand for their bytes, whatever is there.

        Raises:
            StorageError: one cannot be written. UsageError: nothing can.
        """

    @abstractmethod
    def delete(self, files: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """Remove files, of those that were listed here only the ones that nobody wrote since.

        Returns:
            What is gone.

        Raises:
            StorageError: one cannot be removed. UsageError: nothing can.
        """


class EditableStorage(Storage):
    """A storage whose files can also be replaced and removed."""

    @abstractmethod
    def replace(self, path: str, data: bytes) -> None:
        """Write a small file, whether there is one or not.

        Raises:
            StorageError: it cannot be written.
        """

    @abstractmethod
    def remove(self, path: str, blob_paths: Sequence[str] = ()) -> bool:
        """Remove a small file, and then large ones that only it named, unless it is published again meanwhile.

        Returns:
            Whether there was such a small file.

        Raises:
            StorageError: a file cannot be removed.
        """


def fetch(storage: Storage, path: str, take: Callable[[bytes], object], limit: int) -> int:
    """Hand the bytes of a file to ``take``, block by block; their number.

    Raises:
        FileNotFoundError: there is no such file.
        BundleError: it has more than ``limit`` bytes; no more than these were taken.
        StorageError: it cannot be read, or comes slower than 20 kB/s after the first minute.
    """
    deadline = time.monotonic() + longest_transfer(limit)
    total = 0
    with closing(storage.blocks(path)) as blocks:
        for block in blocks:
            total += len(block)
            if total > limit:
                take(block[: limit - total])
                raise BundleError(
                    f"{storage.address}/{path} has more than the {limit} bytes that it may have",
                    remedy="Do not use this place, or tell whoever maintains it",
                )
            if time.monotonic() > deadline:
                raise StorageError(f"{storage.address}/{path} comes too slowly", remedy="Try again later")
            take(block)
    return total


def first_line(storage: Storage, path: str, limit: int) -> bytes:
    """The first line of a file, without its line feed, or what there is of it within ``limit`` bytes.

    Raises:
        StorageError: the file does not exist or cannot be read.
    """
    line = bytearray()
    try:
        with closing(storage.blocks(path)) as blocks:
            for block in blocks:
                line += block
                if b"\n" in block or len(line) > limit:
                    break
    except FileNotFoundError:
        raise StorageError(f"{storage.address} has no {path}", remedy="Push the bundle again") from None
    return bytes(line.partition(b"\n")[0][:limit])


#: Of a file that is not the one that its manifest names: enough to see what it is.
HEAD_BYTES = 1024 * 1024


def explain_alteration(head: bytes) -> tuple[str, str]:
    """What became of a file, as far as its beginning shows it, and the remedy."""
    foreign = foreign_content(head)
    if foreign is not None:
        return f": it is {foreign[0]}", "Tell whoever maintains this place to put the files themselves there"
    if b"\r\n" in head:
        return (
            ": its lines end in CR LF, as Git writes them on Windows",
            "Tell whoever maintains this place to put the line `*.jsonl -text` into .gitattributes and add the files "
            "again",
        )
    return "", "Try again; if that does not help, tell whoever maintains this place"


def retried(call: Callable[[], T]) -> T:
    """The result of a request to a service, asked again where its failure may pass: 408, 425, 429, 5xx.

    Up to three more times, after a pause that grows; one that the service asks for is believed up to a minute.

    Args:
        call: makes the request; it must do no harm to make it twice.
    """
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if not may_pass(error):
                raise
            wait = _wanted_pause(error)
            if wait > _LONGEST_PAUSE:
                raise
            time.sleep(max(wait, pause))
    return call()


def may_pass(error: Exception) -> bool:
    """Whether a service failed in a way in which it may not fail the next time."""
    status = status_of(error)
    return status is not None and (status in (408, 425, 429) or status >= 500)


def _wanted_pause(error: Exception) -> float:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return (retry_after(headers, datetime.now(UTC)) if isinstance(headers, Mapping) else None) or 0.0


def problem_of(error: Exception, doing: str, address: str) -> StorageError:
    """An error of a client library in our words: never in its own, which may hold a signed URL or a header.

    Args:
        error: what the library raised.
        doing: continuing "cannot ...": "read", "write".
        address: of the storage.
    """
    kinds = [kind.__name__ for link in _chain(error) for kind in type(link).__mro__]
    code, status = code_of(error), status_of(error)
    reason, remedy = (
        _CODES.get(code)
        or next((_REASONS[kind] for kind in kinds if kind in _REASONS), None)
        or _STATUSES.get(status or 0)
        or (f"the client reports {type(error).__name__}", "Check the address, the connection and the credentials")
    )
    region = _region_of(error)
    if region and status in (301, 307, 400):
        reason, remedy = f"the bucket is in the region {region}", f"Set AWS_DEFAULT_REGION={region}"
    said = ", ".join([*([code] if code else []), *([f"HTTP {status}"] if status else [])])
    return StorageError(f"cannot {doing} {address}: {reason}{f' ({said})' if said else ''}", remedy=remedy)


def code_of(error: Exception) -> str:
    """The service's own name of an error of S3, such as ``SlowDown``; empty where there is none."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return ""


def _region_of(error: Exception) -> str:
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, Mapping):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region", "")
            if _REGION.fullmatch(region):
                return str(region)
    return ""


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it; at most a few, since clients wrap theirs once or twice."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(links) < 5:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error of a client library, or what caused it, carries; None if there is none."""
    return next((code for link in _chain(error) if (code := _status(link)) is not None), None)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        code = getattr(response, "status_code", None) or getattr(error, "code", None) or getattr(error, "status", None)
    return code if isinstance(code, int) and 100 <= code < 600 else None


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
