"""What every storage of bundles can do."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import BundleError, StorageError
from abs_core.http import longest_transfer
from abs_core.text_files import foreign_content

__all__ = [
    "BLOCK",
    "HEAD_BYTES",
    "MAX_NAMES",
    "Blob",
    "EditableStorage",
    "ListedFile",
    "Storage",
    "explain_alteration",
    "fetch",
    "first_line",
]

#: Bytes that are read at once.
BLOCK = 1024 * 1024

#: Names that one folder may have.
MAX_NAMES = 100_000


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
