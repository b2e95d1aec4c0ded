"""What every place for bundles can do, where things lie in it, and how much is taken from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from abs_core.errors import BundleError, StorageError

__all__ = [
    "BLOCK",
    "MAX_NAMES",
    "Piece",
    "Remote",
    "fault_of",
    "fetch",
    "manifest_path",
    "object_path",
    "rejected_object",
    "status_of",
]

#: Bytes that are read at once.
BLOCK = 1024 * 1024
#: Names that one folder may have.
MAX_NAMES = 100_000

_PATIENCE = 60.0  # seconds
_SLOWEST = 20_000  # bytes per second

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


@dataclass(frozen=True)
class Piece:
    """A file that goes to a remote: where it goes, where it is, and the digest of its bytes."""

    target: str
    file: Path
    digest: str


class Remote(Protocol):
    """A place with the layout of a store. Paths are relative to it, with ``/``."""

    @property
    def address(self) -> str:
        """Where it is, for messages and records: without secrets, and with the commit where there is one."""

    def names(self, folder: str) -> Sequence[str]:
        """The names right in a folder, at most ``MAX_NAMES``, in any order; none if there is no such folder.

        Raises:
            StorageError: it cannot be read. UsageError: it cannot be listed.
        """

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        """The bytes of a file in blocks of at most a few ``BLOCK``, as they come.

        Raises:
            FileNotFoundError: there is no such file. StorageError: it cannot be read.
        """

    def check_writable(self) -> None:
        """Prove that ``publish`` can keep its word here.

        Raises:
            UsageError: it is not a place to write to. StorageError: the proof failed.
        """

    def publish(self, pieces: Sequence[Piece], path: str, data: bytes) -> bool:
        """Put files that are not there yet, and then, only if there is none, a small file.

        Args:
            pieces: files whose targets can only mean their bytes.
            path: of the small file.
            data: its bytes.

        Returns:
            Whether the small file was created; False if there was one before, whatever it holds.

        Raises:
            StorageError: it cannot be written.
        """


def manifest_path(name: str, version: str, suffix: str = ".json") -> str:
    """Where the manifest of a version is, or with ``.yank`` its yank."""
    return f"versions/{name}/{version}{suffix}"


def object_path(digest: str) -> str:
    """Where the bytes with a digest are."""
    kind, _, hexadecimal = digest.partition(":")
    return f"objects/{kind}/{hexadecimal[:2]}/{hexadecimal}.jsonl"


def rejected_object(digest: str) -> str:
    """Where the rejected completions beside the bundle with a digest are."""
    return object_path(digest).removesuffix(".jsonl") + ".rejected.jsonl"


def fetch(remote: Remote, path: str, take: Callable[[bytes], object], limit: int) -> int:
    """Hand the bytes of a file of a remote to ``take``, block by block; their number.

    Raises:
        FileNotFoundError: there is no such file.
        BundleError: it has more than ``limit`` bytes; no more than these were taken.
        StorageError: it cannot be read, or comes slower than 20 kB/s after the first minute.
    """
    deadline = time.monotonic() + _PATIENCE + limit / _SLOWEST
    total = 0
    with closing(remote.blocks(path)) as blocks:
        for block in blocks:
            total += len(block)
            if total > limit:
                raise BundleError(
                    f"{path} in {remote.address} has more than the {limit} bytes that it may have",
                    remedy="Do not use this place, or tell whoever keeps it",
                )
            if time.monotonic() > deadline:
                raise StorageError(f"{path} comes too slowly from {remote.address}", remedy="Try again later")
            take(block)
    return total


def fault_of(error: Exception, doing: str, address: str) -> StorageError:
    """An error of a client library in our words: never in its own, which may hold a signed URL or a header.

    Args:
        error: what the library raised.
        doing: continuing "cannot ...": "read", "write".
        address: of the remote.
    """
    chain = [error, *(one for one in (error.__cause__, error.__context__) if one is not None)]
    kinds = [kind.__name__ for one in chain for kind in type(one).__mro__]
    reason, remedy = next(
        (_REASONS[kind] for kind in kinds if kind in _REASONS),
        (f"the client reports {type(error).__name__}", "Check the address, the connection and the credentials"),
    )
    status = status_of(error)
    return StorageError(f"cannot {doing} {address}: {reason}{f' (HTTP {status})' if status else ''}", remedy=remedy)


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error of a client library, or what caused it, carries; None if there is none."""
    chain = (error, error.__cause__, error.__context__)
    return next((code for one in chain if one is not None and (code := _status(one)) is not None), None)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        code = getattr(response, "status_code", None) or getattr(error, "code", None) or getattr(error, "status", None)
    return code if isinstance(code, int) and 100 <= code < 600 else None
